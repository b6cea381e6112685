//! What the names in `/proc` say.

use std::io;

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
