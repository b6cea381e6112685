//! `cargo xtask run`

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::setup::{self, Purpose};
use crate::{build, demo, workspace};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on to whyrefused; without any it explains live
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Run)?;
    if arguments.arguments.is_empty() && !nginx_is_running()? && wants_demonstration()? {
        return demo::run(&demo::Arguments::default());
    }
    build::release()?;
    workspace::replace_by(Command::new(workspace::binary()).args(&arguments.arguments))
}

fn nginx_is_running() -> Result<bool> {
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let title = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        if is_master(&title) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// nginx and its derivatives name their master so (`ngx_setproctitle` in
/// `ngx_master_process_cycle`).
fn is_master(title: &[u8]) -> bool {
    title.starts_with(b"nginx: master") || title.starts_with(b"angie: master")
}

fn wants_demonstration() -> Result<bool> {
    eprintln!("No nginx is running here.");
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        eprintln!(
            "Here is the demonstration instead: an nginx in namespaces of its own. Packages that it \
            uses and that are missing get installed first; the service of a new nginx is not started."
        );
        return Ok(true);
    }
    eprintln!(
        "There is a demonstration, an nginx in namespaces of its own. Packages that it uses and that \
        are missing get installed first; the service of a new nginx is not started."
    );
    eprint!("Show it? Otherwise this waits for an nginx. [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::is_master;

    #[test]
    fn a_master_is_known_by_its_title() {
        assert!(is_master(b"nginx: master process /usr/sbin/nginx\0"));
        assert!(is_master(b"angie: master process angie -c x\0"));
        assert!(!is_master(b"nginx: worker process\0"));
        assert!(!is_master(b"less\0nginx: master\0"));
        assert!(!is_master(b""));
    }
}
