//! The command `whyrefused`.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use whyrefused::{
    cli::{Arguments, Command},
    doctor, explain, schema,
    sinks::{self, Written, stdout_is_terminal},
    terminal::Terminal,
    trace,
};

fn main() -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .format(|out, record| writeln!(out, "whyrefused: {}", record.args()))
        .init();
    match run(Arguments::parse().into_command()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("whyrefused: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<u8> {
    let terminal = Terminal::behind(&std::io::stdout());
    match command {
        Command::Trace(arguments) => trace::run(&arguments.into_settings(stdout_is_terminal())),
        Command::Doctor(arguments) => {
            let format = arguments.format;
            let examination = doctor::examine(arguments.kernel.btf.as_deref());
            print(&examination.text(format, &terminal))?;
            Ok(examination.exit_status())
        }
        Command::Explain(arguments) => {
            let page = match arguments.code {
                Some(code) => explain::shown(code, &terminal),
                None => explain::list(&terminal),
            };
            print(&page)
        }
        Command::Schema => print(&schema::text()),
    }
}

/// Prints a page; a reader that has seen enough is no failure.
fn print(page: &str) -> anyhow::Result<u8> {
    match sinks::print(page) {
        Written::Done | Written::PipeClosed => Ok(0),
        Written::Failed(reason) => anyhow::bail!("writing to standard output: {reason}"),
    }
}
