//! Messages of nf_tables, their attributes undecoded.
//!
//! The types of the crate netlink-packet-netfilter are not used: an expression with an attribute
//! that the crate does not know the form of fails the whole rule, some hold less than the kernel
//! says, and all of them allocate for every attribute of a ruleset that may be large.

use netlink_packet_core::{
    NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable,
};

use crate::host::packet_filter::attributes::Attributes;

/// `NFT_MSG_*`, of which all answers are the `NEW` ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Tables = 1,
    Chains = 4,
    Rules = 7,
    Sets = 10,
    Elements = 13,
    Generation = 16,
    Objects = 19,
}

/// `struct nfgenmsg` and what follows it.
#[derive(Debug, Clone)]
pub struct Message {
    kind: u16,
    /// `NFPROTO_*`
    pub family: u8,
    attributes: Vec<u8>,
}

/// `struct nfgenmsg`: family, version 0, 16 bits of resource id.
const HEADER: usize = 4;
const SUBSYSTEM: u16 = 10;

impl Message {
    /// Asks for everything, of `family` where it is not 0.
    pub fn asking(request: Request, family: u8) -> Self {
        Self {
            kind: SUBSYSTEM << 8 | request as u16,
            family,
            attributes: Vec::new(),
        }
    }

    /// Appends a name as an attribute.
    pub fn with_name(mut self, kind: u16, name: &[u8]) -> Self {
        let length = name.len() + 1;
        // A name has at most 255 bytes (NFT_NAME_MAXLEN).
        let header = u16::try_from(HEADER + length).unwrap_or(u16::MAX);
        self.attributes.extend(header.to_ne_bytes());
        self.attributes.extend(kind.to_ne_bytes());
        self.attributes.extend(name);
        let padded = self.attributes.len() + 1;
        self.attributes.resize(padded.next_multiple_of(4), 0);
        self
    }

    pub fn attributes(&self) -> Attributes<'_> {
        Attributes(&self.attributes)
    }

    /// Bytes of its attributes.
    pub fn size(&self) -> usize {
        self.attributes.len()
    }
}

/// What is shorter than its header or of another subsystem.
#[derive(Debug, thiserror::Error)]
#[error("not a message of nf_tables")]
pub struct Foreign;

impl NetlinkDeserializable for Message {
    type Error = Foreign;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Foreign> {
        let kind = header.message_type;
        match payload.split_at_checked(HEADER) {
            Some((header, attributes)) if kind >> 8 == SUBSYSTEM => Ok(Self {
                kind,
                family: header[0],
                attributes: attributes.to_vec(),
            }),
            _ => Err(Foreign),
        }
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..HEADER].copy_from_slice(&[self.family, 0, 0, 0]);
        buffer[HEADER..].copy_from_slice(&self.attributes);
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}
