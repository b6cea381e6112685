//! `cargo xtask demo`

use std::ffi::OsString;

use anyhow::Result;

use crate::program;
use crate::setup::{self, Purpose};

#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Passed on to the demonstration
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    program::run("demo", &arguments.arguments)
}
