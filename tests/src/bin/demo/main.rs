//! A real nginx with broken upstreams, explained live. Nothing of it is left behind.

mod narration;
mod situations;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use whyrefused_tests::host::Host;
use whyrefused_tests::nginx::{Config, Nginx, Upstream};

use self::narration::Narration;
use self::situations::{SITUATIONS, Situation, Stage};

#[derive(Parser)]
#[command(about = "Break a real nginx's upstreams one by one and let whyrefused explain each")]
struct Arguments {
    /// The program to demonstrate.
    whyrefused: PathBuf,
}

fn main() -> Result<()> {
    let host = Host::with(&Arguments::parse().whyrefused)?;
    let mut stage = Stage::set()?;
    let upstreams = SITUATIONS
        .iter()
        .map(|situation| Upstream::new(situation.name, situation.address))
        .collect();
    let config = Config {
        level: "error",
        ..Config::of(upstreams)
    }
    .connect_timeout("4s");
    let nginx = Nginx::start(&host, &stage.web, &config)?;
    let mut narration = Narration::begin(&host, nginx.pid())?;
    let mut shown = 0;
    for situation in SITUATIONS {
        shown += u32::from(show(situation, &mut stage, &nginx, &mut narration)?);
    }
    narration.end(shown)?;
    ensure!(shown > 0, "nothing could be shown on this host");
    Ok(())
}

/// Breaks one upstream, sends one request to it and lets it be explained. Returns false where
/// this host cannot show it.
fn show(
    situation: &Situation,
    stage: &mut Stage,
    nginx: &Nginx,
    narration: &mut Narration,
) -> Result<bool> {
    narration.caption(situation)?;
    let props = match (situation.prepare)(stage, nginx) {
        Ok(props) => props,
        Err(error) => {
            narration.cannot(&error)?;
            return Ok(false);
        }
    };
    let before = nginx.errors()?.len();
    let response = nginx.get(&stage.web, situation.name)?;
    let errors = nginx.errors()?;
    narration.nginx(response.status, errors.get(before).map(String::as_str))?;
    narration.relay(Duration::from_millis(250))?;
    drop(props);
    Ok(true)
}
