//! Routes and rules as `ip route` and `ip rule` print them, on one line (`print_route` and
//! `print_rule` of iproute2). What does not bear on a refusal (metrics, encapsulation) is left
//! out.

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RoutePreference,
    RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::RuleAction;

use super::{Question, bits, gateway, ip, kind, rules::Rule, source, table};
use crate::host::links::Link;

const MAIN: u32 = 254;

pub(super) fn route_line(route: &RouteMessage, links: &HashMap<u32, Link>) -> String {
    let header = &route.header;
    let mut words = Vec::new();
    if header.kind != RouteType::Unicast {
        words.push(kind(header.kind));
    }
    words.push(destination(route));
    words.extend(via(gateway(route), header.address_family.into()));
    words.extend(device(route).map(|index| format!("dev {}", device_name(index, links))));
    if table(route) != MAIN {
        words.push(format!("table {}", table_name(table(route))));
    }
    words.extend(protocol(header.protocol).map(|name| format!("proto {name}")));
    words.extend(scope(header.scope).map(|name| format!("scope {name}")));
    words.extend(source(route).map(|address| format!("src {address}")));
    for attribute in &route.attributes {
        if let RouteAttribute::Priority(metric) = attribute {
            words.push(format!("metric {metric}"));
        }
    }
    words.extend(flags(header.flags));
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::MultiPath(hops) => {
                words.extend(hops.iter().map(|hop| next_hop(hop, route, links)));
            }
            RouteAttribute::Preference(preference) => words.extend(pref(*preference)),
            _ => {}
        }
    }
    words.join(" ")
}

pub(super) fn rule_line(rule: &Rule, question: &Question) -> String {
    let mut words = vec![format!("{}:", rule.priority)];
    if rule.inverted {
        words.push("not".to_owned());
    }
    words.push(format!("from {}", network(rule.source)));
    if rule.destination.is_some() {
        words.push(format!("to {}", network(rule.destination)));
    }
    if rule.tos != 0 {
        words.push(format!("tos {:#04x}", rule.tos));
    }
    words.extend(mark(rule));
    words.extend(interface("iif", rule.input.as_deref(), rule.input_detached));
    words.extend(interface(
        "oif",
        rule.output.as_deref(),
        rule.output_detached,
    ));
    words.extend(
        rule.uids
            .map(|(first, last)| format!("uidrange {first}-{last}")),
    );
    words.extend(rule.protocol.map(|number| {
        let v6 = question.destination.is_ipv6();
        format!("ipproto {}", protocol_name(number, v6))
    }));
    words.extend(
        rule.source_ports
            .map(|ports| format!("sport {}", range(ports))),
    );
    words.extend(
        rule.destination_ports
            .map(|ports| format!("dport {}", range(ports))),
    );
    words.push(action(rule));
    words.join(" ")
}

fn destination(route: &RouteMessage) -> String {
    let length = route.header.destination_prefix_length;
    let address = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => ip(address),
            _ => None,
        });
    match address {
        Some(address) if length == bits(address) => address.to_string(),
        Some(address) => format!("{address}/{length}"),
        None => "default".to_owned(),
    }
}

fn via(gateway: Option<IpAddr>, family: u8) -> Option<String> {
    gateway.map(|address| match address {
        IpAddr::V6(_) if i32::from(family) == libc::AF_INET => format!("via inet6 {address}"),
        _ => format!("via {address}"),
    })
}

fn device(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}

fn device_name(index: u32, links: &HashMap<u32, Link>) -> String {
    links
        .get(&index)
        .map_or_else(|| format!("if{index}"), |link| link.name.clone())
}

fn next_hop(hop: &RouteNextHop, route: &RouteMessage, links: &HashMap<u32, Link>) -> String {
    let mut alone = RouteMessage::default();
    alone.attributes.clone_from(&hop.attributes);
    let mut words = vec!["nexthop".to_owned()];
    words.extend(via(gateway(&alone), route.header.address_family.into()));
    words.push(format!("dev {}", device_name(hop.interface_index, links)));
    words.push(format!("weight {}", u16::from(hop.hops) + 1));
    words.extend(flags(route_flags(hop.flags)));
    words.join(" ")
}

