//! `cargo xtask bench`

use std::ffi::OsString;

use anyhow::Result;

use crate::program;
use crate::setup::{self, Purpose};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on to the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Bench)?;
    program::run("bench", &arguments.arguments)
}
