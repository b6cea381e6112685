//! What one does with this repository: `cargo xtask help` lists it.

mod archive;
mod bench;
mod build;
mod cross;
mod demo;
mod lint;
mod program;
mod run;
mod setup;
mod step;
mod test;
#[expect(dead_code, reason = "the build script of tracer-user uses the rest")]
#[path = "../../tracer-user/build/toolchain.rs"]
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, builds, runs and tests whyrefused
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: eBPF toolchain, linker, and the programs that the tests use
    Setup(setup::Arguments),
    /// Set up, and build target/release/whyrefused, or that of another architecture
    Build(build::Arguments),
    /// Set up, build, and explain the failures of the nginx on this host
    Run(run::Arguments),
    /// Set up, build, and show a real nginx with broken upstreams, in namespaces of its own
    Demo(demo::Arguments),
    /// Set up, build, and run every test
    Test(test::Arguments),
    /// Set up, build, and measure what the tool costs nginx
    Bench(bench::Arguments),
    /// Check formatting and clippy, warnings denied, and that it compiles for arm64
    Lint,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Build(arguments) => build::run(&arguments),
        Task::Run(arguments) => run::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Lint => lint::run_checks(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
