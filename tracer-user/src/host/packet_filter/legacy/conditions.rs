//! The conditions that a rule has without any extension.

use super::layout::Layout;
use crate::case::FilterFamily;
use crate::firewall::Expression;
use crate::firewall::expression::Header;
use crate::firewall::fields::Fields;

/// Bytes of an interface's name (`IFNAMSIZ`).
const DEVICE: usize = 16;

/// What the structure before the matches asks for; none where it asks for nothing.
pub fn conditions(layout: &Layout, fixed: Fields) -> Vec<Expression> {
    let read = match layout.family {
        FilterFamily::Ip6 => ip6(fixed),
        FilterFamily::Arp => arp(fixed),
        _ => ip(fixed),
    };
    // The caller has found the structure whole.
    let (header, others) = read.unwrap_or_default();
    let header = (header != Header::default()).then_some(Expression::Header(header));
    header.into_iter().chain(others).collect()
}

type Conditions = (Header, Vec<Expression>);

/// `struct ipt_ip`, as `ip_packet_match` reads it.
fn ip(fields: Fields) -> Option<Conditions> {
    let (flags, inverted) = (fields.u8(82)?, fields.u8(83)?);
    let protocol = protocol(fields.u16(80)?, inverted & 0x40 != 0);
    let header = Header {
        protocol,
        not_protocol: protocol.is_some() && inverted & 0x40 != 0,
        fragments: flags & 0x01 != 0,
        not_fragments: inverted & 0x20 != 0,
        ..header(
            fields,
            &Places {
                length: 4,
                source: (0, 8),
                destination: (4, 12),
                devices: 16,
            },
            &Inverted {
                input: inverted & 0x01 != 0,
                output: inverted & 0x02 != 0,
                source: inverted & 0x08 != 0,
                destination: inverted & 0x10 != 0,
            },
        )?
    };
    Some((header, Vec::new()))
}

/// `struct ip6t_ip6`, as `ip6_packet_match` reads it: it compares no fragments and no class.
fn ip6(fields: Fields) -> Option<Conditions> {
    let (flags, inverted) = (fields.u8(131)?, fields.u8(132)?);
    let asked = flags & 0x01 != 0;
    let protocol = asked
        .then_some(fields.u16(128)?)
        .and_then(|number| protocol(number, inverted & 0x40 != 0));
    let header = Header {
        protocol,
        not_protocol: protocol.is_some() && inverted & 0x40 != 0,
        ..header(
            fields,
            &Places {
                length: 16,
                source: (0, 32),
                destination: (16, 48),
                devices: 64,
            },
            &Inverted {
                input: inverted & 0x01 != 0,
                output: inverted & 0x02 != 0,
                source: inverted & 0x08 != 0,
                destination: inverted & 0x10 != 0,
            },
        )?
    };
    Some((header, Vec::new()))
}

/// `struct arpt_arp`, as `arp_packet_match` reads it. What no [`Header`] can say is left as
/// unknown.
fn arp(fields: Fields) -> Option<Conditions> {
    let inverted = fields.u16(160)?;
    let header = header(
        fields,
        &Places {
            length: 4,
            source: (0, 8),
            destination: (4, 12),
            devices: 94,
        },
        &Inverted {
            input: inverted & 0x01 != 0,
            output: inverted & 0x02 != 0,
            source: inverted & 0x04 != 0,
            destination: inverted & 0x08 != 0,
        },
    )?;
    // Each with the place of its mask and its bit among the inverted.
    let others = [
        ("hardware address length", fields.bytes(17, 1)?, 0x200),
        ("source hardware address", fields.bytes(34, 16)?, 0x10),
        ("target hardware address", fields.bytes(66, 16)?, 0x20),
        ("operation", fields.bytes(84, 2)?, 0x40),
        ("hardware type", fields.bytes(88, 2)?, 0x80),
        ("protocol type", fields.bytes(92, 2)?, 0x100),
    ];
    let others = others
        .into_iter()
        .filter(|(_, mask, bit)| mask.iter().any(|byte| *byte != 0) || inverted & bit != 0)
        .map(|(name, ..)| Expression::Unknown {
            name: format!("arp {name}"),
        });
    Some((header, others.collect()))
}

/// Offsets within a structure.
struct Places {
    /// Bytes of an address.
    length: usize,
    /// Of the address and its mask.
    source: (usize, usize),
    destination: (usize, usize),
    /// Of the input interface's name, followed by the output's and by both their masks.
    devices: usize,
}

struct Inverted {
    input: bool,
    output: bool,
    source: bool,
    destination: bool,
}

fn header(fields: Fields, places: &Places, inverted: &Inverted) -> Option<Header> {
    let address = |(address, mask), inverted| {
        let address = fields.bytes(address, places.length)?;
        let mask = fields.bytes(mask, places.length)?;
        let asked = inverted || address.iter().chain(mask).any(|byte| *byte != 0);
        Some(asked.then(|| (address.to_vec(), mask.to_vec())))
    };
    let device = |number, inverted| {
        let name = fields.bytes(places.devices + number * DEVICE, DEVICE)?;
        let mask = fields.bytes(places.devices + (number + 2) * DEVICE, DEVICE)?;
        Some(device(name, mask, inverted))
    };
    let source = address(places.source, inverted.source)?;
    let destination = address(places.destination, inverted.destination)?;
    let input = device(0, inverted.input)?;
    let output = device(1, inverted.output)?;
    Some(Header {
        not_source: inverted.source,
        not_destination: inverted.destination,
        not_input: inverted.input,
        not_output: inverted.output,
        source,
        destination,
        input,
        output,
        ..Header::default()
    })
}

/// The name to compare with: so much of it as the mask covers, which without its NUL is a prefix.
/// An empty mask asks for nothing, unless its contrary is asked for, which no name is.
fn device(name: &[u8], mask: &[u8], inverted: bool) -> Option<String> {
    let covered = mask.iter().take_while(|byte| **byte == 0xff).count();
    if covered == 0 && !inverted {
        return None;
    }
    let name = &name[..covered.min(name.len())];
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(match memchr::memchr(0, name) {
        Some(end) => text(&name[..end]),
        None => text(name) + "+",
    })
}

/// Null where every protocol will do. No packet has a number above 255: the last of them, which
/// is reserved, stands for those.
fn protocol(number: u16, inverted: bool) -> Option<u8> {
    match (u8::try_from(number), inverted) {
        (Ok(0), _) | (Err(_), true) => None,
        (Ok(number), _) => Some(number),
        (Err(_), false) => Some(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> [u8; DEVICE] {
        let mut bytes = [0; DEVICE];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    fn mask(covered: usize) -> [u8; DEVICE] {
        std::array::from_fn(|at| if at < covered { 0xff } else { 0 })
    }

    #[test]
    fn a_mask_without_the_nul_makes_a_prefix() {
        let device = |text, covered, inverted| device(&name(text), &mask(covered), inverted);
        assert_eq!(device("eth0", 5, false).as_deref(), Some("eth0"));
        assert_eq!(device("eth+", 3, false).as_deref(), Some("eth+"));
        assert_eq!(device("", 0, false), None);
        assert_eq!(device("+", 0, true).as_deref(), Some("+"));
    }

    #[test]
    fn a_protocol_beyond_the_byte_matches_nothing() {
        assert_eq!(protocol(6, false), Some(6));
        assert_eq!(protocol(0, true), None);
        assert_eq!(protocol(262, false), Some(255));
        assert_eq!(protocol(262, true), None);
    }
}
