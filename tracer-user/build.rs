//! Compiles the eBPF programs of `tracer-ebpf` and leaves the object in `OUT_DIR/tracer`.
//!
//! aya-build does the same for a toolchain that rustup manages; this one takes a packaged rustc
//! with a compiled `core`, too, and bpf-linker from outside `PATH`.

#[expect(dead_code, reason = "xtask uses the rest")]
#[path = "build/toolchain.rs"]
mod toolchain;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toolchain::{Core, Toolchain};

/// What cargo and rustup set for this build script, and what users set for the host's code: all
/// of it is about another compiler than the one that is run here.
const NOT_FOR_EBPF: [&str; 8] = [
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

fn main() {
    if let Err(error) = build() {
        // Cargo fails the build for these lines, and prints nothing but them; a status of
        // failure would have it print all that this script has written.
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = package.parent().ok_or("the package has no workspace")?;
    for path in [
        "tracer-ebpf/src",
        "tracer-ebpf/Cargo.toml",
        "tracer-ebpf/Cargo.lock",
        "tracer-common/src",
        "tracer-common/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    for name in toolchain::VARIABLES {
        println!("cargo::rerun-if-env-changed={name}");
    }

    let target = toolchain::target(variable("CARGO_CFG_TARGET_ENDIAN")? == "big");
    let toolchain = toolchain::find_toolchain(target)?;
    let linker = toolchain::find_linker(workspace)?;
    for tool in [&toolchain.rustc, &linker] {
        println!("cargo::rerun-if-changed={}", tool.display());
    }

    let out = PathBuf::from(variable("OUT_DIR")?);
    let object = compile(workspace, &out, target, &toolchain, &linker)?;
    fs::copy(&object, out.join("tracer"))
        .map_err(|error| format!("cannot copy {}: {error}", object.display()))?;
    Ok(())
}

/// Returns the path of the object.
fn compile(
    workspace: &Path,
    out: &Path,
    target: &str,
    toolchain: &Toolchain,
    linker: &Path,
) -> Result<PathBuf, Box<dyn Error>> {
    let target_folder = shared_target_folder(out).join("ebpf");
    let mut cargo = Command::new(&toolchain.cargo);
    cargo
        .current_dir(workspace.join("tracer-ebpf"))
        .args(["build", "--quiet", "--release", "--target", target])
        .arg("--target-dir")
        .arg(&target_folder);
    if toolchain.core == Core::FromSource {
        cargo.args(["-Z", "build-std=core"]);
    }
    for name in NOT_FOR_EBPF {
        cargo.env_remove(name);
    }
    cargo
        .env("RUSTC", &toolchain.rustc)
        // aya-ebpf uses the unstable `asm_experimental_arch`; this lets a stable rustc take it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(linker)?);

    let output = cargo
        .output()
        .map_err(|error| format!("cannot run {}: {error}", toolchain.cargo.display()))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let hint = if messages.contains("linking with") {
            format!(
                "\n{} may be built on an older LLVM than rustc's, which is {}",
                linker.display(),
                toolchain.llvm
            )
        } else {
            String::new()
        };
        return Err(format!(
            "the eBPF programs do not compile with {}:\n{messages}{hint}",
            toolchain.rustc.display(),
        )
        .into());
    }
    for line in messages.lines() {
        println!("cargo::warning={line}");
    }
    Ok(target_folder.join(target).join("release/tracer"))
}

/// The flags as cargo wants them, with a separator that no path contains.
fn rustflags(linker: &Path) -> Result<OsString, Box<dyn Error>> {
    let mut linker_flag = OsString::from("-Clinker=");
    linker_flag.push(linker);
    let flags = [
        linker_flag,
        "-Clink-arg=--btf".into(),
        "-Cdebuginfo=2".into(),
        format!("--cfg=bpf_target_arch=\"{}\"", host_arch()?).into(),
    ];
    Ok(flags.join("\u{1f}".as_ref()))
}

/// The architecture by the name that aya-ebpf has for it, see `target_arch_fixup` in aya-build.
fn host_arch() -> Result<String, Box<dyn Error>> {
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    if arch.starts_with("riscv64") {
        Ok("riscv64".to_owned())
    } else {
        Ok(arch)
    }
}

/// Cargo's target folder, which it marks, so that the programs are compiled once and not again
/// for each profile; the build script's own folder where there is no such mark.
fn shared_target_folder(out: &Path) -> &Path {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .unwrap_or(out)
}

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}
