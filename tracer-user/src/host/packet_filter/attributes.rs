//! Netlink attributes as nf_tables writes them: nested, integers in network byte order.

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};

/// The attributes of a message or of a nested attribute. What does not parse ends them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Type and value of each, in order.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        NlasIterator::new(self.0)
            .map_while(Result::ok)
            .filter_map(|attribute| {
                let end = usize::from(attribute.length());
                let value = attribute.into_inner().get(NLA_HEADER_SIZE..end)?;
                Some((attribute.kind(), value))
            })
    }

    pub fn bytes(self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    pub fn nested(self, kind: u16) -> Option<Self> {
        self.bytes(kind).map(Self)
    }

    /// The elements of the list `kind`, each of which has the attributes of one thing
    /// (`NFTA_LIST_ELEM`).
    pub fn list(self, kind: u16) -> impl Iterator<Item = Self> {
        const ELEMENT: u16 = 1;
        self.nested(kind)
            .unwrap_or_default()
            .iter()
            .filter(|(kind, _)| *kind == ELEMENT)
            .map(|(_, value)| Self(value))
    }

    pub fn byte(self, kind: u16) -> Option<u8> {
        self.bytes(kind)?.first().copied()
    }

    pub fn u16(self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.array(kind)?))
    }

    pub fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.array(kind)?))
    }

    pub fn u64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.array(kind)?))
    }

    /// Up to the first NUL byte; what is not UTF-8 is replaced.
    pub fn text(self, kind: u16) -> Option<String> {
        self.bytes(kind).map(text)
    }

    fn array<const N: usize>(self, kind: u16) -> Option<[u8; N]> {
        self.bytes(kind)?.get(..N)?.try_into().ok()
    }
}

/// A C string; what is not UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> String {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_and_names_are_read_by_type() {
        let bytes = [8, 0, 2, 0, 0, 0, 1, 2, 7, 0, 1, 0x80, b'a', b'b', 0, 0];
        let attributes = Attributes(&bytes);
        assert_eq!(attributes.u32(2), Some(0x102));
        assert_eq!(attributes.text(1).as_deref(), Some("ab"));
        assert_eq!(attributes.u64(2), None);
        assert_eq!(attributes.u32(3), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_gone_through(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Attributes(&bytes).iter().count() <= bytes.len() / 4);
        }
    }
}
