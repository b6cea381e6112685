//! The modules of a kernel that the guest may ask for.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{Hash as _, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::step;

/// What the tests may use, below `kernel/`; a folder with a `/` behind it counts without the
/// folders in it.
const WANTED: [&str; 15] = [
    "net",
    "crypto",
    "lib",
    "arch",
    "security",
    "fs/ext4",
    "fs/jbd2",
    "fs/overlayfs",
    "fs/fuse",
    "fs/",
    "drivers/virtio",
    "drivers/block/",
    "drivers/net/",
    "drivers/net/vxlan",
    "drivers/net/ipvlan",
];

/// What the initramfs loads before it can mount the root.
const FOR_ROOT: [&str; 6] = [
    "virtio_pci",
    "virtio_blk",
    // Up to 6.x ext4 asks for its checksum by name even where the image has none.
    "crc32c_generic",
    "crc32c",
    "ext4",
    "overlay",
];

/// Changes whenever another choice is made here.
pub fn recipe(hasher: &mut impl Hasher) {
    (WANTED, FOR_ROOT).hash(hasher);
}

/// Modules in a folder as kmod wants them: `root()/RELEASE/kernel/…`.
pub struct Modules {
    root: PathBuf,
    tree: PathBuf,
}

/// Copies the modules that are wanted to `root`, decompressed, with their index.
///
/// # Errors
///
/// The packages have no modules of that release, or a program fails.
pub fn select(unpacked: &Path, release: &str, root: &Path) -> Result<Modules> {
    let found = ["usr/lib/modules", "lib/modules"]
        .iter()
        .map(|place| unpacked.join(place).join(release))
        .find(|path| path.join("kernel").is_dir());
    let Some(source) = found else {
        bail!("the packages of {release} have no modules");
    };
    let modules = Modules {
        root: root.to_owned(),
        tree: root.join(release),
    };
    for wanted in WANTED {
        let from = source.join("kernel").join(wanted);
        let to = modules.tree.join("kernel").join(wanted);
        if from.is_dir() {
            copy(&from, &to, !wanted.ends_with('/'))?;
        }
    }
    for list in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        let from = source.join(list);
        if from.is_file() {
            fs::copy(&from, modules.tree.join(list))?;
        }
    }
    modules.decompress()?;
    modules.index(release)?;
    Ok(modules)
}

impl Modules {
    /// The folder that becomes `/usr/lib/modules`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files to load for the root's disks and file systems, in order.
    ///
    /// # Errors
    ///
    /// The index cannot be read.
    pub fn for_root(&self) -> Result<Vec<PathBuf>> {
        let path = self.tree.join("modules.dep");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(in_order(&text, &FOR_ROOT)
            .into_iter()
            .map(|file| self.tree.join(file))
            .collect())
    }

    fn decompress(&self) -> Result<()> {
        // busybox loads plain modules alone, and reading those is faster under emulation.
        let mut command = Command::new("find");
        command.arg(&self.tree).args(["-name", "*.ko.xz"]);
        command.args(["-exec", "xz", "-d", "{}", "+"]);
        step::run("decompressing modules", command)
    }

    fn index(&self, release: &str) -> Result<()> {
        let base = self.tree.join("base");
        fs::create_dir_all(base.join("lib"))?;
        std::os::unix::fs::symlink(&self.root, base.join("lib/modules"))?;
        let mut command = Command::new("/sbin/depmod");
        command.arg("-b").arg(&base).arg(release);
        step::run("indexing modules", command)?;
        fs::remove_dir_all(&base).context("cannot remove a folder")
    }
}

fn copy(from: &Path, to: &Path, deep: bool) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), target)?;
        } else if deep && entry.file_type()?.is_dir() {
            copy(&entry.path(), &target, true)?;
        }
    }
    Ok(())
}

/// The files of these modules and of those that they need, as `modules.dep` lists them, each
/// behind what it needs. A module that is not listed is built in.
fn in_order(index: &str, names: &[&str]) -> Vec<String> {
    let needs: BTreeMap<&str, Vec<&str>> = index
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for name in names {
        let ending = format!("/{name}.ko");
        let Some((file, needs)) = needs.iter().find(|(file, _)| file.ends_with(&ending)) else {
            continue;
        };
        // depmod lists all that a module needs, also indirectly, the first to load last.
        for file in needs.iter().rev().chain([file]) {
            if !order.iter().any(|loaded| loaded == file) {
                order.push((*file).to_owned());
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_behind_what_they_need_and_once() {
        let index = "\
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko
kernel/fs/jbd2/jbd2.ko: kernel/lib/crc16.ko
kernel/lib/crc16.ko:
";
        assert_eq!(
            in_order(index, &["jbd2", "ext4", "overlay"]),
            [
                "kernel/lib/crc16.ko",
                "kernel/fs/jbd2/jbd2.ko",
                "kernel/fs/ext4/ext4.ko"
            ]
        );
    }
}
