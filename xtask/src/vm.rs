//! The load test and the live tests on stock kernels of Debian, as guests of an emulator. What it
//! downloads and makes lies below `target/vm`, each thing named after its content:
//!
//! - Debian's indexes, by an apt with folders of its own: `../archive.rs`
//! - the newest kernel of a series, unpacked, in `kernels/RELEASE_VERSION-…/`: `kernel.rs`,
//!   `vmlinux.rs`, `modules.rs`, `initramfs.rs`
//! - Debian with the programs of the tests, by mmdebstrap, as `root-….img`: `root.rs`, `image.rs`
//! - the tool and the test programs as they were built here, as `payload-RELEASE.img` for one
//!   boot: `payload.rs`
//! - which live tests run where: `selection.rs`
//! - several boots at once: `matrix.rs`, `side_by_side.rs`
//! - one boot: `guest.rs`, `flavour.rs`; there `init.sh`, then `payload.sh`, then the tests
//!   (`live.sh`), with all that is written in `logs/RELEASE.log` and `.console`
//! - what each test said, in `results/SERIES.json`: `results.rs`, `records.rs`
//! - and what that comes to, as `KERNELS.md`: `table.rs`
//!
//! A kernel boots once for its ordinary tests, and once more for each module of
//! `tests/live/mandatory/` that has tests to run (`flavour.rs`): with AppArmor, where a test loads
//! a profile for its nginx, and with SELinux enforcing Debian's policy, where nginx is `httpd_t`
//! (`payload.sh` loads the policy, `root.rs` labels the files, `guest.cil` is what the policy lacks
//! for an overlay). Such a guest has the audit log and runs no load test. Elsewhere these tests are
//! skipped aloud.
//!
//! The payload's output comes over the second serial port and ends with its exit code. A guest that
//! does not boot, or has not ended by its deadline, is ended, its console shown, and not started
//! again. A test that failed is run once more in the same boot, alone; if it passes then, summary
//! and table say so with the words of its failure. If many failed it was not the emulation, and
//! none is.
//!
//! For the table, tests print lines of JSON: each verdict that one asked for, and the means that
//! the trace used (`tests/src/tally.rs`). A run replaces the column of its kernel, and the column
//! says which commit and which tests it was; a run with arguments of the tests, or of a handful of
//! them with all tests, leaves the table alone.
//!
//! The root is the release of Debian that the tests are built on: its libc must not be older.
//! Deadlines of the laboratory are multiplied by `WHYREFUSED_TEST_PATIENCE`
//! (`tests/src/patience.rs`). A module that a test needs and the guest lacks goes to `WANTED` in
//! `modules.rs`, a package to `PACKAGES` in `root.rs`.

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
