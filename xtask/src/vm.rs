//! The load test and the live tests on stock kernels of Debian, as guests of an emulator. What it
//! downloads and makes lies below `target/vm`.

mod archive;
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

use anyhow::{Result, bail};

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
    let done = matrix.run(&jobs);
    let mut total = told(&done);
    for Unready { series, reason } in &unready {
        eprintln!("kernel {series}: {reason:#}");
        total.failed += 1;
    }
    if tests.is_empty() {
        let records = Records::of(&folder);
        records.keep(&done)?;
        let complete = matrix.everywhere(&records)?;
        let place = match complete {
            true => workspace::root().join("KERNELS.md"),
            false => {
                println!("KERNELS.md stays as it is: it needs a run of every kernel");
                folder.join("KERNELS.md")
            }
        };
        matrix.write_table(&records, &place)?;
    }
    if done.is_empty() && unready.is_empty() {
        bail!("no kernel was named");
    }
    Ok(total)
}

/// The selection, as a part of `cargo xtask test`. A kernel that this host cannot run is skipped.
/// The table is written, and the work tree left as it is.
///
/// # Errors
///
/// The results cannot be written.
pub fn run_selection() -> Result<Total> {
    let folder = folder();
    let prepared = requirements::ensure_met(&folder).and_then(|()| Matrix::prepare(&folder));
    let matrix = match prepared {
        Ok(matrix) => matrix,
        Err(reason) => {
            eprintln!("guests cannot be run here: {reason:#}");
            return Ok(skipped(selection::series(), "guests cannot be run here"));
        }
    };
    let (jobs, unready) = matrix.jobs(selection::selection());
    let done = matrix.run(&jobs);
    let mut total = told(&done);
    for Unready { series, reason } in unready {
        total += skipped([series.as_str()], &format!("{reason:#}"));
    }
    let records = Records::of(&folder);
    records.keep(&done)?;
    matrix.write_table(&records, &folder.join("KERNELS.md"))?;
    Ok(total)
}

fn folder() -> PathBuf {
    workspace::target().join("vm")
}

/// Says that these kernels were skipped.
fn skipped<'s>(series: impl IntoIterator<Item = &'s str>, reason: &str) -> Total {
    let mut total = Total::default();
    for series in series {
        println!("skipped: kernel {series}: {}", reason.replace('\n', " "));
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
