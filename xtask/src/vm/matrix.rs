//! The guests of one run: what they share, and one boot of each.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result};

use super::guest::Guest;
use super::kernel::{self, Bootable, Kernel};
use super::payload::Payload;
use super::records::Records;
use super::results::{Results, Transcript};
use super::selection::{self, Wanted};
use super::{root, side_by_side, table};
use crate::archive::{self, Archive};
use crate::workspace;

/// What all kernels share.
pub struct Matrix {
    archive: Archive,
    offered: Vec<Kernel>,
    folder: PathBuf,
    root: PathBuf,
    payload: Payload,
    revision: String,
    day: String,
}

/// A kernel that is ready to boot, and what runs on it.
pub struct Job {
    wanted: Wanted,
    kernel: Kernel,
    bootable: Bootable,
}

/// A kernel that cannot be had.
pub struct Unready {
    pub series: String,
    pub reason: Error,
}

impl Matrix {
    /// Makes what is not there yet below `folder`, and builds the tests.
    ///
    /// # Errors
    ///
    /// Debian's packages cannot be had, or something does not compile.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let archive = Archive::open(&folder.join("apt"), &archive::all_sources(), "amd64")?;
        let offered = kernel::offered(&archive)?;
        Ok(Self {
            root: root::prepare(&archive, folder)?,
            payload: Payload::build(env::var_os("WHYREFUSED_BIN").map(PathBuf::from))?,
            revision: revision(),
            day: said_by("date", &["--utc", "+%Y-%m-%d"])?,
            archive,
            offered,
            folder: folder.to_owned(),
        })
    }

    /// The kernels to boot, each once, and those that cannot be had.
    pub fn jobs(&self, wanted: Vec<Wanted>) -> (Vec<Job>, Vec<Unready>) {
        let mut jobs: Vec<Job> = Vec::new();
        let mut unready = Vec::new();
        for wanted in wanted {
            let series = wanted.series.clone();
            match self.job(wanted) {
                Ok(job) if jobs.iter().any(|other| other.kernel == job.kernel) => {}
                Ok(job) => jobs.push(job),
                Err(reason) => unready.push(Unready { series, reason }),
            }
        }
        (jobs, unready)
    }

    /// Boots them, several at once, says how it goes, and keeps what each came to, if in `records`.
    ///
    /// # Errors
    ///
    /// The results cannot be kept.
    pub fn run(&self, jobs: &[Job], records: Option<&Records>) -> Result<Vec<Results>> {
        let at_once = side_by_side::guests_at_once();
        println!("{} guests, {at_once} at once", jobs.len());
        let mut done = Vec::new();
        let mut kept = Ok(());
        side_by_side::run(
            jobs,
            at_once,
            |job| self.boot(job),
            |results| {
                println!("{}: {}", results.kernel, results.total());
                if let (Some(records), Ok(())) = (records, &kept) {
                    kept = records.keep(&results);
                }
                done.push(results);
            },
        );
        done.sort_by_cached_key(|results: &Results| kernel::numbers(&results.version));
        kept.map(|()| done)
    }

    /// Whether there are results of the newest kernel of every series.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn everywhere(&self, records: &Records) -> Result<bool> {
        let kept = records.read()?;
        Ok(selection::series().all(|series| {
            kernel::newest(&self.offered, series)
                .is_ok_and(|newest| kept.iter().any(|results| results.kernel == newest.release))
        }))
    }

    /// Writes the table of all that is kept.
    ///
    /// # Errors
    ///
    /// The tool does not say which verdicts there are, or the file cannot be written.
    pub fn write_table(&self, records: &Records, path: &Path) -> Result<()> {
        let text = table::text(&records.read()?, &self.payload.verdicts()?);
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("the table is in {}", path.display());
        Ok(())
    }

    fn job(&self, wanted: Wanted) -> Result<Job> {
        let kernel = kernel::newest(&self.offered, &wanted.series)?.clone();
        let bootable = kernel.prepare(&self.archive, &self.folder.join("kernels"))?;
        Ok(Job {
            wanted,
            kernel,
            bootable,
        })
    }

    fn boot(&self, job: &Job) -> Results {
        let mut transcript = Transcript::default();
        let started = Instant::now();
        let ended = self.boot_into(job, started, &mut transcript);
        let mut results = self.results(job, transcript, started.elapsed());
        results.broken = match ended {
            Ok(0) => None,
            Ok(_) if results.total().failed > 0 => None,
            Ok(code) => Some(format!("exit code {code}, though no test failed")),
            Err(error) => Some(format!("{error:#}")),
        };
        results
    }

    /// Returns the exit code of the payload.
    fn boot_into(&self, job: &Job, started: Instant, transcript: &mut Transcript) -> Result<i32> {
        let release = &job.kernel.release;
        let payload = self.folder.join(format!("payload-{release}.img"));
        self.payload.image(&job.wanted.tests, &payload)?;
        let logs = self.folder.join("logs");
        fs::create_dir_all(&logs)?;
        let guest = Guest {
            bootable: &job.bootable,
            root: &self.root,
            payload: &payload,
            console: logs.join(format!("{release}.console")),
            deadline: job.wanted.deadline,
        };
        let log = logs.join(format!("{release}.log"));
        let mut log =
            fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let code = guest.run(|line| {
            let _ = writeln!(log, "{:7.1} {line}", started.elapsed().as_secs_f32());
            if transcript.take(line) {
                println!("{release}: {line}");
            }
        });
        fs::remove_file(&payload)
            .with_context(|| format!("cannot remove {}", payload.display()))?;
        code
    }

    fn results(&self, job: &Job, transcript: Transcript, took: Duration) -> Results {
        Results {
            kernel: job.kernel.release.clone(),
            version: job.kernel.version.clone(),
            revision: self.revision.clone(),
            day: self.day.clone(),
            seconds: took.as_secs(),
            chosen: job.wanted.chosen.to_owned(),
            broken: None,
            seen: transcript.into_seen(),
        }
    }
}

/// The commit, and whether more than the table was changed since.
fn revision() -> String {
    let said = |arguments: &[&str]| said_by("git", arguments).unwrap_or_default();
    let commit = said(&["rev-parse", "--short", "HEAD"]);
    if commit.is_empty() {
        return "unknown".to_owned();
    }
    let changed = said(&["status", "--porcelain", "--", ".", ":!KERNELS.md"]);
    match changed.is_empty() {
        true => commit,
        false => format!("{commit} and changes"),
    }
}

fn said_by(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .current_dir(workspace::root())
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
