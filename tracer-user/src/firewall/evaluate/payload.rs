//! Bytes of the packet (`nft_payload_eval`).

use std::net::SocketAddr;

use crate::firewall::expression::PayloadBase;
use crate::firewall::packet::{Kind, Packet};

use super::bits::{Bits, of, unknown};
use super::load::Loaded;
use super::scene::Scene;

/// More than any expression can ask for (`NLA_POLICY_MAX(NLA_BE32, 255)`).
const LONGEST: usize = 256;

pub fn payload(scene: &Scene, base: PayloadBase, offset: u32, length: u32) -> Loaded {
    let length = (length as usize).min(LONGEST);
    let start = offset as usize;
    let header = match base {
        PayloadBase::Network => network(&scene.packet),
        // `nft_set_pktinfo_unspec` knows none.
        PayloadBase::Transport if scene.packet.kind.is_arp() => return Loaded::fails(),
        PayloadBase::Transport => transport(&scene.packet),
        PayloadBase::LinkLayer | PayloadBase::Inner => return Loaded::perhaps(length),
    };
    // The transport header follows the network header, at a distance that IP options can change.
    let present = match base {
        PayloadBase::Network => header.len() + transport(&scene.packet).len(),
        _ => header.len(),
    };
    let end = start.saturating_add(length);
    if end > present {
        return Loaded::perhaps(length);
    }
    let bytes = (start..end)
        .map(|at| header.get(at).copied().unwrap_or(Bits::UNKNOWN))
        .collect();
    Loaded::bytes(bytes)
}

fn network(packet: &Packet) -> Vec<Bits> {
    let ttl = packet.ttl.map_or(Bits::UNKNOWN, Bits::known);
    let protocol = packet.kind.protocol();
    let protocol = protocol.map_or(Bits::UNKNOWN, Bits::known);
    match (packet.from, packet.to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) if packet.kind.is_arp() => {
            // Ethernet and IPv4, and the lengths of their addresses: the only kind that is seen.
            let mut header = of(&[0, 1, 8, 0, 6, 4, 0]);
            let reply = packet.kind == Kind::Arp { reply: true };
            header.push(Bits::known(if reply { 2 } else { 1 }));
            header.extend(unknown(6));
            header.extend(of(&from.ip().octets()));
            header.extend(unknown(6));
            header.extend(of(&to.ip().octets()));
            header
        }
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            // Version; type of service, length and identification are not known.
            let mut header = vec![Bits::partly(0x40, 0xf0)];
            header.extend(unknown(5));
            // A TCP header is only read from packets that are no fragments; the flags before the
            // offset are not known.
            header.extend([Bits::partly(0, 0x1f), Bits::known(0), ttl, protocol]);
            header.extend(unknown(2));
            header.extend(of(&from.ip().octets()));
            header.extend(of(&to.ip().octets()));
            header
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let mut header = vec![Bits::partly(0x60, 0xf0)];
            header.extend(unknown(5));
            // Linux sends TCP without extension headers unless the socket asks for some; messages
            // of neighbour discovery that have some are not seen.
            header.extend([protocol, ttl]);
            header.extend(of(&from.ip().octets()));
            header.extend(of(&to.ip().octets()));
            header
        }
        _ => unknown(20),
    }
}

fn transport(packet: &Packet) -> Vec<Bits> {
    match packet.kind {
        Kind::Segment => segment(packet),
        Kind::Arp { .. } => Vec::new(),
        Kind::Discovery { target, .. } => {
            let message = packet.kind.icmpv6();
            let mut header = vec![message.map_or(Bits::UNKNOWN, Bits::known), Bits::known(0)];
            // Checksum, flags and what is reserved.
            header.extend(unknown(6));
            header.extend(of(&target.octets()));
            header
        }
    }
}

fn segment(packet: &Packet) -> Vec<Bits> {
    let mut header = of(&packet.from.port().to_be_bytes());
    header.extend(of(&packet.to.port().to_be_bytes()));
    header.extend(of(&packet.sequence.to_be_bytes()));
    // Acknowledgement and data offset.
    header.extend(unknown(5));
    header.push(Bits::known(packet.flags));
    // Window, checksum, urgent pointer.
    header.extend(unknown(6));
    header
}
