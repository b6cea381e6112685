//! Fields of the kernel's structures, read by their offset.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes that the kernel laid out as a structure. What lies beyond their end is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(length)?)
    }

    pub fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_ne_bytes)
    }

    pub fn u16_be(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    pub fn i32(self, at: usize) -> Option<i32> {
        self.array(at).map(i32::from_ne_bytes)
    }

    pub fn u64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_ne_bytes)
    }

    pub fn ipv4(self, at: usize) -> Option<Ipv4Addr> {
        self.array::<4>(at).map(Ipv4Addr::from)
    }

    /// `union nf_inet_addr`, sixteen bytes of which IPv4 takes the first four.
    pub fn address(self, at: usize, v6: bool) -> Option<IpAddr> {
        let whole = self.array::<16>(at)?;
        if v6 {
            return Some(Ipv6Addr::from(whole).into());
        }
        self.ipv4(at).map(IpAddr::from)
    }

    /// The text in a field of `length` bytes, up to its NUL.
    pub fn text(self, at: usize, length: usize) -> Option<String> {
        let field = self.bytes(at, length)?;
        let end = memchr::memchr(0, field).unwrap_or(field.len());
        Some(String::from_utf8_lossy(&field[..end]).into_owned())
    }

    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes(at, N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beyond_the_end_is_not_read() {
        let fields = Fields(&[1, 0, 0]);
        assert_eq!(fields.u8(2), Some(0));
        assert_eq!(fields.u16(2), None);
        assert_eq!(fields.bytes(usize::MAX, 2), None);
        assert_eq!(fields.text(0, 3).as_deref(), Some("\u{1}"));
    }
}
