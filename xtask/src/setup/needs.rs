//! What each purpose needs, and which Debian package brings it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Purpose, linker};
use crate::cross;
use crate::toolchain;
use crate::workspace;

/// Something that is not on this host.
pub struct Missing {
    /// In words, for the case that it cannot be installed.
    pub what: String,
    pub packages: Vec<String>,
}

/// The LLVM of the rustc that Debian 12's security updates have as `rustc-web`: bpf-linker is built
/// on the same. The `rustc-web` that Debian 12 was released with is too old.
const PACKAGED_LLVM: u32 = 22;

/// The programs that the tests run. An nginx that is there is left as it is: a module package
/// would change its configuration, and it may serve.
const TEST_PROGRAMS: [(&str, &[&str]); 13] = [
    ("nginx", &["nginx-light", "libnginx-mod-stream"]),
    ("iptables", &["iptables"]),
    ("ip6tables", &["iptables"]),
    ("arptables-legacy", &["arptables"]),
    ("ipset", &["ipset"]),
    ("nft", &["nftables"]),
    ("ip", &["iproute2"]),
    ("ss", &["iproute2"]),
    ("bpftool", &["bpftool"]),
    ("python3", &["python3-minimal"]),
    ("ps", &["procps"]),
    ("unshare", &["util-linux"]),
    ("nsenter", &["util-linux"]),
];

const BENCH_PROGRAMS: [(&str, &[&str]); 1] = [("wrk", &["wrk"])];

/// The programs that boot other kernels, and make what they boot from.
const GUEST_PROGRAMS: [(&str, &[&str]); 11] = [
    ("qemu-system-x86_64", &["qemu-system-x86"]),
    ("setpriv", &["util-linux"]),
    ("mmdebstrap", &["mmdebstrap"]),
    ("mke2fs", &["e2fsprogs"]),
    ("depmod", &["kmod"]),
    ("cpio", &["cpio"]),
    ("xz", &["xz-utils"]),
    ("zstd", &["zstd"]),
    ("gzip", &["gzip"]),
    ("apt-cache", &["apt"]),
    ("dpkg-deb", &["dpkg"]),
];

/// What links for arm64.
const CROSS_PROGRAMS: [(&str, &[&str]); 1] = [(
    cross::LINKER,
    &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
)];

/// What gets Rust's libraries for arm64 where rustup has not brought them.
const CROSS_LIBRARIES: [(&str, &str); 4] = [
    (cross::PACKAGED_RUSTC, cross::RUSTC_PACKAGE),
    (
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
    ),
    ("/usr/bin/apt-get", "apt"),
    ("/usr/bin/dpkg-deb", "dpkg"),
];

/// Files that the guests are made from: Debian's keys, and a busybox without libraries.
const GUEST_FILES: [(&str, &str); 2] = [
    (
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
    ),
    ("/bin/busybox", "busybox-static"),
];

/// The BPF target that fits this host.
pub fn target() -> &'static str {
    toolchain::target(cfg!(target_endian = "big"))
}

/// All that is missing for this purpose and that a package would bring.
///
/// # Errors
///
/// The environment names a tool that does not serve.
pub fn missing(purpose: Purpose) -> Result<Vec<Missing>> {
    let mut missing = missing_for_build()?;
    if matches!(purpose, Purpose::Test | Purpose::Bench) {
        missing.extend(missing_programs(&TEST_PROGRAMS));
    }
    if purpose == Purpose::Bench {
        missing.extend(missing_programs(&BENCH_PROGRAMS));
    }
    if purpose == Purpose::Cross {
        missing.extend(missing_programs(&CROSS_PROGRAMS));
        if !cross::is_installed()? {
            missing.extend(missing_files(&CROSS_LIBRARIES));
        }
    }
    if purpose == Purpose::Guests {
        missing.extend(missing_programs(&GUEST_PROGRAMS));
        missing.extend(missing_files(&GUEST_FILES));
    }
    Ok(missing)
}

/// One message with all of it, and how to get it.
pub fn describe(missing: &[Missing], reason: &str) -> String {
    let what: String = missing
        .iter()
        .map(|one| format!("  - {}\n", one.what))
        .collect();
    format!(
        "these are missing, {reason}:\n{what}\
        on Debian 12 with its security updates (the suite bookworm-security), as root:\n  \
        apt-get install --no-install-recommends {}\n\
        elsewhere install the same programs; what compiles eBPF comes by\n  \
        rustup toolchain install nightly --profile minimal --component rust-src\n  \
        cargo install bpf-linker --version {}   # needs LLVM's development files",
        packages(missing).join(" "),
        linker::VERSION,
    )
}

/// The packages' names, each once.
pub fn packages(missing: &[Missing]) -> Vec<&str> {
    let mut names: Vec<&str> = missing
        .iter()
        .flat_map(|one| one.packages.iter().map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn missing_for_build() -> Result<Vec<Missing>> {
    let mut missing = Vec::new();
    let llvm = match toolchain::find_toolchain(target()) {
        Ok(toolchain) => toolchain.llvm,
        Err(error) if error.named => return Err(error.into()),
        Err(error) => {
            missing.push(Missing {
                what: format!("a {} ({})", error.what, error.tried.join("; ")),
                packages: vec!["rustc-web".to_owned(), "libstd-rust-web-dev-bpf".to_owned()],
            });
            PACKAGED_LLVM
        }
    };
    if !linker::is_ready(workspace::root(), llvm)? {
        missing.extend(missing_for_linker(llvm));
    }
    Ok(missing)
}

/// What building bpf-linker needs.
fn missing_for_linker(llvm: u32) -> Option<Missing> {
    let config = linker::llvm_folder(llvm).join("bin/llvm-config");
    let zstd = Path::new("/usr/include/zstd.h");
    if config.is_file() && zstd.is_file() && has_program("g++") {
        return None;
    }
    Some(Missing {
        what: format!(
            "bpf-linker {} on LLVM {llvm}, or what it is built from",
            linker::VERSION
        ),
        packages: vec![
            format!("llvm-{llvm}-dev"),
            "libzstd-dev".to_owned(),
            "g++".to_owned(),
        ],
    })
}

fn missing_programs(programs: &[(&str, &[&str])]) -> Vec<Missing> {
    programs
        .iter()
        .filter(|(program, _)| !has_program(program))
        .map(|(program, packages)| Missing {
            what: format!("the program {program}"),
            packages: packages.iter().map(|&package| package.to_owned()).collect(),
        })
        .collect()
}

fn missing_files(files: &[(&str, &str)]) -> Vec<Missing> {
    files
        .iter()
        .filter(|(file, _)| !Path::new(file).is_file())
        .map(|&(file, package)| Missing {
            what: format!("the file {file}"),
            packages: vec![package.to_owned()],
        })
        .collect()
}

/// Whether the program is in `PATH`, or where administration programs are, which the `PATH` of
/// users leaves out.
fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_every_missing_thing_and_each_package_once() {
        let missing = missing_programs(&[("no-such-1", &["one"]), ("no-such-2", &["one", "two"])]);
        let text = describe(&missing, "not root");
        assert!(
            text.contains("no-such-1") && text.contains("no-such-2"),
            "{text}"
        );
        assert!(text.contains("--no-install-recommends one two\n"), "{text}");
    }

    #[test]
    fn a_program_that_is_there_is_not_missing() {
        assert!(missing_programs(&[("sh", &["dash"])]).is_empty());
    }
}
