//! The walk through rules and tables that the kernel makes for a route (`fib_rules_lookup`,
//! `fib_table_lookup`), made again to name the line that refuses: its answer to a refused
//! request is an error number alone.

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use netlink_packet_route::rule::RuleAction;

use super::{Question, devices, family, ip, rules, rules::Rule, table, text};
use crate::host::links;
use crate::host::netlink::{More, NetlinkError};
use crate::host::visit::Visit;

/// What refuses, as `ip rule` or `ip route` prints it.
pub(super) enum Refusal {
    Rule(String),
    Route(Box<RouteMessage>, String),
}

/// The rule or route that refuses; null where no route leads to the destination, and where the
/// walk finds one after all.
pub(super) fn refusal(
    visit: &mut Visit,
    question: &Question,
) -> Result<Option<Refusal>, NetlinkError> {
    let bound = links::by_indexes(visit, question.device)?;
    let bound = bound.values().next().map(|link| link.name.as_str());
    let rules = rules::all(visit, question)?;
    let tables = candidates(visit, question)?;
    Ok(match walk(&rules, question, bound, &tables) {
        Some(Stop::Rule(rule)) => Some(Refusal::Rule(text::rule_line(rule, question))),
        Some(Stop::Route(route)) => {
            let links = links::by_indexes(visit, devices(route))?;
            let line = text::route_line(route, &links);
            Some(Refusal::Route(Box::new(route.clone()), line))
        }
        None => None,
    })
}

/// Whether the network with this prefix length contains the address.
pub(super) fn covers(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            differing.leading_zeros() >= prefix.into()
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            differing.leading_zeros() >= prefix.into()
        }
        _ => false,
    }
}

enum Stop<'a> {
    Rule(&'a Rule),
    Route(&'a RouteMessage),
}

fn walk<'a>(
    rules: &'a [Rule],
    question: &Question,
    device: Option<&str>,
    tables: &'a HashMap<u32, RouteMessage>,
) -> Option<Stop<'a>> {
    let mut thrown = None;
    let mut wanted = 0;
    for rule in rules {
        if rule.priority < wanted || !rules::applies(rule, question, device) {
            continue;
        }
        match rule.action {
            RuleAction::Unreachable | RuleAction::Prohibit | RuleAction::Blackhole => {
                return Some(Stop::Rule(rule));
            }
            RuleAction::Goto => wanted = rule.goto.unwrap_or(0),
            RuleAction::ToTable => {
                let found = tables.get(&rule.table);
                match found.filter(|route| !suppressed(rule, route)) {
                    Some(route) if route.header.kind == RouteType::Throw => thrown = Some(route),
                    Some(route) if refuses(route) => return Some(Stop::Route(route)),
                    Some(_) => return None,
                    None => {}
                }
            }
            _ => {}
        }
    }
    // A throw lets the rules go on; where they end without a route, it is what is left to show.
    thrown.map(Stop::Route)
}

fn refuses(route: &RouteMessage) -> bool {
    [
        RouteType::Unreachable,
        RouteType::Prohibit,
        RouteType::BlackHole,
    ]
    .contains(&route.header.kind)
}

fn suppressed(rule: &Rule, route: &RouteMessage) -> bool {
    let length = u32::from(route.header.destination_prefix_length);
    rule.suppressed_prefix.is_some_and(|limit| length <= limit)
}

/// The route that each table has for the question: the longest prefix, then the lowest metric.
fn candidates(
    visit: &mut Visit,
    question: &Question,
) -> Result<HashMap<u32, RouteMessage>, NetlinkError> {
    let mut request = RouteMessage::default();
    request.header = RouteHeader {
        address_family: family(question.destination.ip()),
        ..RouteHeader::default()
    };
    let mut best: HashMap<u32, RouteMessage> = HashMap::new();
    visit
        .route
        .dump(RouteNetlinkMessage::GetRoute(request), |message| {
            match message {
                RouteNetlinkMessage::NewRoute(route) if leads(&route, question) => {
                    let known = best.entry(table(&route)).or_insert_with(|| route.clone());
                    if rank(&route) < rank(known) {
                        *known = route;
                    }
                }
                _ => {}
            }
            More::Yes
        })?;
    Ok(best)
}

fn leads(route: &RouteMessage, question: &Question) -> bool {
    let header = &route.header;
    let destination = question.destination.ip();
    let reached = match network(route) {
        Some(network) => covers(network, header.destination_prefix_length, destination),
        None => header.destination_prefix_length == 0,
    };
    let other_device = question.device.is_some_and(|asked| {
        let mut leads_to = devices(route).peekable();
        !refuses(route) && leads_to.peek().is_some() && leads_to.all(|index| index != asked)
    });
    // Routes for a source network or a type of service alone are rare, and nobody's here.
    let plain = header.tos == 0 && header.source_prefix_length == 0;
    let usable = !header
        .flags
        .intersects(RouteFlags::Dead | RouteFlags::Cloned);
    reached && !other_device && plain && usable
}

fn network(route: &RouteMessage) -> Option<IpAddr> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(network) => ip(network),
            _ => None,
        })
}

fn rank(route: &RouteMessage) -> (u8, u32) {
    let metric = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
    let longest_first = u8::MAX - route.header.destination_prefix_length;
    (longest_first, metric.unwrap_or(0))
}
