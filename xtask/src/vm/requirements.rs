//! Whether guests can be run on this host at all.

use std::env::consts::ARCH;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::sys::statvfs::statvfs;

use crate::setup::{self, Purpose};

/// What the indexes, the root, five kernels and their payloads take, and what making them takes,
/// in bytes.
const SPACE: u64 = 4 << 30;

/// Makes sure of it, and installs what is missing. `folder` is where all of it will lie.
///
/// # Errors
///
/// They cannot; the message says why.
pub fn ensure_met(folder: &Path) -> Result<()> {
    ensure!(
        ARCH == "x86_64",
        "the guests are x86-64 machines, and what is built here is for {ARCH}"
    );
    ensure!(
        nix::unistd::geteuid().is_root(),
        "only root can make the guests' root"
    );
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let place = statvfs(folder).with_context(|| format!("cannot ask for {}", folder.display()))?;
    let free = place.blocks_available() * place.fragment_size();
    ensure!(
        free >= SPACE,
        "{} has {} MiB of free space, and guests may need {}",
        folder.display(),
        free >> 20,
        SPACE >> 20
    );
    setup::ensure(Purpose::Guests)
}
