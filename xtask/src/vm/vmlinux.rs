//! Takes the kernel out of the file that boot loaders start: under emulation, decompressing it
//! would cost seconds of every boot.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Offsets in the setup header (Documentation/arch/x86/boot.rst).
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;
/// The build appends the size of the kernel to the compressed payload.
const TRAILER: usize = 4;

/// How a payload of each compression begins, and what decompresses it.
const COMPRESSIONS: [(&[u8], &str); 3] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b", "gzip"),
];

/// Writes the `vmlinux` in the file `vmlinuz`.
///
/// # Errors
///
/// It is no bzImage, or is compressed in an unknown way.
pub fn extract(vmlinuz: &Path, vmlinux: &Path) -> Result<()> {
    let image = fs::read(vmlinuz).with_context(|| format!("cannot read {}", vmlinuz.display()))?;
    let payload = payload(&image)
        .with_context(|| format!("{} is no kernel that boots on x86", vmlinuz.display()))?;
    let known = COMPRESSIONS
        .iter()
        .find(|(magic, _)| payload.starts_with(magic));
    let Some((_, program)) = known else {
        bail!("{} is compressed in an unknown way", vmlinuz.display());
    };
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(File::create(vmlinux)?)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(payload)?;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{program} on {}: {status}", vmlinuz.display());
    }
    Ok(())
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    // Where it is 0, it means 4 (boot.rst).
    let sectors = match image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let begin = (sectors + 1) * SECTOR + number(image, PAYLOAD_OFFSET)?;
    let length = number(image, PAYLOAD_LENGTH)?.checked_sub(TRAILER)?;
    image.get(begin..begin.checked_add(length)?)
}

fn number(image: &[u8], offset: usize) -> Option<usize> {
    let bytes = image.get(offset..offset + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_stands_behind_the_setup_code_and_without_its_trailer() {
        let mut image = vec![0; SECTOR * 3];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH] = 7;
        image[SECTOR * 2 + 16..SECTOR * 2 + 23].copy_from_slice(b"abcSIZE");
        assert_eq!(payload(&image), Some(b"abc".as_slice()));
        image[PAYLOAD_LENGTH + 3] = 0x7f;
        assert_eq!(payload(&image), None);
        assert_eq!(payload(b"short"), None);
    }
}
