//! `ip_packet_match` and `ip6_packet_match`.

use std::net::IpAddr;

use crate::firewall::expression::Header;
use crate::firewall::packet::{Packet, Side};
use crate::firewall::truth::Truth;

pub fn holds(header: &Header, packet: &Packet) -> Truth {
    let ends = [
        (&header.source, packet.from, header.not_source),
        (&header.destination, packet.to, header.not_destination),
    ];
    let ends = ends.into_iter().filter_map(|(asked, end, not)| {
        let (address, mask) = asked.as_ref()?;
        Some(Truth::from(covers(address, mask, end.ip()) != not))
    });
    let sides = [
        (&header.input, &packet.input, header.not_input),
        (&header.output, &packet.output, header.not_output),
    ];
    let sides = sides.into_iter().filter_map(|(asked, side, not)| {
        let truth = at_interface(asked.as_ref()?, side);
        Some(if not { truth.not() } else { truth })
    });
    let protocol = header
        .protocol
        .is_none_or(|number| (Some(number) == packet.kind.protocol()) != header.not_protocol);
    // A segment that opens a connection is no fragment.
    let fragment = header.fragments == header.not_fragments;
    ends.chain(sides)
        .chain([protocol.into(), fragment.into()])
        .fold(Truth::Yes, Truth::and)
}

fn covers(asked: &[u8], mask: &[u8], address: IpAddr) -> bool {
    let covers = |octets: &[u8]| {
        let masked = octets.iter().zip(mask).map(|(octet, mask)| octet & mask);
        asked.len() == octets.len()
            && mask.len() == octets.len()
            && masked.eq(asked.iter().copied())
    };
    match address.to_canonical() {
        IpAddr::V4(address) => covers(&address.octets()),
        IpAddr::V6(address) => covers(&address.octets()),
    }
}

/// A hook without that side has an empty name there, which only a bare `+` fits.
fn at_interface(asked: &str, side: &Side) -> Truth {
    let name = match side {
        Side::Unknown if asked == "+" => return Truth::Yes,
        Side::Unknown => return Truth::Unknown,
        Side::Absent => "",
        Side::Device { name, .. } => name,
    };
    match asked.strip_suffix('+') {
        Some(beginning) => name.starts_with(beginning).into(),
        None => (name == asked).into(),
    }
}
