//! Debian's archive as it is today: which packages it has, for any of its architectures.
//!
//! apt does the work in folders of its own, so that signatures and checksums are checked as on
//! any Debian, and the host's sources and packages stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::step;

/// The suite that the guests' programs come from: the one that the tests are written for.
pub const ROOT_SUITE: &str = "bookworm";

/// The suites that packages are taken from, and the archive that each lies in.
const SUITES: [(&str, &str); 7] = [
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", ROOT_SUITE),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie"),
    ("debian-security", "trixie-security"),
    ("debian", "trixie-backports"),
];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian's indexes in a folder of ours.
pub struct Archive {
    folder: PathBuf,
    /// As Debian calls it: `amd64`, `arm64`.
    architecture: &'static str,
}

/// A package as the index describes it: its fields by name.
pub type Record = BTreeMap<String, String>;

impl Archive {
    /// Brings the indexes of these sources up to date. Where that fails, those of last time serve.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn open(folder: &Path, sources: &str, architecture: &'static str) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(part);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        let archive = Self {
            folder: folder.to_owned(),
            architecture,
        };
        let list = archive.folder.join("sources.list");
        fs::write(&list, sources).with_context(|| format!("cannot write {}", list.display()))?;
        let mut update = archive.apt("apt-get");
        update.arg("update");
        if let Err(error) = step::run("reading Debian's indexes", update) {
            eprintln!("{error:#}\ngoing on with the indexes of last time");
        }
        Ok(archive)
    }

    /// The packages whose names match the expression, in no order.
    ///
    /// # Errors
    ///
    /// apt-cache fails.
    pub fn matching(&self, expression: &str) -> Result<Vec<Record>> {
        let mut command = self.apt("apt-cache");
        command.args(["search", "--names-only", "--full", expression]);
        let output = command.output().context("cannot run apt-cache")?;
        if !output.status.success() {
            bail!(
                "apt-cache search {expression}: {}; {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(records(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Downloads that version of a package into the folder.
    ///
    /// # Errors
    ///
    /// It cannot be had, or is not what the index says.
    pub fn download(&self, package: &str, version: &str, folder: &Path) -> Result<()> {
        let mut command = self.apt("apt-get");
        command
            .current_dir(folder)
            .args(["download", &format!("{package}={version}")]);
        step::run(&format!("downloading {package}"), command)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let place = |option: &str, path: &str| {
            format!("--option={option}={}", self.folder.join(path).display())
        };
        command
            .arg(place("Dir::State", ""))
            .arg(place("Dir::State::lists", "lists"))
            .arg(place("Dir::Cache", "cache"))
            .arg(place("Dir::Etc::sourcelist", "sources.list"))
            .args([
                "--option=Dir::State::status=/dev/null",
                "--option=Dir::Etc::sourceparts=/dev/null",
                "--option=Dir::Etc::preferences=/dev/null",
                "--option=Dir::Etc::preferencesparts=/dev/null",
                "--option=Acquire::Languages=none",
                "--option=Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
                "--option=Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
                // The folder may be one that the user _apt cannot enter.
                "--option=APT::Sandbox::User=root",
            ])
            .arg(format!("--option=APT::Architecture={}", self.architecture))
            .arg(format!("--option=APT::Architectures={}", self.architecture))
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// The lines of a `sources.list` for every suite.
pub fn all_sources() -> String {
    sources_of(|_| true)
}

/// The same for one release of Debian with its updates; empty where it is not known.
pub fn release_sources(codename: &str) -> String {
    sources_of(|suite| suite.split('-').next() == Some(codename))
}

/// The same for the suite that the guests' programs come from.
pub fn root_sources() -> String {
    release_sources(ROOT_SUITE)
}

fn sources_of(wanted: impl Fn(&str) -> bool) -> String {
    SUITES
        .iter()
        .filter(|(_, suite)| wanted(suite))
        .map(|(archive, suite)| {
            format!("deb [signed-by={KEYRING}] http://deb.debian.org/{archive} {suite} main\n")
        })
        .collect()
}

/// The stanzas of an index. Continuation lines belong to descriptions, which nobody asks for.
fn records(index: &str) -> Vec<Record> {
    index
        .split("\n\n")
        .map(|stanza| {
            stanza
                .lines()
                .filter(|line| !line.starts_with(' '))
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect::<Record>()
        })
        .filter(|record| !record.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_read_without_their_descriptions() {
        let index = "Package: a\nVersion: 1:2\nDescription: first\n more: text\n\nPackage: b\n\n";
        let records = records(index);
        assert_eq!(records.len(), 2);
        assert_eq!(records[0]["Version"], "1:2");
        assert!(!records[0].contains_key(" more"));
        assert_eq!(records[1]["Package"], "b");
    }

    #[test]
    fn the_root_takes_programs_from_one_suite_and_its_updates_alone() {
        let sources = root_sources();
        assert_eq!(sources.lines().count(), 2);
        assert!(sources.lines().all(|line| line.contains(" bookworm")));
        assert_eq!(release_sources(""), "");
    }
}
