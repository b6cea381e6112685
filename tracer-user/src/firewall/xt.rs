//! Extensions of iptables ("xt" matches and targets), for one packet.
//!
//! The structures are those of `include/uapi/linux/netfilter*/`, of 64-bit kernels; an extension
//! of another size than its revision's is not known.

use crate::case::{FilterFamily, Hook};
use crate::firewall::expression::{Extension, Header};
use crate::firewall::fields::Fields;
use crate::firewall::ip_set::IpSets;
use crate::firewall::packet::{Kind, Packet, Side};
use crate::firewall::truth::Truth;

mod addresses;
mod addrtype;
mod conntrack;
mod header;
mod icmp6;
mod interfaces;
mod nat;
mod owner;
mod ports;
mod segment;
mod set;
mod target;

pub use set::{changed_sets, tested_sets};
pub use target::TargetEffect;

/// Where a packet stands as a match looks at it.
struct View<'p> {
    packet: &'p Packet,
    v6: bool,
    hook: Hook,
}

impl View<'_> {
    /// The packet goes over the loopback interface.
    fn loops(&self) -> bool {
        let is_lo = |side: &Side| matches!(side, Side::Device { name, .. } if name == "lo");
        is_lo(&self.packet.input) || is_lo(&self.packet.output)
    }
}

/// Whether a match holds for the packet at that hook, with what leaves it in doubt.
pub fn matches(
    extension: &Extension,
    packet: &Packet,
    family: FilterFamily,
    hook: Hook,
    sets: &IpSets,
) -> (Truth, Option<String>) {
    let view = View {
        packet,
        v6: v6(packet, family),
        hook,
    };
    let (truth, doubt) = match extension.name.as_str() {
        "set" if packet.kind == Kind::Segment => set::matches(extension, packet, sets),
        _ => (known(extension, &view).unwrap_or(Truth::Unknown), None),
    };
    match truth {
        Truth::Unknown => (truth, Some(doubt.unwrap_or_else(|| described(extension)))),
        decided => (decided, None),
    }
}

/// Whether the header part of an iptables rule holds for the packet.
pub fn header(header: &Header, packet: &Packet) -> Truth {
    header::holds(header, packet)
}

/// What a target does with the packet at that hook.
pub fn target(
    extension: &Extension,
    packet: &Packet,
    family: FilterFamily,
    hook: Hook,
) -> TargetEffect {
    let view = View {
        packet,
        v6: v6(packet, family),
        hook,
    };
    target::effect(extension, &view).unwrap_or(TargetEffect::Unknown)
}

fn v6(packet: &Packet, family: FilterFamily) -> bool {
    match family {
        FilterFamily::Ip => false,
        FilterFamily::Ip6 => true,
        _ => packet.to.ip().to_canonical().is_ipv6(),
    }
}

/// What a packet without IP options or extension headers decides; null where the extension, its
/// revision or its size is not known.
fn known(extension: &Extension, view: &View) -> Option<Truth> {
    let fields = Fields(&extension.data);
    let packet = view.packet;
    if packet.kind != Kind::Segment {
        match extension.name.as_str() {
            "icmp6" => return icmp6::message(fields, packet),
            "tcp" => return Some(Truth::No),
            // They look at ports, at the length or at groups.
            "multiport" | "length" | "addrtype" | "pkttype" | "policy" => return None,
            _ => {}
        }
    }
    match (extension.name.as_str(), extension.revision) {
        ("comment", _) => Some(Truth::Yes),
        // They ask for another protocol, or for an extension header.
        (
            "udp" | "udplite" | "icmp" | "icmp6" | "sctp" | "dccp" | "esp" | "ah" | "ipcomp"
            | "l2tp" | "mh" | "frag" | "rt" | "hbh" | "dst" | "srh",
            _,
        ) => Some(Truth::No),
        ("tcp", 0) => ports::tcp(fields, packet),
        ("multiport", 1) => ports::multiport(fields, packet),
        ("conntrack", revision @ 1..=3) => conntrack::conntrack(fields, revision, view),
        ("state", 0) => conntrack::state(fields, packet),
        ("connmark", 1) => conntrack::mark(fields, packet),
        ("mark", 1) => segment::mark(fields, packet),
        ("ttl" | "hl", 0) => segment::ttl(fields, packet),
        ("length", 0) => segment::length(fields, view),
        ("owner", 1) => owner::owner(fields, packet),
        ("iprange", 1) => addresses::iprange(fields, view),
        ("addrtype", revision @ 0..=1) => addrtype::addrtype(fields, revision, view),
        ("physdev", 0) => interfaces::physdev(fields, view),
        ("pkttype", 0) => interfaces::pkttype(fields, view),
        ("policy", 0) => interfaces::policy(fields, view),
        _ => None,
    }
}

fn described(extension: &Extension) -> String {
    let name: String = extension.name.chars().take(32).collect();
    match name.as_str() {
        "limit" | "hashlimit" | "connlimit" | "quota" | "recent" | "statistic" | "time" => {
            format!("-m {name} holds at times only")
        }
        _ => format!("-m {name} is not decided by what is known of the packet"),
    }
}

#[cfg(test)]
mod tests;
