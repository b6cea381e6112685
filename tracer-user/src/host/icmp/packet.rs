//! ICMP errors about TCP segments, out of the bytes that raw sockets deliver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TCP: u8 = 6;
const ICMP_HEADER: usize = 8;
const IPV6_HEADER: usize = 40;

/// So many extension headers are stepped over.
const EXTENSIONS: usize = 8;

/// An ICMP or ICMPv6 error about a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Who sent it.
    pub from: IpAddr,
    pub kind: u8,
    pub code: u8,
    /// Sender and receiver of the segment that it is about, as the sender of the error saw them:
    /// behind a NAT these are other addresses than the socket's.
    pub inner_from: SocketAddr,
    pub inner_to: SocketAddr,
    /// The segment's sequence number, where the quotation reaches that far.
    pub sequence: Option<u32>,
}

/// Reads what an `AF_INET` raw socket delivers: the packet with its IPv4 header. Null for
/// anything but an error about TCP.
pub fn parse_v4(packet: &[u8]) -> Option<IcmpError> {
    let (outer, icmp) = split_v4(packet)?;
    let (inner, segment) = split_v4(icmp.get(ICMP_HEADER..)?)?;
    let fragment = u16::from_be_bytes([inner[6], inner[7]]) & 0x1fff;
    if !matches!(icmp[0], 3 | 11 | 12) || inner[9] != TCP || fragment != 0 {
        return None;
    }
    let address = |header: &[u8], at: usize| {
        let octets: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    error(
        address(outer, 12)?,
        icmp,
        address(inner, 12)?,
        address(inner, 16)?,
        segment,
    )
}

/// Reads what an `AF_INET6` raw socket delivers: the ICMPv6 message alone; its sender comes with
/// the socket address. Null for anything but an error about TCP.
pub fn parse_v6(from: Ipv6Addr, message: &[u8]) -> Option<IcmpError> {
    let inner = message.get(ICMP_HEADER..)?;
    if !matches!(message[0], 1 | 3 | 4) || inner.first()? >> 4 != 6 {
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 16] = inner.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let (sender, receiver) = (address(8)?, address(24)?);
    let segment = segment_v6(inner[6], inner.get(IPV6_HEADER..)?)?;
    error(from.into(), message, sender, receiver, segment)
}

/// The header of an IPv4 packet, with its options, and what it carries.
fn split_v4(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = *packet.first()?;
    let length = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || length < 20 {
        return None;
    }
    packet.split_at_checked(length)
}

/// The TCP segment behind the extension headers of an IPv6 packet.
fn segment_v6(mut next: u8, mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..EXTENSIONS {
        let length = match next {
            TCP => return Some(rest),
            // Hop by hop, routing and destination options count in units of eight bytes.
            0 | 43 | 60 => 8 + usize::from(*rest.get(1)?) * 8,
            // A fragment other than the first has no TCP header.
            44 if u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) >> 3 == 0 => 8,
            _ => return None,
        };
        next = *rest.first()?;
        rest = rest.get(length..)?;
    }
    None
}

fn error(
    from: IpAddr,
    icmp: &[u8],
    sender: IpAddr,
    receiver: IpAddr,
    segment: &[u8],
) -> Option<IcmpError> {
    let port = |at: usize| {
        Some(u16::from_be_bytes(
            segment.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    Some(IcmpError {
        from,
        kind: icmp[0],
        code: *icmp.get(1)?,
        inner_from: SocketAddr::new(sender, port(0)?),
        inner_to: SocketAddr::new(receiver, port(2)?),
        sequence: segment
            .get(4..8)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_be_bytes),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], options: usize) -> Vec<u8> {
        let mut header = vec![0; 20 + options * 4];
        header[0] = 0x45 + options as u8;
        header[9] = protocol;
        header[12..16].copy_from_slice(&from);
        header[16..20].copy_from_slice(&to);
        header
    }

    fn segment(from: u16, to: u16, sequence: u32) -> Vec<u8> {
        let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
        bytes.extend(sequence.to_be_bytes());
        bytes
    }

    fn icmp_v4(kind: u8, code: u8, options: usize, inner: Vec<u8>) -> Vec<u8> {
        let mut packet = ipv4(1, [10, 0, 0, 254], [10, 0, 0, 1], options);
        packet.extend([kind, code, 0, 0, 0, 0, 0, 0]);
        packet.extend(inner);
        packet
    }

    fn quoted_v4(protocol: u8) -> Vec<u8> {
        let mut inner = ipv4(protocol, [10, 0, 0, 1], [192, 0, 2, 7], 0);
        inner.extend(segment(40112, 9101, 0xdead_beef));
        inner
    }

    #[test]
    fn an_icmp_error_names_its_sender_and_the_segment() {
        let expected = IcmpError {
            from: "10.0.0.254".parse().unwrap(),
            kind: 3,
            code: 13,
            inner_from: "10.0.0.1:40112".parse().unwrap(),
            inner_to: "192.0.2.7:9101".parse().unwrap(),
            sequence: Some(0xdead_beef),
        };
        let packet = icmp_v4(3, 13, 2, quoted_v4(TCP));
        assert_eq!(parse_v4(&packet), Some(expected));
        let cut = &packet[..packet.len() - 2];
        assert_eq!(parse_v4(cut).unwrap().sequence, None);
    }

    #[test]
    fn echoes_and_errors_about_others_are_passed_over() {
        assert_eq!(parse_v4(&icmp_v4(8, 0, 0, quoted_v4(TCP))), None);
        assert_eq!(parse_v4(&icmp_v4(3, 3, 0, quoted_v4(17))), None);
        let mut fragment = quoted_v4(TCP);
        fragment[7] = 1;
        assert_eq!(parse_v4(&icmp_v4(3, 3, 0, fragment)), None);
    }

    #[test]
    fn an_icmpv6_error_is_read_behind_extension_headers() {
        let mut message = vec![1, 4, 0, 0, 0, 0, 0, 0];
        let mut inner = vec![0; IPV6_HEADER];
        inner[0] = 0x60;
        inner[23] = 1;
        inner[39] = 2;
        // Destination options of sixteen bytes, then an unfragmented fragment header.
        inner[6] = 60;
        message.extend(inner);
        message.extend([44, 1]);
        message.extend([0; 14]);
        message.extend([TCP, 0, 0, 0, 0, 0, 0, 0]);
        message.extend(segment(1, 2, 3));
        let parsed = parse_v6("fd00::fe".parse().unwrap(), &message).unwrap();
        assert_eq!(parsed.from, "fd00::fe".parse::<IpAddr>().unwrap());
        assert_eq!(parsed.inner_from, "[::1]:1".parse().unwrap());
        assert_eq!(parsed.inner_to, "[::2]:2".parse().unwrap());
        assert_eq!((parsed.kind, parsed.code), (1, 4));
        assert_eq!(parsed.sequence, Some(3));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse_v4(&bytes);
            let _ = parse_v6(Ipv6Addr::LOCALHOST, &bytes);
        }

        #[test]
        fn a_truncated_error_is_survived(length in 0usize..56, flipped in 0usize..56, bits: u8) {
            let mut packet = icmp_v4(3, 3, 0, quoted_v4(TCP));
            packet[flipped] ^= bits;
            let _ = parse_v4(&packet[..length]);
        }
    }
}
