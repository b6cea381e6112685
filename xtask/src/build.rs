//! `cargo xtask build`

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::workspace;

/// Leaves the tool at `target/release/whyrefused`.
pub fn run() -> Result<()> {
    setup::ensure(Purpose::Build)?;
    release()
}

/// Builds the tool where everything is set up.
pub fn release() -> Result<()> {
    workspace::run(workspace::cargo("build").args(["--release", "--package", "tracer-user"]))
}
