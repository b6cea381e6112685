//! bpf-linker, built against the host's LLVM.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::step;
use crate::toolchain::{Toolchain, find_linker, own_linker};
use crate::workspace;

/// The version that is built.
pub const VERSION: &str = "0.13.0";

/// The LLVM versions that this version of bpf-linker can be built on.
const LLVM_VERSIONS: [u32; 3] = [21, 22, 23];

/// Builds bpf-linker where there is none that serves.
///
/// # Errors
///
/// It does not support the toolchain's LLVM, or does not compile.
pub fn ensure(workspace: &Path, toolchain: &Toolchain) -> Result<()> {
    if is_ready(workspace, toolchain.llvm)? {
        return Ok(());
    }
    let llvm = toolchain.llvm;
    if !LLVM_VERSIONS.contains(&llvm) {
        bail!(
            "{} has LLVM {llvm}, which bpf-linker {VERSION} does not support (it takes {LLVM_VERSIONS:?}); \
            name another rustc in WHYREFUSED_EBPF_RUSTC, or a bpf-linker in WHYREFUSED_BPF_LINKER",
            toolchain.rustc.display(),
        );
    }
    let tools = tools(workspace);
    let build = tools.join("build");
    let mut command = workspace::cargo("install");
    command
        .args(["bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{llvm}"),
        ])
        .arg("--root")
        .arg(&tools)
        .arg("--target-dir")
        .arg(&build)
        .env("PATH", path_with(&llvm_folder(llvm).join("bin"))?);
    step::run(&format!("building bpf-linker on LLVM {llvm}"), command).context(
        "bpf-linker is missing and cannot be built here; \
        this needs crates.io, or a bpf-linker in PATH or named by WHYREFUSED_BPF_LINKER",
    )?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}

/// Whether there is a linker for a rustc that has this major version of LLVM. One that is not
/// ours is taken as it is.
///
/// # Errors
///
/// The environment names one that is not there.
pub fn is_ready(workspace: &Path, llvm: u32) -> Result<bool> {
    let linker = match find_linker(workspace) {
        Ok(linker) => linker,
        Err(missing) if missing.named => return Err(missing.into()),
        Err(_) => return Ok(false),
    };
    if linker != own_linker(workspace) {
        return Ok(true);
    }
    // Where cargo writes down what it installed, and with which features.
    let installed = fs::read_to_string(tools(workspace).join(".crates2.json")).unwrap_or_default();
    Ok(installed.contains(&format!("bpf-linker {VERSION} "))
        && installed.contains(&format!("\"llvm-{llvm}\"")))
}

/// Where Debian's packages of this major version lie.
pub fn llvm_folder(llvm: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm}"))
}

fn tools(workspace: &Path) -> PathBuf {
    workspace.join("target/tools")
}

/// `PATH` with this folder first.
fn path_with(folder: &Path) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(folder.to_owned()).chain(env::split_paths(&path)))
        .context("PATH cannot be extended")
}
