//! The load test and the live tests on stock kernels of Debian, as guests of an emulator. What it
//! downloads and makes lies below `target/vm`.

mod flavour;
mod guest;
mod image;
mod initramfs;
mod kernel;
mod matrix;
mod modules;
mod payload;
mod records;
mod requirements;
mod results;
mod root;
mod selection;
mod side_by_side;
mod table;
mod vmlinux;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Error, Result};

use crate::test::Total;
use crate::workspace;
use matrix::{Matrix, Unready};
use records::Records;
use results::Results;

/// `cargo xtask test --vm`: runs the tests on the newest kernel of each series that is named, and
/// writes `KERNELS.md`, unless `tests`, arguments of the live tests, choose some of them.
///
/// # Errors
///
/// Guests cannot be run here, or a kernel cannot be had.
pub fn run(named: &[String], tests: &[OsString]) -> Result<Total> {
    let folder = folder();
    requirements::ensure_met(&folder)?;
    let matrix = Matrix::prepare(&folder)?;
    let (jobs, unready) = matrix.jobs(selection::asked_for(named, tests));
    let records = Records::of(&folder);
    let all = tests.is_empty();
    let mut total = told(&matrix.run(&jobs, all.then_some(&records))?);
    for Unready { series, reason } in &unready {
        eprintln!("kernel {series}: {reason:#}");
        total.failed += 1;
    }
    if all {
        let complete = matrix.everywhere(&records)?;
        let place = match complete {
            true => workspace::root().join("KERNELS.md"),
            false => {
                println!("KERNELS.md stays as it is until every kernel has been run");
                folder.join("KERNELS.md")
            }
        };
        matrix.write_table(&records, &place)?;
    }
    Ok(total)
}

/// The load test and a handful of live tests on every kernel, as a part of `cargo xtask test`. A
/// kernel that this host cannot run is skipped. Nothing is kept for the table, for the columns of
/// `KERNELS.md` are of whole runs.
///
/// # Errors
///
/// Those of [`Matrix::run`]; what cannot be prepared is skipped.
pub fn run_core() -> Result<Total> {
    let folder = folder();
    let prepared = requirements::ensure_met(&folder).and_then(|()| Matrix::prepare(&folder));
    let matrix = match prepared {
        Ok(matrix) => matrix,
        Err(reason) => return Ok(skipped(selection::series(), &reason)),
    };
    let (jobs, unready) = matrix.jobs(selection::core());
    let mut total = told(&matrix.run(&jobs, None)?);
    for Unready { series, reason } in unready {
        total += skipped([series.as_str()], &reason);
    }
    Ok(total)
}

fn folder() -> PathBuf {
    workspace::target().join("vm")
}

/// Says that these kernels were skipped.
fn skipped<'s>(series: impl IntoIterator<Item = &'s str>, reason: &Error) -> Total {
    eprintln!("kernels are skipped: {reason:#}");
    let mut total = Total::default();
    for series in series {
        println!("skipped: kernel {series}: {reason}");
        total.skipped += 1;
    }
    total
}

/// Says what did not simply pass, and the sum of each kernel; returns that of all.
fn told(done: &[Results]) -> Total {
    let mut all = Total::default();
    for results in done {
        let kernel = &results.kernel;
        for (test, what, words) in results.remarkable() {
            println!("{kernel}: {test} {what}: {words}");
        }
        if let Some(broken) = &results.broken {
            println!("{kernel}: {broken}");
        }
        println!("{kernel}: {}", results.total());
        all += results.total();
    }
    all
}
