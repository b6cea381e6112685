//! A packet as far as it is known.

mod seen;

pub use seen::Seen;

use std::net::{Ipv6Addr, SocketAddr};

/// A packet at a hook. What is `None` is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    pub kind: Kind,
    /// Of ARP the sender's address of the protocol, and below the target's; ports are 0 but for
    /// TCP.
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// The namespace owns the address of `from`; null where not known.
    pub from_local: Option<bool>,
    /// The same of `to`.
    pub to_local: Option<bool>,
    /// The flag byte of the TCP header; like the sequence number 0 but for TCP.
    pub flags: u8,
    pub sequence: u32,
    pub ttl: Option<u8>,
    pub mark: Option<u32>,
    pub input: Side,
    pub output: Side,
    pub owner: Owner,
    pub conntrack: Conntrack,
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A TCP segment.
    Segment,
    /// An ARP packet for IPv4 over Ethernet, a request or a reply.
    Arp { reply: bool },
    /// A neighbour solicitation or advertisement about `target`.
    Discovery {
        advertisement: bool,
        target: Ipv6Addr,
    },
}

impl Kind {
    /// The number of the protocol that IP carries; null for ARP.
    pub const fn protocol(self) -> Option<u8> {
        const TCP: u8 = 6;
        const ICMPV6: u8 = 58;
        match self {
            Self::Segment => Some(TCP),
            Self::Discovery { .. } => Some(ICMPV6),
            Self::Arp { .. } => None,
        }
    }

    /// The type of the ICMPv6 message; null where it is none.
    pub const fn icmpv6(self) -> Option<u8> {
        match self {
            Self::Discovery {
                advertisement: false,
                ..
            } => Some(135),
            Self::Discovery { .. } => Some(136),
            _ => None,
        }
    }

    pub const fn is_arp(self) -> bool {
        matches!(self, Self::Arp { .. })
    }
}

/// An interface, as one end of the packet's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// There may be one, which is not known.
    Unknown,
    /// There is none at this hook.
    Absent,
    Device {
        index: u32,
        name: String,
    },
}

/// The socket that a hook sees with the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Unknown,
    /// The packet has no socket at this hook.
    Absent,
    User {
        uid: u32,
        gid: Option<u32>,
    },
}

/// What connection tracking says of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conntrack {
    pub state: Option<State>,
    /// The packet goes in the direction of the connection's first; null where not known.
    pub original: Option<bool>,
    pub mark: Option<u32>,
    /// The destination was translated (`IPS_DST_NAT`); null where not known.
    pub destination_translated: Option<bool>,
    /// The original direction's destination, where known.
    pub dialled: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    New,
    Established,
    Related,
    Invalid,
    Untracked,
}
