//! `cargo xtask build`

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::{cross, workspace};

#[derive(clap::Args)]
pub struct Arguments {
    /// Build for machines of this architecture instead
    #[arg(long, value_enum)]
    target: Option<Target>,
}

/// What can be built for from here.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Target {
    /// arm64, at target/aarch64-unknown-linux-gnu/release/whyrefused
    #[value(alias = "arm64", alias = cross::TARGET)]
    Aarch64,
}

/// Leaves the tool at `target/release/whyrefused`, or where its target says.
pub fn run(arguments: &Arguments) -> Result<()> {
    match arguments.target {
        None => {
            setup::ensure(Purpose::Build)?;
            release()
        }
        Some(Target::Aarch64) => {
            setup::ensure(Purpose::Cross)?;
            workspace::run(cross::build()?.arg("--release"))
        }
    }
}

/// Builds the tool where everything is set up.
pub fn release() -> Result<()> {
    workspace::run(workspace::cargo("build").args(["--release", "--package", "tracer-user"]))
}
