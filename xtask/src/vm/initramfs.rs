//! The first thing that a guest runs: it mounts the images and hands over to the payload.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::modules::Modules;
use crate::step;

/// What it runs.
pub const INIT: &str = include_str!("init.sh");
const BUSYBOX: &str = "/bin/busybox";

/// Writes the initramfs with the modules that the root needs.
///
/// # Errors
///
/// A file cannot be copied, or cpio fails.
pub fn build(modules: &Modules, initramfs: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot create a folder")?;
    let path = |name: &str| folder.path().join(name);
    for name in [
        "bin", "modules", "proc", "sys", "dev", "lower", "upper", "root",
    ] {
        fs::create_dir(path(name))?;
    }
    fs::copy(BUSYBOX, path("bin/busybox"))
        .with_context(|| format!("cannot copy {BUSYBOX}; install the package busybox-static"))?;
    // Its rights go with the copy: the file of the repository has none to execute.
    fs::copy(BUSYBOX, path("init"))?;
    fs::write(path("init"), INIT)?;
    for (number, module) in modules.for_root()?.iter().enumerate() {
        let name = format!("modules/{number:02}.ko");
        fs::copy(module, path(&name))
            .with_context(|| format!("cannot copy {}", module.display()))?;
    }
    let mut command = Command::new("sh");
    command
        .args(["-ec", "find . | cpio --quiet -o -H newc >\"$1\"", "sh"])
        .arg(File::create(initramfs).and(fs::canonicalize(initramfs))?)
        .current_dir(folder.path());
    step::run("making the initramfs", command)
}
