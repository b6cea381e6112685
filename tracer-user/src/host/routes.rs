//! How the kernel routes to an address, and which line of its tables says so.
//!
//! Where the answer (`RTM_GETROUTE`) and `connect()` differ, seen on 6.18 by the tests below:
//! - broadcast and multicast have a route, and `tcp_v4_connect` refuses it with `ENETUNREACH`;
//!   so does `tcp_v6_connect` for multicast: the kind tells.
//! - `connect()` over IPv4 looks twice, the second time with the source address that the first
//!   look chose (`ip_route_connect`): so does [`route`].
//! - where IPv6 is disabled the answer is `ENETUNREACH`, and `connect()` fails with
//!   `EADDRNOTAVAIL`, as it looks for a source address first; a link-local destination without a
//!   scope is found on any link, and `connect()` fails with `EINVAL` (`tcp_v6_connect`).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::case::Route;
use crate::host::addresses;
use crate::host::links::{self, Link};
use crate::host::netlink::NetlinkError;
use crate::host::visit::Visit;

mod rules;
mod search;
#[cfg(test)]
mod tests;
mod text;

/// Who asks for a route, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    pub destination: SocketAddr,
    /// The address that the socket was bound to.
    pub source: Option<IpAddr>,
    /// The effective user of the socket's creator: rules may go by it.
    pub uid: Option<u32>,
    pub mark: Option<u32>,
    /// The index of the interface that the socket is bound to.
    pub device: Option<u32>,
}

impl Question {
    /// How an unbound socket of `uid` gets to `destination`.
    pub fn new(destination: SocketAddr, uid: Option<u32>) -> Self {
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        let scope = match destination {
            SocketAddr::V6(address) => Some(address.scope_id()).filter(|scope| *scope != 0),
            SocketAddr::V4(_) => None,
        };
        Self {
            destination,
            source: None,
            uid,
            mark: None,
            device: scope,
        }
    }
}

/// Asks the kernel. A refusal is an answer too: it stands in `error`, with the line that is
/// behind it where one is found by walking rules and tables as the kernel does.
pub fn route(visit: &mut Visit, question: &Question) -> Result<Route, NetlinkError> {
    let mut question = *question;
    let mut answer = ask(visit, &question, RouteFlags::LookupTable);
    if let (IpAddr::V4(_), None, Ok(found)) = (question.destination.ip(), question.source, &answer)
    {
        question.source = source(found);
        answer = ask(visit, &question, RouteFlags::LookupTable);
    }
    match answer {
        Ok(found) => found_route(visit, &question, &found),
        Err(NetlinkError::Refused { errno }) => refused_route(visit, &question, errno),
        Err(error) => Err(error),
    }
}

fn found_route(
    visit: &mut Visit,
    question: &Question,
    found: &RouteMessage,
) -> Result<Route, NetlinkError> {
    let matched = ask(visit, question, RouteFlags::FibMatch).ok();
    let indexes = matched.iter().chain([found]).flat_map(devices);
    let links = links::by_indexes(visit, indexes.collect::<BTreeSet<u32>>())?;
    let link = devices(found).next().and_then(|index| links.get(&index));
    Ok(Route {
        error: None,
        kind: Some(kind(found.header.kind)),
        gateway: gateway(found),
        device: link.map(|link| link.name.clone()),
        link_up: link.map(|link| link.up),
        source: source(found),
        table: Some(table(found)),
        line: matched
            .filter(|matched| !stands_in(matched))
            .map(|matched| text::route_line(&matched, &links)),
        by_rule: false,
    })
}

/// Destinations that are broadcast or multicast by themselves match whatever route leads there,
/// and the kernel shows it with their kind in place of its own.
fn stands_in(matched: &RouteMessage) -> bool {
    let by_itself = [RouteType::Broadcast, RouteType::Multicast].contains(&matched.header.kind);
    by_itself && matched.header.destination_prefix_length == 0
}

fn refused_route(
    visit: &mut Visit,
    question: &Question,
    errno: i32,
) -> Result<Route, NetlinkError> {
    let mut route = Route {
        error: Some(errno),
        kind: None,
        gateway: None,
        device: None,
        link_up: None,
        source: question.source,
        table: None,
        line: None,
        by_rule: false,
    };
    match search::refusal(visit, question)? {
        Some(search::Refusal::Rule(line)) => {
            route.line = Some(line);
            route.by_rule = true;
        }
        Some(search::Refusal::Route(refusing, line)) => {
            route.kind = Some(kind(refusing.header.kind));
            route.table = Some(table(&refusing));
            route.line = Some(line);
        }
        None => {
            let down = link_that_would_lead(visit, question.destination.ip())?;
            route.link_up = down.as_ref().map(|link| link.up);
            route.device = down.map(|link| link.name);
        }
    }
    Ok(route)
}

/// An interface that is down loses its routes, and keeps its IPv4 addresses (`fib_disable_ip`):
/// their networks show where the destination would have been.
fn link_that_would_lead(visit: &mut Visit, to: IpAddr) -> Result<Option<Link>, NetlinkError> {
    let local = addresses::local(visit)?;
    let near = local
        .iter()
        .filter(|local| local.prefix > 0 && search::covers(local.address, local.prefix, to))
        .map(|local| local.link);
    let links = links::by_indexes(visit, near)?;
    Ok(links.into_values().find(|link| !link.up))
}

fn ask(
    visit: &mut Visit,
    question: &Question,
    flags: RouteFlags,
) -> Result<RouteMessage, NetlinkError> {
    let destination = question.destination.ip();
    let mut request = RouteMessage::default();
    request.header.address_family = family(destination);
    request.header.destination_prefix_length = bits(destination);
    request.header.flags = flags;
    let attributes = &mut request.attributes;
    attributes.push(RouteAttribute::Destination(destination.into()));
    attributes.push(RouteAttribute::IpProto(libc::IPPROTO_TCP as u8));
    attributes.push(RouteAttribute::Dport(question.destination.port()));
    attributes.extend(question.uid.map(RouteAttribute::Uid));
    attributes.extend(question.mark.map(RouteAttribute::Mark));
    attributes.extend(question.device.map(RouteAttribute::Oif));
    if let Some(source) = question.source {
        request.header.source_prefix_length = bits(source);
        attributes.push(RouteAttribute::Source(source.into()));
    }
    match visit.route.ask(RouteNetlinkMessage::GetRoute(request))? {
        RouteNetlinkMessage::NewRoute(answer) => Ok(answer),
        _ => Err(NetlinkError::Malformed("no route in the answer")),
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn table(message: &RouteMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or_else(|| message.header.table.into())
}

/// The interfaces that a route leads to; several where it has several next hops.
fn devices(message: &RouteMessage) -> impl Iterator<Item = u32> + '_ {
    message
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => vec![*index],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => Vec::new(),
        })
}

fn source(message: &RouteMessage) -> Option<IpAddr> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::PrefSource(address) => ip(address),
            _ => None,
        })
}

fn gateway(message: &RouteMessage) -> Option<IpAddr> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Gateway(address) => ip(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
            _ => None,
        })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn kind(kind: RouteType) -> String {
    let name = match kind {
        RouteType::Unicast => "unicast",
        RouteType::Local => "local",
        RouteType::Broadcast => "broadcast",
        RouteType::Anycast => "anycast",
        RouteType::Multicast => "multicast",
        RouteType::BlackHole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        RouteType::Throw => "throw",
        other => return u8::from(other).to_string(),
    };
    name.to_owned()
}
