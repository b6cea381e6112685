//! Finds what compiles the eBPF programs: a rustc that has `core` for the BPF target, or can
//! build it, and bpf-linker.
//!
//! The build script of `tracer-user` and `xtask` share this file, so that what is set up is
//! what the build then finds.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variables that decide what is found.
pub const VARIABLES: [&str; 3] = [RUSTC, CARGO, LINKER];

const RUSTC: &str = "WHYREFUSED_EBPF_RUSTC";
const CARGO: &str = "WHYREFUSED_EBPF_CARGO";
const LINKER: &str = "WHYREFUSED_BPF_LINKER";

const TOOLCHAIN: &str = "Rust toolchain that compiles eBPF programs";

/// The workspace's `rust-version`, for both sides use what came with it (let chains).
const OLDEST_RUSTC: (u32, u32) = (1, 88);

/// A rustc that can compile eBPF programs, and the cargo to run it with.
pub struct Toolchain {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
    pub core: Core,
    /// Major version of its LLVM: that of bpf-linker must not be older.
    pub llvm: u32,
}

/// Where `core` for the BPF target comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// It lies compiled in the sysroot, as Debian packages it.
    Prebuilt,
    /// It is built from the sources in the sysroot, rustup's component `rust-src`.
    FromSource,
}

/// Nothing that was looked at can do it.
#[derive(Debug)]
pub struct Missing {
    pub what: &'static str,
    /// One line for each candidate.
    pub tried: Vec<String>,
    /// The environment named the only candidate: installing another does not help.
    pub named: bool,
    install: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "no {} was found:", self.what)?;
        for line in &self.tried {
            writeln!(formatter, "  {line}")?;
        }
        formatter.write_str(self.install)
    }
}

impl std::error::Error for Missing {}

/// The name of the BPF target that has the byte order of the host it will run on.
pub fn target(big_endian: bool) -> &'static str {
    if big_endian {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    }
}

/// The first toolchain that can compile for `target`: the one that the environment names and no
/// other where it names one, else a packaged rustc, else rustup's nightly.
///
/// # Errors
///
/// [`Missing`] tells for each candidate why it won't do, and what to install.
pub fn find_toolchain(target: &str) -> Result<Toolchain, Missing> {
    let named = env::var_os(RUSTC).map(PathBuf::from);
    if let Some(rustc) = named {
        return inspect(rustc, target).map_err(|reason| Missing {
            what: TOOLCHAIN,
            tried: vec![reason],
            named: true,
            install: "WHYREFUSED_EBPF_RUSTC names it: correct or unset that",
        });
    }
    let candidates = [Ok(PathBuf::from("/usr/bin/rustc")), nightly()];
    let mut tried = Vec::new();
    for candidate in candidates {
        match candidate.and_then(|rustc| inspect(rustc, target)) {
            Ok(toolchain) => return Ok(toolchain),
            Err(reason) => tried.push(reason),
        }
    }
    Err(Missing {
        what: TOOLCHAIN,
        tried,
        named: false,
        install: "install one of these:\n  \
            Debian 12 with its security updates:  apt install rustc-web libstd-rust-web-dev-bpf\n  \
            rustup:                               rustup toolchain install nightly --profile minimal --component rust-src\n\
            as root on Debian, `cargo xtask setup` does it",
    })
}

/// bpf-linker: the one that the environment names and no other where it names one, else the one
/// that `cargo xtask setup` built, else one in `PATH` or in cargo's own folder.
///
/// # Errors
///
/// [`Missing`] tells where it was looked for, and how to install it.
pub fn find_linker(workspace: &Path) -> Result<PathBuf, Missing> {
    let missing = |tried, named, install| Missing {
        what: "bpf-linker",
        tried: vec![tried],
        named,
        install,
    };
    if let Some(linker) = env::var_os(LINKER).map(PathBuf::from) {
        if linker.is_file() {
            return Ok(linker);
        }
        return Err(missing(
            format!("{}: not there", linker.display()),
            true,
            "WHYREFUSED_BPF_LINKER names it: correct or unset that",
        ));
    }
    let own = own_linker(workspace);
    let tried = format!("{}: not there, nor in PATH", own.display());
    std::iter::once(own)
        .chain(programs("bpf-linker"))
        .find(|linker| linker.is_file())
        .ok_or_else(|| {
            missing(
                tried,
                false,
                "as root on Debian, `cargo xtask setup` builds it; elsewhere it does so where \
                LLVM's development files are installed,\n\
                or install it yourself: cargo install bpf-linker --version 0.13.0",
            )
        })
}

