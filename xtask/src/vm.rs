//! `cargo xtask test --vm`: the load test and the live tests on stock kernels of Debian, as
//! guests of an emulator. What it downloads and makes lies below `target/vm`.

mod guest;
mod image;
mod initramfs;
mod kernel;
mod modules;
mod payload;
mod results;
mod root;
mod table;
mod vmlinux;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::archive::{self, Archive};
use crate::setup::{self, Purpose};
use crate::workspace;
use guest::Guest;
use kernel::Kernel;
use payload::Payload;
use results::{Results, Transcript};

/// The series that are run unless others are named: those of Debian's releases, and the newest
/// of the last two majors. The live tests take twenty minutes on one of them: unless all is asked
/// for they run on the oldest kernel, which shows the least, and on the stable one.
const SERIES: [(&str, bool); 5] = [
    ("5.10", true),
    ("6.1", true),
    ("6.12", false),
    ("6", false),
    ("7", false),
];

/// How long a guest may take for the load test, and with the live tests.
const LOADING: Duration = Duration::from_secs(300);
const LIVE: Duration = Duration::from_secs(3600);

/// Runs the tests on the newest kernel of each series, and writes `KERNELS.md`. `tests` are
/// arguments of the live tests.
///
/// # Errors
///
/// A kernel cannot be had or does not boot, or a test fails on it.
pub fn run(series: &[String], tests: &[OsString]) -> Result<()> {
    setup::ensure(Purpose::Guests)?;
    let folder = workspace::target().join("vm");
    let archive = Archive::open(&folder.join("apt"), &archive::all_sources(), "amd64")?;
    let offered = kernel::offered(&archive)?;
    let mut kernels: Vec<(&Kernel, bool)> = Vec::new();
    for (name, live) in chosen(series) {
        let found = kernel::newest(&offered, &name)?;
        if !kernels.iter().any(|(kernel, _)| *kernel == found) {
            kernels.push((found, live));
        }
    }
    let run = Run {
        root: root::prepare(&archive, &folder)?,
        payload: Payload::build(env::var_os("WHYREFUSED_BIN").map(PathBuf::from))?,
        revision: revision()?,
        archive,
        folder,
    };
    let mut failed = Vec::new();
    for (kernel, live) in kernels {
        if let Err(error) = run.on(kernel, live.then_some(tests)) {
            eprintln!("{}: {error:#}", kernel.release);
            failed.push(kernel.release.as_str());
        }
        write_table(&run.folder)?;
    }
    if !failed.is_empty() {
        bail!("not everything passed on {}", failed.join(", "));
    }
    Ok(())
}

/// What all kernels share.
struct Run {
    archive: Archive,
    folder: PathBuf,
    root: PathBuf,
    payload: Payload,
    revision: String,
}

impl Run {
    /// Runs the load test and, with these arguments, the live tests.
    fn on(&self, kernel: &Kernel, tests: Option<&[OsString]>) -> Result<()> {
        let bootable = kernel.prepare(&self.archive, &self.folder.join("kernels"))?;
        let payload = self.folder.join(format!("payload-{}.img", kernel.release));
        self.payload.image(tests, &payload)?;
        let logs = self.folder.join("logs");
        fs::create_dir_all(&logs)?;
        let guest = Guest {
            bootable: &bootable,
            root: &self.root,
            payload: &payload,
            console: logs.join(format!("{}.console", kernel.release)),
            deadline: if tests.is_some() { LIVE } else { LOADING },
        };
        let log = logs.join(format!("{}.log", kernel.release));
        let mut log =
            fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut transcript = Transcript::default();
        let started = Instant::now();
        let code = guest.run(|line| {
            let _ = writeln!(log, "{:7.1} {line}", started.elapsed().as_secs_f32());
            if transcript.take(line) {
                println!("{}: {line}", kernel.release);
            }
        });
        fs::remove_file(&payload)
            .with_context(|| format!("cannot remove {}", payload.display()))?;
        self.keep(kernel, transcript, started.elapsed())?;
        match code? {
            0 => Ok(()),
            code => bail!(
                "exit code {code}; all that was said is in {}",
                logs.display()
            ),
        }
    }

    /// Keeps what was seen, also of a guest that had to be ended.
    fn keep(&self, kernel: &Kernel, transcript: Transcript, took: Duration) -> Result<()> {
        let results = Results {
            kernel: kernel.release.clone(),
            version: kernel.version.clone(),
            revision: self.revision.clone(),
            day: said_by("date", &["--utc", "+%Y-%m-%d"])?,
            seconds: took.as_secs(),
            means: transcript.means.clone(),
            tests: transcript.into_tests(),
        };
        let place = results_in(&self.folder);
        fs::create_dir_all(&place)?;
        let path = place.join(format!("{}.json", kernel.release));
        fs::write(&path, serde_json::to_vec_pretty(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The series that were named, and whether the live tests run on each.
fn chosen(series: &[String]) -> Vec<(String, bool)> {
    match series {
        [] => SERIES.map(|(name, live)| (name.to_owned(), live)).to_vec(),
        [one] if one == "all" => SERIES.map(|(name, _)| (name.to_owned(), true)).to_vec(),
        named => named.iter().map(|name| (name.clone(), true)).collect(),
    }
}

fn results_in(folder: &Path) -> PathBuf {
    folder.join("results")
}

/// Writes `KERNELS.md` with the last results of every kernel.
fn write_table(folder: &Path) -> Result<()> {
    let mut results: Vec<Results> = Vec::new();
    for entry in fs::read_dir(results_in(folder))? {
        let path = entry?.path();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // Those of an older version of this are left out.
        results.extend(serde_json::from_slice::<Results>(&text));
    }
    results.sort_by_cached_key(|one| kernel::numbers(&one.version));
    let path = workspace::root().join("KERNELS.md");
    fs::write(&path, table::text(&results))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The commit, and whether more than the table was changed since.
fn revision() -> Result<String> {
    let commit = said_by("git", &["rev-parse", "--short", "HEAD"])?;
    let changed = said_by("git", &["status", "--porcelain", "--", ".", ":!KERNELS.md"])?;
    Ok(match changed.is_empty() {
        true => commit,
        false => format!("{commit} and changes"),
    })
}

fn said_by(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .current_dir(workspace::root())
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
