//! The sets of `ipset`, and whether a packet is in one.

use std::collections::HashMap;
use std::net::IpAddr;

mod test;

pub use test::{Ask, contains};

/// Sets by the kernel's index, by which rules refer to them.
pub type IpSets = HashMap<u16, IpSet>;

/// One set as it was listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IpSet {
    pub name: String,
    /// Such as `hash:ip,port`.
    pub kind: String,
    /// Null where it is for both families (`list:set`, `bitmap:port`).
    pub v6: Option<bool>,
    /// Addresses are masked to so many bits before they are looked up.
    pub netmask: Option<u8>,
    pub members: Vec<Member>,
    /// Members end by time.
    pub expires: bool,
    /// Rules add or delete members as packets come (`-j SET`), or it could not be listed whole.
    pub uncertain: bool,
}

/// What the set holds. A part that its kind does not have is `None`; what few kinds have is kept
/// apart, as a set may hold hundreds of thousands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Member {
    pub address: Option<Range>,
    pub second: Option<Range>,
    /// Protocol and port; no protocol in a set of ports alone.
    pub port: Option<(Option<u8>, u16)>,
    pub device: Option<Box<Device>>,
    /// The name of a set in a `list:set`.
    pub set: Option<Box<str>>,
    pub nomatch: bool,
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub address: IpAddr,
    pub prefix: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// The name is the beginning of those meant.
    pub wildcard: bool,
    /// A port of a bridge is meant.
    pub physical: bool,
}

impl Range {
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                (own.to_bits() ^ other.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                (own.to_bits() ^ other.to_bits())
                    .checked_shr(shift)
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}
