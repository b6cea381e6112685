//! `cargo xtask test`

mod report;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::setup::{self, Purpose};
use crate::{build, vm, workspace};
use report::Report;
pub use report::Total;

/// The live tests start an nginx each and time what it does: more of them at once would
/// disturb each other.
const MOST_THREADS: usize = 4;

#[derive(clap::Args)]
pub struct Arguments {
    /// Leave out the other kernels, which run emulated after the tests on this one; naming tests
    /// does so, too
    #[arg(long, conflicts_with = "vm")]
    native: bool,
    /// Run the load test and the live tests on Debian's newest kernels of these series alone,
    /// emulated; without any, a selection on all; `all` for everything on all
    #[arg(long, value_name = "KERNEL", num_args = 0..)]
    vm: Option<Vec<String>>,
    /// Passed on to `cargo test`
    #[arg(
        value_name = "CARGO TEST ARGUMENTS",
        allow_hyphen_values = true,
        conflicts_with = "vm"
    )]
    cargo: Vec<OsString>,
    /// Passed on to the tests
    #[arg(value_name = "ARGUMENTS OF THE TESTS", last = true)]
    tests: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let total = if let Some(series) = &arguments.vm {
        vm::run(series, &arguments.tests)?
    } else {
        let mut total = native(arguments)?;
        if !arguments.native && arguments.cargo.is_empty() && arguments.tests.is_empty() {
            println!("this kernel: {total}");
            total += vm::run_core()?;
        }
        total
    };
    println!("{total}");
    if total.failed > 0 {
        bail!("not every test passed");
    }
    Ok(())
}

/// Runs the tests on this host.
fn native(arguments: &Arguments) -> Result<Total> {
    setup::ensure(Purpose::Test)?;
    build::release()?;

    let mut command = workspace::cargo("test");
    command
        .arg("--no-fail-fast")
        .args(&arguments.cargo)
        .env("WHYREFUSED_BIN", workspace::binary());
    if !names_packages(&arguments.cargo) {
        command.arg("--workspace");
    }
    // The output of tests that pass is where they say that they skipped something.
    command.args(["--", "--show-output"]).args(&arguments.tests);
    if !has_option(&arguments.tests, "--test-threads") {
        command.arg(format!("--test-threads={}", threads()));
    }

    let (report, succeeded) = follow(command)?;
    for (test, reason) in report.skipped() {
        println!("skipped: {test}: {reason}");
    }
    Ok(report.total(succeeded))
}

/// Runs the command, shows what it prints, and reads it. Tests say that they are skipped on
/// either of the streams. Returns whether the command succeeded, too.
fn follow(mut command: Command) -> Result<(Report, bool)> {
    if io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none() {
        // Cargo does not see the terminal behind our pipe.
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let report = Mutex::new(Report::default());
    let read = thread::scope(|scope| {
        let errors = child.stderr.take().map(|stream| {
            scope.spawn(|| {
                each_line(stream, |line| {
                    lock(&report).take_message(line);
                    eprintln!("{line}");
                })
            })
        });
        let output = child.stdout.take().map_or(Ok(()), |stream| {
            each_line(stream, |line| {
                if lock(&report).take_output(line) {
                    println!("{line}");
                }
            })
        });
        let errors = errors.map_or(Ok(Ok(())), |reader| reader.join());
        output.and(errors.unwrap_or(Ok(())))
    });
    read.context("cannot read what cargo test prints")?;
    let status = child.wait().context("cannot wait for cargo test")?;
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((report, status.success()))
}

fn each_line(stream: impl Read, mut each: impl FnMut(&str)) -> io::Result<()> {
    for line in BufReader::new(stream).split(b'\n') {
        each(&String::from_utf8_lossy(&line?));
    }
    Ok(())
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS))
}

fn names_packages(arguments: &[OsString]) -> bool {
    ["-p", "--package", "--workspace", "--all"]
        .iter()
        .any(|option| has_option(arguments, option))
}

/// Whether the option is there, alone or as `--option=value`.
fn has_option(arguments: &[OsString], option: &str) -> bool {
    arguments.iter().any(|argument| {
        argument == OsStr::new(option)
            || argument
                .to_str()
                .and_then(|argument| argument.strip_prefix(option))
                .is_some_and(|rest| rest.starts_with('='))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(words: &str) -> Option<Arguments> {
        let words = words.split_whitespace();
        Some(Alone::try_parse_from(words).ok()?.arguments)
    }

    #[test]
    fn kernels_take_names_of_tests_and_no_arguments_of_cargo() {
        let arguments = parsed("test --vm 6.1 7 -- firewalls::").expect("kernels and names");
        assert_eq!(
            arguments.vm.as_deref(),
            Some(&["6.1", "7"].map(str::to_owned)[..])
        );
        assert_eq!(arguments.tests, ["firewalls::"]);
        assert!(parsed("test --package xtask -- an_option").is_some());
        assert!(parsed("test --vm=6.1 --package xtask").is_none());
    }

    #[test]
    fn an_option_is_found_with_and_without_its_value_behind_an_equals_sign() {
        let arguments = ["--test-threads=2".into(), "-p".into(), "xtask".into()];
        assert!(has_option(&arguments, "--test-threads"));
        assert!(has_option(&arguments, "-p"));
        assert!(!has_option(&arguments, "--test"));
    }
}
