//! Where an ELF file keeps its constant data.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const LOAD: u32 = 1;
const EXECUTABLE: u32 = 1;
const WRITABLE: u32 = 2;
const MOST_HEADERS: usize = 64;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// The segments that may hold string literals: those that are neither written nor executed, or,
/// where a linker put constants and code together, those that are not written. None for a file
/// that is not an ELF file of this machine's byte order.
pub fn constant_segments(file: &File) -> io::Result<Vec<Segment>> {
    let Some(layout) = Layout::read(file)? else {
        return Ok(Vec::new());
    };
    let mut headers = vec![0; layout.header_size * layout.headers];
    let read = read_up_to(file, &mut headers, layout.headers_at)?;
    let loaded: Vec<(u32, Segment)> = headers[..read]
        .chunks_exact(layout.header_size)
        .filter_map(|header| layout.segment(header))
        .filter(|(flags, _)| flags & WRITABLE == 0)
        .collect();
    let only_read = loaded.iter().any(|(flags, _)| flags & EXECUTABLE == 0);
    Ok(loaded
        .into_iter()
        .filter(|(flags, _)| !only_read || flags & EXECUTABLE == 0)
        .map(|(_, segment)| segment)
        .collect())
}

/// Where the program headers are, and which of both forms they have.
struct Layout {
    wide: bool,
    headers_at: u64,
    header_size: usize,
    headers: usize,
}

impl Layout {
    fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; 64];
        let read = read_up_to(file, &mut bytes, 0)?;
        let native = if cfg!(target_endian = "little") { 1 } else { 2 };
        if read < bytes.len() || !bytes.starts_with(b"\x7fELF") || bytes[5] != native {
            return Ok(None);
        }
        let wide = bytes[4] == 2;
        let (headers_at, header_size, headers) = if wide {
            (u64_at(&bytes, 32), u16_at(&bytes, 54), u16_at(&bytes, 56))
        } else {
            let at = u32_at(&bytes, 28).map(u64::from);
            (at, u16_at(&bytes, 42), u16_at(&bytes, 44))
        };
        let least_size = if wide { 56 } else { 32 };
        Ok(match (headers_at, header_size, headers) {
            (Some(headers_at), Some(size), Some(headers)) if size >= least_size => Some(Self {
                wide,
                headers_at,
                header_size: usize::from(size),
                headers: usize::from(headers).min(MOST_HEADERS),
            }),
            _ => None,
        })
    }

    /// Flags and place of a segment that is loaded.
    fn segment(&self, header: &[u8]) -> Option<(u32, Segment)> {
        if u32_at(header, 0)? != LOAD {
            return None;
        }
        let (flags, offset, length) = if self.wide {
            (u32_at(header, 4)?, u64_at(header, 8)?, u64_at(header, 32)?)
        } else {
            let offset = u64::from(u32_at(header, 4)?);
            (u32_at(header, 24)?, offset, u64::from(u32_at(header, 16)?))
        };
        Some((flags, Segment { offset, length }))
    }
}

/// Fills the bytes as far as the file goes. A place that no file can have is beyond its end.
pub fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(bytes: &[u8]) -> Vec<Segment> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        constant_segments(&File::open(file.path()).expect("open")).expect("read")
    }

    #[test]
    fn our_own_executable_has_constant_segments() {
        let file = File::open("/proc/self/exe").expect("open");
        let segments = constant_segments(&file).expect("read");
        assert!(segments.iter().any(|segment| segment.length > 1000));
    }

    #[test]
    fn a_script_has_none() {
        assert_eq!(segments(b"#!/bin/sh\nexec nginx\n"), vec![]);
    }

    proptest! {
        #[test]
        fn any_bytes_after_the_magic_are_survived(
            class in 0_u8..4,
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.extend_from_slice(&[class, 1]);
            bytes.extend_from_slice(&rest);
            let _ = segments(&bytes);
        }
    }
}
