//! Network interfaces by index.

use std::collections::HashMap;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};

use crate::host::netlink::{More, NetlinkError};
use crate::host::visit::Visit;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// It is up by administration and has its carrier.
    pub up: bool,
}

/// The interface with this index; null where there is none.
pub fn by_index(visit: &mut Visit, index: u32) -> Result<Option<Link>, NetlinkError> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    ask(visit, request)
}

/// The interface with this name; null where there is none.
pub fn by_name(visit: &mut Visit, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut request = LinkMessage::default();
    let name = LinkAttribute::IfName(name.to_owned());
    request.attributes.push(name);
    ask(visit, request)
}

/// Those of the interfaces that exist. One question each: a host of containers has thousands.
pub fn by_indexes(
    visit: &mut Visit,
    indexes: impl IntoIterator<Item = u32>,
) -> Result<HashMap<u32, Link>, NetlinkError> {
    let mut links = HashMap::new();
    for index in indexes {
        links.extend(by_index(visit, index)?.map(|link| (index, link)));
    }
    Ok(links)
}

/// Whether an interface that is up, the loopback one aside, is in the visited namespace.
pub fn any_leads_out(visit: &mut Visit) -> Result<bool, NetlinkError> {
    any(visit, |message| {
        let flags = message.header.flags;
        flags.contains(LinkFlags::Up) && !flags.contains(LinkFlags::Loopback)
    })
}

/// Whether an interface of the visited namespace has this link-layer address.
pub fn any_has_address(visit: &mut Visit, address: &[u8]) -> Result<bool, NetlinkError> {
    any(visit, |message| {
        message.attributes.iter().any(
            |attribute| matches!(attribute, LinkAttribute::Address(own) if own.as_slice() == address),
        )
    })
}

fn any(visit: &mut Visit, wanted: impl Fn(&LinkMessage) -> bool) -> Result<bool, NetlinkError> {
    let mut found = false;
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    visit.route.dump(request, |message| {
        found |= matches!(&message, RouteNetlinkMessage::NewLink(link) if wanted(link));
        if found { More::No } else { More::Yes }
    })?;
    Ok(found)
}

fn ask(visit: &mut Visit, request: LinkMessage) -> Result<Option<Link>, NetlinkError> {
    match visit.route.ask(RouteNetlinkMessage::GetLink(request)) {
        Ok(RouteNetlinkMessage::NewLink(answer)) => Ok(Some(link(&answer))),
        Ok(_) => Err(NetlinkError::Malformed("no link in the answer")),
        Err(NetlinkError::Refused {
            errno: libc::ENODEV,
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut up = flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    let mut name = String::new();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(given) => name.clone_from(given),
            LinkAttribute::OperState(State::Down | State::LowerLayerDown | State::NotPresent) => {
                up = false;
            }
            _ => {}
        }
    }
    Link {
        index: message.header.index,
        name,
        up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{Sandbox, eventually, root_or_skip};

    #[test]
    fn a_link_without_carrier_is_not_up() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        sandbox.ip("link add here type veth peer name there");
        sandbox.ip("link set here up");
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        let lo = by_name(&mut visit, "lo").unwrap().unwrap();
        let here = by_name(&mut visit, "here").unwrap().unwrap();
        assert!(lo.up);
        assert!(!here.up);
        sandbox.ip("link set there up");
        eventually(|| by_index(&mut visit, here.index).unwrap().unwrap().up);
        let links = by_indexes(&mut visit, [here.index, lo.index, 9999]).unwrap();
        assert_eq!(links.len(), 2);
        assert_eq!(by_name(&mut visit, "nowhere").unwrap(), None);
    }
}
