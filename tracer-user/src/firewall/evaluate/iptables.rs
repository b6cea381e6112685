//! The parts of iptables rules: header, matches, targets.
//!
//! This is the seam to the extensions: [`matches`] and [`target`] say what is known of them.

use crate::case::Action;
use crate::firewall::expression::{Extension, Header};
use crate::firewall::packet::{Packet, Side};
use crate::firewall::truth::Truth;

/// What a target does.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetEffect {
    Ends(Action),
    /// `XT_CONTINUE`.
    Continues,
    /// Takes the bits of `mask` from `value` into `skb->mark`.
    SetsMark {
        value: u32,
        mask: u32,
    },
    /// Not known: it can end the packet's way and need not.
    Unknown,
}

/// `ip_packet_match`, `ip6_packet_match`.
pub fn header(header: &Header, packet: &Packet) -> Truth {
    let inverted = |truth: Truth, not| if not { truth.not() } else { truth };
    let source = address(header.source.as_ref(), packet.from);
    let destination = address(header.destination.as_ref(), packet.to);
    let input = interface(header.input.as_deref(), &packet.input);
    let output = interface(header.output.as_deref(), &packet.output);
    let protocol = Truth::from(header.protocol.is_none_or(|protocol| protocol == TCP));
    let fragment = Truth::from(!header.fragments || header.not_fragments);
    inverted(source, header.not_source)
        .and(inverted(destination, header.not_destination))
        .and(inverted(input, header.not_input))
        .and(inverted(output, header.not_output))
        .and(inverted(protocol, header.not_protocol))
        .and(fragment)
}

pub fn matches(_extension: &Extension, _packet: &Packet) -> Truth {
    Truth::Unknown
}

pub fn target(_extension: &Extension, _packet: &Packet) -> TargetEffect {
    TargetEffect::Unknown
}

const TCP: u8 = 6;

fn address(wanted: Option<&(Vec<u8>, Vec<u8>)>, has: std::net::SocketAddr) -> Truth {
    let Some((address, mask)) = wanted else {
        return Truth::Yes;
    };
    let octets = match has.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    if octets.len() != address.len() || octets.len() != mask.len() {
        return Truth::No;
    }
    let same = octets
        .iter()
        .zip(mask)
        .zip(address)
        .all(|((octet, mask), wanted)| octet & mask == *wanted);
    same.into()
}

/// A packet without a device there has an empty name (`nulldevname`).
fn interface(wanted: Option<&str>, side: &Side) -> Truth {
    let Some(wanted) = wanted else {
        return Truth::Yes;
    };
    let name = match side {
        Side::Unknown => return Truth::Unknown,
        Side::Absent => "",
        Side::Device { name, .. } => name,
    };
    match wanted.strip_suffix('+') {
        Some(beginning) => name.starts_with(beginning).into(),
        None => (name == wanted).into(),
    }
}
