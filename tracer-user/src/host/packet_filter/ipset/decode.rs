//! Attributes of a listed set (`include/uapi/linux/netfilter/ipset/ip_set.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NlasIterator;

use crate::firewall::ip_set::{Device, IpSet, Member, Range};

const SETNAME: u16 = 2;
const TYPENAME: u16 = 3;
const FAMILY: u16 = 5;
const DATA: u16 = 7;
const ADT: u16 = 8;
const INDEX: u16 = 11;

/// Within `DATA`.
const IP: u16 = 1;
const CIDR: u16 = 3;
const PORT: u16 = 4;
const TIMEOUT: u16 = 6;
const PROTO: u16 = 7;
const CADT_FLAGS: u16 = 8;
const BITMASK: u16 = 12;
const NAME: u16 = 18;
const IP2: u16 = 20;
const CIDR2: u16 = 21;
const IFACE: u16 = 23;
/// Of a set, where `NAME` and its neighbours belong to members.
const NETMASK: u16 = 20;

/// Bytes of an attribute before its value.
const HEADER: usize = 4;

const PHYSDEV: u32 = 1 << 1;
const NOMATCH: u32 = 1 << 2;
const WILDCARD: u32 = 1 << 7;

/// Kind, without its flags, and value.
pub type Attribute = (u16, Vec<u8>);

/// Index and description of the set that a listing begins with.
pub fn head(attributes: &[Attribute]) -> Option<(u16, IpSet)> {
    let index = number::<2>(find(attributes, INDEX)?).map(u16::from_be_bytes)?;
    let family = find(attributes, FAMILY).and_then(|value| value.first().copied());
    let data = nested(find(attributes, DATA).unwrap_or_default());
    let netmask = value(&data, NETMASK).and_then(|value| value.first().copied());
    let set = IpSet {
        name: text(find(attributes, SETNAME)?),
        kind: text(find(attributes, TYPENAME)?),
        v6: match family {
            Some(2) => Some(false),
            Some(10) => Some(true),
            _ => None,
        },
        netmask,
        members: Vec::new(),
        expires: value(&data, TIMEOUT).is_some(),
        // A mask with holes is compared as no prefix can be.
        uncertain: netmask.is_none() && value(&data, BITMASK).is_some(),
    };
    Some((index, set))
}

/// The members in one message of a listing.
pub fn members(attributes: &[Attribute]) -> Vec<Member> {
    let Some(listed) = find(attributes, ADT) else {
        return Vec::new();
    };
    nested(listed)
        .into_iter()
        .filter(|(kind, _)| *kind == DATA)
        .map(|(_, data)| member(&nested(data)))
        .collect()
}

/// The name in an answer.
pub fn name(attributes: &[Attribute]) -> Option<String> {
    find(attributes, SETNAME).map(text)
}

fn member(data: &[(u16, &[u8])]) -> Member {
    let byte = |kind| value(data, kind).and_then(|value| value.first().copied());
    let range = |address, prefix| {
        let address = ip(value(data, address)?)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = byte(prefix).unwrap_or(whole);
        Some(Range { address, prefix })
    };
    let flags = value(data, CADT_FLAGS)
        .and_then(number)
        .map_or(0, u32::from_be_bytes);
    let port = value(data, PORT).and_then(number).map(u16::from_be_bytes);
    Member {
        address: range(IP, CIDR),
        second: range(IP2, CIDR2),
        port: port.map(|port| (byte(PROTO), port)),
        device: value(data, IFACE).map(|name| {
            Box::new(Device {
                name: text(name),
                wildcard: flags & WILDCARD != 0,
                physical: flags & PHYSDEV != 0,
            })
        }),
        set: value(data, NAME).map(|name| text(name).into()),
        nomatch: flags & NOMATCH != 0,
    }
}

/// `IPSET_ATTR_IPADDR_IPV4` or `_IPV6` within.
fn ip(address: &[u8]) -> Option<IpAddr> {
    match nested(address).first()? {
        (1, octets) => Some(Ipv4Addr::from(number::<4>(octets)?).into()),
        (2, octets) => Some(Ipv6Addr::from(number::<16>(octets)?).into()),
        _ => None,
    }
}

fn find(attributes: &[Attribute], kind: u16) -> Option<&[u8]> {
    attributes
        .iter()
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value.as_slice())
}

/// Attributes within an attribute, as far as they make sense.
fn nested(value: &[u8]) -> Vec<(u16, &[u8])> {
    NlasIterator::new(value)
        .map_while(Result::ok)
        .filter_map(|attribute| {
            let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
            let value = attribute.into_inner().get(HEADER..end)?;
            Some((kind, value))
        })
        .collect()
}

fn value<'a>(data: &[(u16, &'a [u8])], wanted: u16) -> Option<&'a [u8]> {
    data.iter()
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| *value)
}

fn number<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.get(..N)?.try_into().ok()
}

fn text(value: &[u8]) -> String {
    let end = memchr::memchr(0, value).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}
