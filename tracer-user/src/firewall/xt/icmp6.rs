//! Messages of ICMPv6 (`icmp6_match`).

use crate::firewall::fields::Fields;
use crate::firewall::packet::Packet;
use crate::firewall::truth::Truth;

/// `struct ip6t_icmp`: a type, the range of its codes, and whether others are meant. The codes of
/// neighbour discovery are 0.
pub fn message(fields: Fields, packet: &Packet) -> Option<Truth> {
    const CODE: u8 = 0;
    let (kind, first, last) = (fields.u8(0)?, fields.u8(1)?, fields.u8(2)?);
    let inverted = fields.u8(3)? & 1 != 0;
    let Some(message) = packet.kind.icmpv6() else {
        return Some(Truth::No);
    };
    let fits = kind == message && (first..=last).contains(&CODE);
    Some((fits != inverted).into())
}
