//! `cargo xtask setup`: installs what is missing, and nothing else.

mod apt;
mod linker;
mod needs;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::toolchain;
use crate::workspace;

#[derive(clap::Args)]
pub struct Arguments {
    /// What is to be done afterwards
    #[arg(long = "for", value_enum, default_value_t = Purpose::Test)]
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// `cargo xtask build`
    Build,
    /// `cargo xtask run`: the same
    Run,
    /// `cargo xtask test --native` and `demo`: nginx, packet filters and the like, too
    Test,
    /// `cargo xtask bench`: a load generator, too
    Bench,
    /// `cargo xtask lint` and `build --target`: what builds for arm64, too
    Cross,
    /// Other kernels, of `cargo xtask test`: an emulator, and what makes images for it
    Guests,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    ensure(arguments.purpose)?;
    eprintln!("Everything is set up.");
    Ok(())
}

/// Installs what is missing. Where nothing is, that takes a moment only.
///
/// # Errors
///
/// Something is missing and cannot be installed from here; the message names all of it.
pub fn ensure(purpose: Purpose) -> Result<()> {
    let missing = needs::missing(purpose)?;
    if !missing.is_empty() {
        apt::install(&missing)?;
        // What is missing still is what the packages did not bring.
        let still = needs::missing(purpose)?;
        if !still.is_empty() {
            bail!(
                "{}",
                needs::describe(&still, "though their packages were installed")
            );
        }
    }
    let toolchain = toolchain::find_toolchain(needs::target())?;
    linker::ensure(workspace::root(), &toolchain)
}
