//! Disk images, made without mounting anything.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::step;

/// Room for the file system's own structures.
const OVERHEAD: u64 = 16 << 20;

/// Writes an ext4 image with the content of the folder.
///
/// # Errors
///
/// The folder cannot be read, or mke2fs fails.
pub fn of_folder(folder: &Path, image: &Path) -> Result<()> {
    // A sixteenth more for the inodes and what blocks waste.
    let size = size_of(folder)?;
    let kibibytes = (size + size / 16 + OVERHEAD) >> 10;
    // What is there may be longer.
    let _ = fs::remove_file(image);
    let mut command = Command::new("mke2fs");
    command
        .args(["-q", "-F", "-t", "ext4", "-m", "0"])
        // Without these the guest needs fewer modules before it can mount the image.
        .args(["-O", "^has_journal,^metadata_csum", "-d"])
        .arg(folder)
        .arg(image)
        .arg(format!("{kibibytes}k"));
    step::run(&format!("making {}", name(image)), command)
}

/// The bytes that the files take in blocks.
fn size_of(folder: &Path) -> Result<u64> {
    const BLOCK: u64 = 4096;
    let mut size = 0;
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let about = entry.metadata()?;
        size += about.len().next_multiple_of(BLOCK);
        if about.is_dir() {
            size += size_of(&entry.path())?;
        }
    }
    Ok(size)
}

fn name(image: &Path) -> String {
    let name = image.file_name().unwrap_or(image.as_os_str());
    name.to_string_lossy().into_owned()
}
