//! The guests' root: a small Debian with the programs that the live tests use.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::image;
use crate::archive::{self, Archive};
use crate::step;

const PACKAGES: [&str; 14] = [
    "apparmor",
    "arptables",
    "bpftool",
    "ipset",
    "iproute2",
    "iptables",
    "kmod",
    "libnginx-mod-stream",
    "nftables",
    "nginx-light",
    "procps",
    "python3-minimal",
    "selinux-policy-default",
    "util-linux",
];

/// What nobody reads in a guest.
const LEFT_OUT: [&str; 3] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
];

/// What Debian's SELinux policy lacks for a guest, and what the guest is then told of its files.
const POLICY: &str = include_str!("guest.cil");
const LABEL: [&str; 2] = [
    "chroot \"$1\" semodule --noreload --install /root/guest_root.cil",
    "chroot \"$1\" setfiles -F -e /dev -e /proc -e /sys \
     /etc/selinux/default/contexts/files/file_contexts /",
];

/// The image, made anew where Debian has newer versions of its packages than the last one had.
///
/// # Errors
///
/// It cannot be made.
pub fn prepare(archive: &Archive, folder: &Path) -> Result<PathBuf> {
    let image = folder.join(format!("root-{:016x}.img", content(archive)?));
    if image.is_file() {
        return Ok(image);
    }
    let work = tempfile::tempdir_in(folder).context("cannot create a folder")?;
    let sources = work.path().join("sources.list");
    fs::write(&sources, archive::root_sources())?;
    // The module is named after its file; the policy has one called `guest`.
    let policy = work.path().join("guest_root.cil");
    fs::write(&policy, POLICY)?;
    let tree = work.path().join("root");
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--mode=root", "--variant=minbase", "--architectures=amd64"])
        .args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")))
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(format!(
            "--customize-hook=copy-in {} /root",
            policy.display()
        ))
        .args(LABEL.map(|hook| format!("--customize-hook={hook}")))
        .arg(archive::ROOT_SUITE)
        .args([&tree, &sources]);
    step::run("making the guests' root", command)?;
    let done = work.path().join("root.img");
    image::of_folder(&tree, &done)?;
    fs::rename(&done, &image).with_context(|| format!("cannot create {}", image.display()))?;
    Ok(image)
}

/// What tells one image from another: the packages and their versions.
fn content(archive: &Archive) -> Result<u64> {
    let names = format!("^({})$", PACKAGES.join("|"));
    let versions: BTreeMap<_, _> = archive
        .matching(&names)?
        .into_iter()
        .filter_map(|mut record| Some((record.remove("Package")?, record.remove("Version")?)))
        .collect();
    let mut hasher = DefaultHasher::new();
    (
        versions,
        PACKAGES,
        LEFT_OUT,
        POLICY,
        LABEL,
        archive::root_sources(),
    )
        .hash(&mut hasher);
    Ok(hasher.finish())
}