/// Where `cargo xtask setup` puts bpf-linker.
pub fn own_linker(workspace: &Path) -> PathBuf {
    workspace.join("target/tools/bin/bpf-linker")
}

/// The places where a program of this name may be: `PATH` first, then cargo's own folder.
fn programs(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|folder| folder.join(name))
        .collect()
}

fn nightly() -> Result<PathBuf, String> {
    let label = "rustup's nightly";
    let rustup = programs("rustup")
        .into_iter()
        .find(|rustup| rustup.is_file())
        .ok_or_else(|| format!("{label}: rustup is not installed"))?;
    // Asking must not install anything.
    run(Command::new(rustup)
        .args(["which", "--toolchain", "nightly", "rustc"])
        .env("RUSTUP_AUTO_INSTALL", "0"))
    .map(PathBuf::from)
    .map_err(|_| format!("{label}: not installed"))
}

fn inspect(rustc: PathBuf, target: &str) -> Result<Toolchain, String> {
    let refuse = |reason: String| format!("{}: {reason}", rustc.display());
    if !rustc.is_file() {
        return Err(refuse("not there".to_owned()));
    }
    let version = run(Command::new(&rustc).arg("-vV")).map_err(refuse)?;
    let release = numbers(&version, "release: ").ok_or_else(|| refuse("no version".to_owned()))?;
    if release < OLDEST_RUSTC {
        return Err(refuse(format!(
            "is version {}.{}, {}.{} is needed",
            release.0, release.1, OLDEST_RUSTC.0, OLDEST_RUSTC.1
        )));
    }
    let (llvm, _) = numbers(&version, "LLVM version: ")
        .ok_or_else(|| refuse("does not say which LLVM it has".to_owned()))?;
    let sysroot = run(Command::new(&rustc).args(["--print", "sysroot"])).map_err(refuse)?;
    let core = find_core(Path::new(&sysroot), target)
        .ok_or_else(|| refuse(format!("has no `core` for {target}, and no rust-src")))?;
    Ok(Toolchain {
        cargo: cargo_for(&rustc),
        rustc,
        core,
        llvm,
    })
}

fn find_core(sysroot: &Path, target: &str) -> Option<Core> {
    let rustlib = sysroot.join("lib/rustlib");
    if rustlib.join(target).join("lib").is_dir() {
        Some(Core::Prebuilt)
    } else if rustlib.join("src/rust/library/core").is_dir() {
        Some(Core::FromSource)
    } else {
        None
    }
}

/// The cargo beside it, else the one that runs us: a stable cargo serves any rustc.
fn cargo_for(rustc: &Path) -> PathBuf {
    let beside = rustc.with_file_name("cargo");
    match env::var_os(CARGO) {
        Some(cargo) => cargo.into(),
        None if beside.is_file() => beside,
        None => env::var_os("CARGO")
            .unwrap_or_else(|| "cargo".into())
            .into(),
    }
}

/// The first two numbers of the version behind `label`.
fn numbers(version: &str, label: &str) -> Option<(u32, u32)> {
    let line = version.lines().find_map(|line| line.strip_prefix(label))?;
    let mut numbers = line.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What the command prints; the error is one line.
fn run(command: &mut Command) -> Result<String, String> {
    // Without this a rustup proxy would answer for the toolchain that runs us.
    command.env_remove("RUSTUP_TOOLCHAIN");
    let output = command
        .output()
        .map_err(|error| format!("cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{command:?}` failed: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}
