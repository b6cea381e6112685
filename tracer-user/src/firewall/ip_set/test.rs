//! Looking a packet up in a set (`ip_set_test` and the `kadt` functions of the kinds).

use std::net::SocketAddr;

use super::{Device, IpSet, IpSets, Member, Range};
use crate::firewall::packet::{Packet, Side};
use crate::firewall::truth::Truth;

/// Lists may hold lists only one deep (`list_set_uadd` refuses more); this many bounds them here.
const DEEPEST: u8 = 2;

const TCP: u8 = 6;

/// How a rule looks a packet up.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// How many of `src` and `dst` the rule names.
    pub dimensions: u8,
    /// Bit n: the n-th of them is `src` (`IPSET_DIM_ONE_SRC` is bit 1).
    pub sources: u8,
    /// `--return-nomatch`.
    pub return_nomatch: bool,
}

impl Ask {
    fn source(self, dimension: u8) -> bool {
        self.sources & (1 << dimension) != 0
    }
}

/// Whether the packet is in the set, with what leaves it in doubt.
pub fn contains(sets: &IpSets, index: u16, ask: Ask, packet: &Packet) -> (Truth, Option<String>) {
    look(sets, index, ask, packet, DEEPEST)
}

fn look(sets: &IpSets, index: u16, ask: Ask, packet: &Packet, deep: u8) -> (Truth, Option<String>) {
    let Some(set) = sets.get(&index) else {
        return unknown(format!("ipset {index} was not read"));
    };
    if set.uncertain {
        return unknown(format!("ipset {} may have been different", set.name));
    }
    let Some(parts) = parts(&set.kind) else {
        return unknown(format!("ipset {} is of kind {}", set.name, set.kind));
    };
    let of_family = set
        .v6
        .is_none_or(|v6| v6 == packet.to.ip().to_canonical().is_ipv6());
    // `ip_set_test`: too few directions, or the other family, is no match.
    if usize::from(ask.dimensions) < parts.len() || !of_family {
        return (Truth::No, None);
    }
    let found = if parts == [Part::Set] {
        list(sets, set, ask, packet, deep)
    } else {
        found(set, parts, ask, packet)
    };
    match found {
        (Truth::No, None) if set.expires => {
            unknown(format!("a member of ipset {} may have expired", set.name))
        }
        other => other,
    }
}

fn unknown(why: String) -> (Truth, Option<String>) {
    (Truth::Unknown, Some(why))
}

/// What a kind looks at, in the order of a rule's directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Address,
    Second,
    Port,
    Device,
    Set,
}

fn parts(kind: &str) -> Option<&'static [Part]> {
    use Part::{Address, Device, Port, Second, Set};
    Some(match kind {
        "hash:ip" | "hash:net" | "bitmap:ip" => &[Address],
        "hash:ip,port" | "hash:net,port" => &[Address, Port],
        "hash:ip,port,ip" | "hash:ip,port,net" | "hash:net,port,net" => &[Address, Port, Second],
        "hash:net,net" => &[Address, Second],
        "hash:net,iface" => &[Address, Device],
        "bitmap:port" => &[Port],
        "list:set" => &[Set],
        _ => return None,
    })
}

/// The members are tried in order; the first that contains the packet ends it
/// (`list_set_ktest`).
fn list(
    sets: &IpSets,
    set: &IpSet,
    ask: Ask,
    packet: &Packet,
    deep: u8,
) -> (Truth, Option<String>) {
    let mut doubt = None;
    for name in set.members.iter().filter_map(|member| member.set.as_ref()) {
        let member = sets.iter().find(|(_, set)| *set.name == **name);
        let (truth, why) = match member {
            Some((index, _)) if deep > 0 => look(sets, *index, ask, packet, deep - 1),
            _ => unknown(format!("ipset {name} was not read")),
        };
        match truth {
            Truth::Yes => return (Truth::Yes, None),
            Truth::Unknown => doubt = doubt.or(why),
            Truth::No => {}
        }
    }
    match doubt {
        Some(why) => unknown(why),
        None => (Truth::No, None),
    }
}

/// The longest prefix wins, of the first address before the second (`mtype_test_cidrs`).
fn found(set: &IpSet, parts: &[Part], ask: Ask, packet: &Packet) -> (Truth, Option<String>) {
    let holds = |member: &Member, parts: &[Part]| {
        parts
            .iter()
            .zip(1u8..)
            .map(|(part, dimension)| holds(set, *part, ask.source(dimension), member, packet))
            .fold(Truth::Yes, Truth::and)
    };
    // A network that is there for some interface hides the shorter ones from every other
    // (`multi` in `hash_netiface4_data_equal`).
    let at_least = if parts.contains(&Part::Device) {
        let nets = set.members.iter();
        let nets = nets.filter(|member| holds(member, &parts[..1]) == Truth::Yes);
        nets.map(length).max().unwrap_or_default()
    } else {
        (0, 0)
    };
    let mut best: Option<&Member> = None;
    let mut doubt = false;
    for member in set
        .members
        .iter()
        .filter(|member| length(member) >= at_least)
    {
        let truth = holds(member, parts);
        doubt |= truth == Truth::Unknown;
        let longer = best.is_none_or(|best| length(member) > length(best));
        if truth == Truth::Yes && longer {
            best = Some(member);
        }
    }
    if doubt {
        return unknown(format!("the interface that ipset {} asks for", set.name));
    }
    let nomatch = best.map(|member| member.nomatch);
    let has_nomatch = set.kind.contains("net");
    let truth = match nomatch {
        None => Truth::No,
        Some(nomatch) if ask.return_nomatch && has_nomatch => nomatch.into(),
        Some(nomatch) => (!nomatch).into(),
    };
    (truth, None)
}

fn length(member: &Member) -> (u8, u8) {
    let prefix = |range: Option<Range>| range.map_or(0, |range| range.prefix);
    (prefix(member.address), prefix(member.second))
}

fn holds(set: &IpSet, part: Part, source: bool, member: &Member, packet: &Packet) -> Truth {
    let end = if source { packet.from } else { packet.to };
    match part {
        Part::Address => member
            .address
            .is_some_and(|range| within(set, range, end))
            .into(),
        Part::Second => member
            .second
            .is_some_and(|range| range.contains(end.ip()))
            .into(),
        Part::Port => member
            .port
            .is_some_and(|(protocol, port)| {
                protocol.is_none_or(|protocol| protocol == TCP) && port == end.port()
            })
            .into(),
        Part::Device => {
            let side = if source {
                &packet.input
            } else {
                &packet.output
            };
            member
                .device
                .as_ref()
                .map_or(Truth::No, |device| at_device(device, side))
        }
        Part::Set => Truth::Unknown,
    }
}

/// A set with a netmask holds networks where it seems to hold addresses.
fn within(set: &IpSet, range: Range, end: SocketAddr) -> bool {
    let prefix = set
        .netmask
        .map_or(range.prefix, |mask| mask.min(range.prefix));
    Range { prefix, ..range }.contains(end.ip())
}

fn at_device(device: &Device, side: &Side) -> Truth {
    match side {
        _ if device.physical => Truth::Unknown,
        Side::Unknown => Truth::Unknown,
        Side::Absent => Truth::No,
        Side::Device { name, .. } if device.wildcard => name.starts_with(&device.name).into(),
        Side::Device { name, .. } => (*name == device.name).into(),
    }
}
