//! Builds the tool for arm64 on any machine.
//!
//! Rust's libraries for that architecture come from rustup where it has brought them, else from
//! the very package that Debian's rustc for this machine is built beside. That one is unpacked
//! below `target`, and not installed: the host keeps its one architecture.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::archive::{self, Archive};
use crate::step;
use crate::workspace;

/// As Rust calls it.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";
/// As Debian calls it.
const ARCHITECTURE: &str = "arm64";

/// What links for it.
pub const LINKER: &str = "aarch64-linux-gnu-gcc";
const LINKER_VARIABLE: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";

/// Debian's rustc, and the packages of it and of its libraries.
pub const PACKAGED_RUSTC: &str = "/usr/bin/rustc";
pub const RUSTC_PACKAGE: &str = "rustc-web";
const LIBRARIES_PACKAGE: &str = "libstd-rust-web-dev";

/// `cargo build` of the tool, its eBPF programs included, for arm64.
///
/// # Errors
///
/// Rust's libraries for it are nowhere to be had; the message says how to get them.
pub fn build() -> Result<Command> {
    let mut command = workspace::cargo("build");
    command.args(["--package", "tracer-user", "--target", TARGET]);
    if env::var_os(LINKER_VARIABLE).is_none() {
        command.env(LINKER_VARIABLE, LINKER);
    }
    if !is_installed()? {
        let mut sysroot = std::ffi::OsString::from("--sysroot=");
        sysroot.push(packaged_sysroot().context(
            "there are no libraries of Rust for arm64: \
            `rustup target add aarch64-unknown-linux-gnu` brings them, too",
        )?);
        // Cargo passes these flags on to what is built for the target, and to nothing else.
        command
            .env("RUSTC", PACKAGED_RUSTC)
            .env("CARGO_ENCODED_RUSTFLAGS", sysroot);
    }
    Ok(command)
}

/// Whether the rustc that cargo takes by itself has the libraries for arm64.
///
/// # Errors
///
/// It cannot be run.
pub fn is_installed() -> Result<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = answer(Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(libraries(Path::new(&sysroot)).is_dir())
}

fn libraries(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(TARGET).join("lib")
}

/// Debian's libraries for arm64, of the version of its rustc that is installed here.
fn packaged_sysroot() -> Result<PathBuf> {
    let version = answer(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${Version}",
        RUSTC_PACKAGE,
    ]))?;
    let folder = workspace::target().join("cross");
    let unpacked = folder.join(format!("{ARCHITECTURE}-{version}"));
    let sysroot = unpacked.join("usr");
    if libraries(&sysroot).is_dir() {
        return Ok(sysroot);
    }
    let sources = archive::release_sources(&codename()?);
    if sources.is_empty() {
        bail!("this is no release of Debian whose archive is known");
    }
    let archive = Archive::open(&folder.join("apt"), &sources, ARCHITECTURE)?;
    let work = tempfile::tempdir_in(&folder).context("cannot make a folder to work in")?;
    archive
        .download(LIBRARIES_PACKAGE, &version, work.path())
        .with_context(|| {
            format!("Debian may have a newer {RUSTC_PACKAGE} than {version}: upgrade it")
        })?;
    unpack(work.path())?;
    fs::rename(work.path().join("root"), &unpacked)
        .with_context(|| format!("cannot create {}", unpacked.display()))?;
    if !libraries(&sysroot).is_dir() {
        bail!("{LIBRARIES_PACKAGE} {version} has no libraries for {TARGET}");
    }
    Ok(sysroot)
}

/// Unpacks the package in the folder into its folder `root`.
fn unpack(folder: &Path) -> Result<()> {
    let package = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    let mut command = Command::new("dpkg-deb");
    command
        .arg("--extract")
        .arg(&package)
        .arg(folder.join("root"));
    step::run("unpacking Rust's libraries for arm64", command)
}

/// The release of Debian that this is.
fn codename() -> Result<String> {
    let path = "/etc/os-release";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.unwrap_or_default().trim_matches('"').to_owned())
}

/// What the command prints.
fn answer(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{}: {}; {}",
            command.get_program().display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
