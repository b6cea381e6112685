//! What the laboratory needs of the host, and saying so where it is missing.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::unistd::{Uid, User, geteuid};

/// Programs that every live test needs.
#[derive(Debug, Clone)]
pub struct Host {
    pub whyrefused: PathBuf,
    pub nginx: PathBuf,
}

impl Host {
    /// Finds what the live tests need. `None` where something is missing, after saying so.
    ///
    /// # Panics
    ///
    /// `WHYREFUSED_BIN` names no file: whoever sets it wants no test skipped for want of it.
    pub fn find() -> Option<Self> {
        let named = env::var_os("WHYREFUSED_BIN").map(PathBuf::from);
        if let Some(missing) = named.filter(|path| !path.is_file()) {
            panic!("WHYREFUSED_BIN is {}, which is no file", missing.display());
        }
        match Self::look() {
            Ok(host) => Some(host),
            Err(missing) => {
                skip(&format!("{missing:#}"));
                None
            }
        }
    }

    /// The same for a given whyrefused.
    ///
    /// # Errors
    ///
    /// Not root, or a program is missing.
    pub fn with(whyrefused: &Path) -> Result<Self> {
        if !geteuid().is_root() {
            bail!("network namespaces need root");
        }
        if !whyrefused.is_file() {
            bail!(
                "{} is no file; build it with `cargo xtask build`",
                whyrefused.display()
            );
        }
        program("ip", "iproute2")?;
        Ok(Self {
            whyrefused: whyrefused.to_owned(),
            nginx: program("nginx", "nginx")?,
        })
    }

    fn look() -> Result<Self> {
        Self::with(&whyrefused())
    }
}

/// Says that the running test is skipped and why, past the capture of test output.
pub fn skip(reason: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("a test");
    // In one write, for other tests speak at the same time.
    let line = format!("skipped: {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The path of a program that the package `package` brings.
///
/// # Errors
///
/// It is not installed.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} is not installed; install the package {package}"))
}

/// The fixture binary, which cargo builds beside every program of this package.
///
/// # Errors
///
/// It was not built.
pub fn fixture() -> Result<PathBuf> {
    let myself = env::current_exe()?;
    myself
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("backend"))
        .find(|candidate| candidate.is_file())
        .context("the fixture `backend` is not built; run `cargo build --package whyrefused-tests --bins`")
}

/// The user that nginx's workers become.
///
/// # Errors
///
/// The host knows neither www-data nor nobody.
pub fn worker_user() -> Result<User> {
    for name in ["www-data", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    User::from_uid(Uid::from_raw(65534))?.context("neither www-data nor nobody is a user here")
}

/// Whether this kernel keeps the chain of its rules beside them (`struct nft_rule_dp_last`), as its
/// types tell.
pub fn rules_lead_to_their_chain() -> bool {
    let types = fs::read("/sys/kernel/btf/nf_tables").unwrap_or_default();
    let mut names = types.split(|byte| *byte == 0);
    names.any(|name| name == b"nft_rule_dp_last")
}

/// Names of the BPF programs that are loaded, as `bpftool` lists them.
///
/// # Errors
///
/// `bpftool` is missing or fails.
pub fn loaded_programs() -> Result<Vec<(u64, String)>> {
    let bpftool = program("bpftool", "bpftool")?;
    let output =
        crate::process::run(std::process::Command::new(bpftool).args(["-j", "prog", "list"]))?;
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    Ok(listed
        .iter()
        .filter_map(|entry| {
            let name = entry["name"].as_str().unwrap_or_default();
            Some((entry["id"].as_u64()?, name.to_owned()))
        })
        .collect())
}

/// Ids of the BPF programs that `pid` holds by a file descriptor of the program or of its link.
///
/// # Errors
///
/// The process is gone.
pub fn programs_held_by(pid: u32) -> Result<Vec<u64>> {
    let mut held = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        held.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("prog_id:"))
                .filter_map(|id| id.trim().parse::<u64>().ok()),
        );
    }
    held.sort_unstable();
    held.dedup();
    Ok(held)
}

fn whyrefused() -> PathBuf {
    if let Some(path) = env::var_os("WHYREFUSED_BIN") {
        return PathBuf::from(path);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("release/whyrefused")
}
