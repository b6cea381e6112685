//! Small files of `/proc`, read with a bound.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The first `limit` bytes of the file. Opened without blocking, as a path below another
/// process's root may name anything.
pub fn read_capped(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The pids that `/proc` lists, in its order. With `hidepid` these are the visible ones only.
pub fn pids() -> io::Result<impl Iterator<Item = u32>> {
    Ok(std::fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// The inode in a link text such as `net:[4026531840]` or `socket:[8301]`.
pub fn inode_of_link(link: &[u8], kind: &str) -> Option<u64> {
    let inner = link
        .strip_prefix(kind.as_bytes())?
        .strip_prefix(b":[")?
        .strip_suffix(b"]")?;
    std::str::from_utf8(inner).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_stops_at_its_limit() {
        assert_eq!(read_capped("/proc/self/status", 5).unwrap(), b"Name:");
    }

    #[test]
    fn a_link_of_another_kind_has_no_inode() {
        assert_eq!(inode_of_link(b"socket:[8301]", "socket"), Some(8301));
        assert_eq!(inode_of_link(b"pipe:[8301]", "socket"), None);
        assert_eq!(inode_of_link(b"socket:[]", "socket"), None);
    }

    #[test]
    fn this_process_is_listed() {
        assert!(pids().unwrap().any(|pid| pid == std::process::id()));
    }
}
