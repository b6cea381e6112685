//! Ports and flags (`xt_tcpudp.c`, `xt_multiport.c`).

use crate::firewall::fields::Fields;
use crate::firewall::packet::Packet;
use crate::firewall::truth::Truth;

/// `struct xt_tcp`.
pub fn tcp(fields: Fields, packet: &Packet) -> Option<Truth> {
    let inverted = fields.u8(11)?;
    let within = |at, port| {
        let (low, high) = (fields.u16(at)?, fields.u16(at + 2)?);
        Some((low..=high).contains(&port))
    };
    let source = within(0, packet.from.port())? != (inverted & 0x01 != 0);
    let destination = within(4, packet.to.port())? != (inverted & 0x02 != 0);
    let (mask, compared) = (fields.u8(9)?, fields.u8(10)?);
    let flags = (packet.flags & mask == compared) != (inverted & 0x04 != 0);
    // The segment's options are not known.
    let option = match fields.u8(8)? {
        0 => Truth::Yes,
        _ => Truth::Unknown,
    };
    Some(Truth::from(source && destination && flags).and(option))
}

/// How many ports `struct xt_multiport_v1` has room for.
const PORTS: u8 = 15;

/// `struct xt_multiport_v1`.
pub fn multiport(fields: Fields, packet: &Packet) -> Option<Truth> {
    let (from, to) = (packet.from.port(), packet.to.port());
    let ports = match fields.u8(0)? {
        0 => [from; 2],
        1 => [to; 2],
        _ => [from, to],
    };
    let count = fields.u8(1)?.min(PORTS);
    let inverted = fields.u8(47)? != 0;
    let mut fits = false;
    let mut at = 0;
    while at < count {
        let port = |number: u8| fields.u16(2 + 2 * usize::from(number));
        let low = port(at)?;
        if fields.u8(32 + usize::from(at))? != 0 {
            at += 1;
        }
        // A range that begins with the last port has no end.
        let high = port(at.min(PORTS - 1))?;
        fits |= ports.iter().any(|port| (low..=high).contains(port));
        at += 1;
    }
    Some((fits != inverted).into())
}
