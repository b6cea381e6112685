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

/// Undoes the kernel's `\040` for blanks and the like (`mangle_path`).
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut left = field;
    while let Some((&byte, rest)) = left.split_first() {
        let octal = rest
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(octal.unwrap_or(byte));
        left = if octal.is_some() { &rest[3..] } else { rest };
    }
    plain
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
