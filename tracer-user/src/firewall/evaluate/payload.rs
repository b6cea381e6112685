//! Bytes of the packet (`nft_payload_eval`).

use std::net::SocketAddr;

use crate::firewall::expression::PayloadBase;
use crate::firewall::packet::Packet;

use super::bits::{Bits, of, unknown};
use super::load::Loaded;
use super::scene::Scene;

const TCP: u8 = 6;
const TCP_HEADER: usize = 20;

/// More than any expression can ask for (`NLA_POLICY_MAX(NLA_BE32, 255)`).
const LONGEST: usize = 256;

pub fn payload(scene: &Scene, base: PayloadBase, offset: u32, length: u32) -> Loaded {
    let length = (length as usize).min(LONGEST);
    let start = offset as usize;
    let header = match base {
        PayloadBase::Network => network(&scene.packet),
        PayloadBase::Transport => transport(&scene.packet),
        PayloadBase::LinkLayer | PayloadBase::Inner => return Loaded::perhaps(length),
    };
    // The TCP header follows the network header, at a distance that IP options can change.
    let present = match base {
        PayloadBase::Network => header.len() + TCP_HEADER,
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
    match (packet.from, packet.to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            // Version; type of service, length and identification are not known.
            let mut header = vec![Bits::partly(0x40, 0xf0)];
            header.extend(unknown(5));
            // A TCP header is only read from packets that are no fragments; the flags before the
            // offset are not known.
            header.extend([Bits::partly(0, 0x1f), Bits::known(0), ttl, Bits::known(TCP)]);
            header.extend(unknown(2));
            header.extend(of(&from.ip().octets()));
            header.extend(of(&to.ip().octets()));
            header
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let mut header = vec![Bits::partly(0x60, 0xf0)];
            header.extend(unknown(5));
            // Linux sends TCP without extension headers unless the socket asks for some.
            header.extend([Bits::known(TCP), ttl]);
            header.extend(of(&from.ip().octets()));
            header.extend(of(&to.ip().octets()));
            header
        }
        _ => unknown(20),
    }
}

fn transport(packet: &Packet) -> Vec<Bits> {
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
