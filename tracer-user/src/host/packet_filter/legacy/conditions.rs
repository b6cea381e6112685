//! The conditions that a rule has without any extension.

use super::layout::Layout;
use crate::case::FilterFamily;
use crate::firewall::expression::{Expression, Header, Operator, PayloadBase, Register};
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

/// `struct arpt_arp`, as `arp_packet_match` reads it. What no [`Header`] can say is asked of the
/// packet's bytes.
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
    // Their places in the packet and in the structure, those of their masks, how long they are, and
    // their bits among the inverted. Of hardware addresses those of Ethernet are compared.
    const HARDWARE: usize = 6;
    const OTHERS: [(u32, usize, usize, usize, u16); 6] = [
        (4, 16, 17, 1, 0x200),
        (8, 18, 34, HARDWARE, 0x10),
        (18, 50, 66, HARDWARE, 0x20),
        (6, 82, 84, 2, 0x40),
        (0, 86, 88, 2, 0x80),
        (2, 90, 92, 2, 0x100),
    ];
    let mut others = Vec::new();
    for (at, value, mask, length, bit) in OTHERS {
        let (value, mask) = (fields.bytes(value, length)?, fields.bytes(mask, length)?);
        let negated = inverted & bit != 0;
        // `arp_devaddr_compare` masks both sides.
        let value: Vec<u8> = match length {
            HARDWARE => value
                .iter()
                .zip(mask)
                .map(|(one, mask)| one & mask)
                .collect(),
            _ => value.to_vec(),
        };
        if negated || value.iter().chain(mask).any(|byte| *byte != 0) {
            others.extend(masked(at, value, mask, negated));
        }
    }
    Some((header, others))
}

/// Asks for bytes of the packet's header.
fn masked(offset: u32, value: Vec<u8>, mask: &[u8], negated: bool) -> Vec<Expression> {
    const A: Register = Register(0);
    let mut asked = vec![Expression::Payload {
        base: PayloadBase::Network,
        offset,
        length: u32::try_from(value.len()).unwrap_or(u32::MAX),
        to: A,
    }];
    if mask.iter().any(|byte| *byte != 0xff) {
        asked.push(Expression::Mask {
            from: A,
            to: A,
            mask: mask.to_vec(),
            xor: vec![0; mask.len()],
        });
    }
    asked.push(Expression::Compare {
        operator: match negated {
            true => Operator::NotEqual,
            false => Operator::Equal,
        },
        from: A,
        data: value,
    });
    asked
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