/// The flags of a next hop have the same bits in a route (`RTNH_F_*`).
fn route_flags(flags: RouteNextHopFlags) -> RouteFlags {
    RouteFlags::from_bits_retain(flags.bits().into())
}

fn flags(flags: RouteFlags) -> Vec<String> {
    [
        (RouteFlags::Dead, "dead"),
        (RouteFlags::Onlink, "onlink"),
        (RouteFlags::Pervasive, "pervasive"),
        (RouteFlags::Linkdown, "linkdown"),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .map(|(_, name)| name.to_owned())
    .collect()
}

/// The number stands for tables that are named in `rt_tables` only.
fn table_name(table: u32) -> String {
    match table {
        255 => "local".to_owned(),
        254 => "main".to_owned(),
        253 => "default".to_owned(),
        number => number.to_string(),
    }
}

fn protocol(protocol: RouteProtocol) -> Option<String> {
    let name = match protocol {
        RouteProtocol::Boot => return None,
        RouteProtocol::Unspec => "unspec",
        RouteProtocol::IcmpRedirect => "redirect",
        RouteProtocol::Kernel => "kernel",
        RouteProtocol::Static => "static",
        RouteProtocol::Ra => "ra",
        RouteProtocol::Zebra => "zebra",
        RouteProtocol::Bird => "bird",
        RouteProtocol::Dhcp => "dhcp",
        RouteProtocol::KeepAlived => "keepalived",
        RouteProtocol::Babel => "babel",
        RouteProtocol::Bgp => "bgp",
        RouteProtocol::Isis => "isis",
        RouteProtocol::Ospf => "ospf",
        RouteProtocol::Rip => "rip",
        RouteProtocol::Eigrp => "eigrp",
        other => return Some(u8::from(other).to_string()),
    };
    Some(name.to_owned())
}

fn scope(scope: RouteScope) -> Option<String> {
    let name = match scope {
        RouteScope::Universe => return None,
        RouteScope::Site => "site",
        RouteScope::Link => "link",
        RouteScope::Host => "host",
        RouteScope::NoWhere => "nowhere",
        RouteScope::Other(number) => return Some(number.to_string()),
        _ => return None,
    };
    Some(name.to_owned())
}

fn pref(preference: RoutePreference) -> Option<String> {
    let name = match preference {
        RoutePreference::Low => "low",
        RoutePreference::Medium => "medium",
        RoutePreference::High => "high",
        _ => return None,
    };
    Some(format!("pref {name}"))
}

fn network(network: Option<(IpAddr, u8)>) -> String {
    match network {
        Some((address, length)) if length == bits(address) => address.to_string(),
        Some((address, length)) => format!("{address}/{length}"),
        None => "all".to_owned(),
    }
}

fn mark(rule: &Rule) -> Option<String> {
    let mark = rule.mark.or(rule.mask.map(|_| 0))?;
    Some(match rule.mask {
        Some(mask) if mask != u32::MAX => format!("fwmark {mark:#x}/{mask:#x}"),
        _ => format!("fwmark {mark:#x}"),
    })
}

fn interface(word: &str, name: Option<&str>, detached: bool) -> Option<String> {
    let detached = if detached { " [detached]" } else { "" };
    name.map(|name| format!("{word} {name}{detached}"))
}

fn protocol_name(number: u8, v6: bool) -> String {
    match i32::from(number) {
        libc::IPPROTO_TCP => "tcp".to_owned(),
        libc::IPPROTO_UDP => "udp".to_owned(),
        libc::IPPROTO_ICMP => "icmp".to_owned(),
        libc::IPPROTO_ICMPV6 if v6 => "ipv6-icmp".to_owned(),
        number => number.to_string(),
    }
}

fn range((first, last): (u16, u16)) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}

fn action(rule: &Rule) -> String {
    match rule.action {
        RuleAction::Unreachable => "unreachable".to_owned(),
        RuleAction::Prohibit => "prohibit".to_owned(),
        RuleAction::Blackhole => "blackhole".to_owned(),
        RuleAction::ToTable => format!("lookup {}", table_name(rule.table)),
        RuleAction::Goto => format!("goto {}", rule.goto.unwrap_or(0)),
        _ => "nop".to_owned(),
    }
}
