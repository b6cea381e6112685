//! `cargo xtask lint`

use anyhow::Result;

use crate::cross;
use crate::setup::{self, Purpose};
use crate::workspace::{cargo, run, target};

/// The eBPF crate's own manifest: it is outside the workspace.
const EBPF: [&str; 2] = ["--manifest-path", "tracer-ebpf/Cargo.toml"];

pub fn run_checks() -> Result<()> {
    setup::ensure(Purpose::Cross)?;
    run(cargo("fmt").args(["--all", "--check"]))?;
    run(cargo("fmt").args(EBPF).arg("--check"))?;
    run(cargo("clippy").args(["--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    // For the host, by the same clippy as all the rest: aya-ebpf compiles there, too. Code that
    // is there for the BPF target alone gets rustc's warnings, when it is built.
    run(cargo("clippy")
        .args(EBPF)
        .arg("--target-dir")
        .arg(target().join("ebpf"))
        .args(["--all-targets", "--", "--deny", "warnings"]))?;
    // Linked, too, and without the debug data, which nobody reads.
    run(cross::build()?.env("CARGO_PROFILE_DEV_DEBUG", "0"))
}
