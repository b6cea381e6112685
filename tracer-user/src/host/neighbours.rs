//! The neighbour table: how the link addresses of next hops are known.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::case::Neighbour;
use crate::host::links;
use crate::host::netlink::{More, NetlinkError};
use crate::host::visit::Visit;

/// The entry of `address` on the interface named `device`; null where there is none, as before
/// the first packet and some time after the last one, when failed entries are swept up.
pub fn neighbour(
    visit: &mut Visit,
    address: IpAddr,
    device: &str,
) -> Result<Option<Neighbour>, NetlinkError> {
    let Some(link) = links::by_name(visit, device)? else {
        return Ok(None);
    };
    let found = entry(visit, address, link.index)?;
    Ok(found.map(|message| Neighbour {
        address,
        device: link.name,
        state: state(message.header.state),
        netns: visit.netns,
    }))
}

/// The link-layer address of `address` on the interface named `device`; null where there is no
/// entry or none with such an address, as on point-to-point links.
pub fn link_address(
    visit: &mut Visit,
    address: IpAddr,
    device: &str,
) -> Result<Option<Vec<u8>>, NetlinkError> {
    let Some(link) = links::by_name(visit, device)? else {
        return Ok(None);
    };
    let entry = entry(visit, address, link.index)?;
    Ok(entry.and_then(|entry| {
        entry
            .attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(address) if !address.is_empty() => {
                    Some(address)
                }
                _ => None,
            })
    }))
}

fn entry(
    visit: &mut Visit,
    address: IpAddr,
    index: u32,
) -> Result<Option<NeighbourMessage>, NetlinkError> {
    match ask(visit, address, index) {
        Err(NetlinkError::Refused {
            errno: libc::ENOENT,
        }) => Ok(None),
        // Before Linux 5.0 there are only dumps (`neigh_get`).
        Err(NetlinkError::Refused {
            errno: libc::EOPNOTSUPP,
        }) => search(visit, address, index),
        answer => answer.map(Some),
    }
}

fn ask(visit: &mut Visit, address: IpAddr, index: u32) -> Result<NeighbourMessage, NetlinkError> {
    let mut request = family_request(address);
    request.header.ifindex = index;
    request
        .attributes
        .push(NeighbourAttribute::Destination(destination(address)));
    match visit
        .route
        .ask(RouteNetlinkMessage::GetNeighbour(request))?
    {
        RouteNetlinkMessage::NewNeighbour(answer) => Ok(answer),
        _ => Err(NetlinkError::Malformed("no neighbour in the answer")),
    }
}

fn search(
    visit: &mut Visit,
    address: IpAddr,
    index: u32,
) -> Result<Option<NeighbourMessage>, NetlinkError> {
    let wanted = NeighbourAttribute::Destination(destination(address));
    let mut found = None;
    let request = RouteNetlinkMessage::GetNeighbour(family_request(address));
    visit.route.dump(request, |message| match message {
        RouteNetlinkMessage::NewNeighbour(entry)
            if entry.header.ifindex == index && entry.attributes.contains(&wanted) =>
        {
            found = Some(entry);
            More::No
        }
        _ => More::Yes,
    })?;
    Ok(found)
}

fn family_request(address: IpAddr) -> NeighbourMessage {
    let mut request = NeighbourMessage::default();
    request.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    request
}

fn destination(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

fn state(state: NeighbourState) -> String {
    match state {
        NeighbourState::Incomplete => "incomplete",
        NeighbourState::Reachable => "reachable",
        NeighbourState::Stale => "stale",
        NeighbourState::Delay => "delay",
        NeighbourState::Probe => "probe",
        NeighbourState::Failed => "failed",
        NeighbourState::Noarp => "noarp",
        NeighbourState::Permanent => "permanent",
        _ => "none",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, ToSocketAddrs};
    use std::time::Duration;

    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    fn sandbox() -> Sandbox {
        let sandbox = Sandbox::new();
        sandbox.ip("link add here type veth peer name there");
        sandbox.ip("link set there up");
        sandbox.ip("addr add 10.9.0.1/24 dev here");
        sandbox.ip("addr add fd00:9::1/64 dev here nodad");
        sandbox.ip("link set here up");
        sandbox
    }

    fn entry(sandbox: &Sandbox, address: &str) -> Option<Neighbour> {
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        neighbour(&mut visit, address.parse().unwrap(), "here").unwrap()
    }

    #[test]
    fn a_next_hop_that_does_not_answer_is_incomplete_then_failed() {
        if !root_or_skip() {
            return;
        }
        let sandbox = sandbox();
        for (address, text) in [("10.9.0.7", "10.9.0.7:80"), ("fd00:9::7", "[fd00:9::7]:80")] {
            assert_eq!(entry(&sandbox, address), None);
            sandbox.run(move || {
                let target = text.to_socket_addrs().unwrap().next().unwrap();
                let _ = TcpStream::connect_timeout(&target, Duration::from_millis(50));
            });
            let found = entry(&sandbox, address).unwrap();
            assert!(
                ["incomplete", "failed"].contains(&found.state.as_str()),
                "{found:?}"
            );
            assert_eq!(found.netns, sandbox.inode());
        }
    }

    #[test]
    fn a_fixed_entry_is_permanent() {
        if !root_or_skip() {
            return;
        }
        let sandbox = sandbox();
        sandbox.ip("neigh add 10.9.0.8 lladdr 02:00:00:00:00:01 dev here");
        sandbox.ip("neigh add 10.9.0.9 lladdr 02:00:00:00:00:01 dev here");
        assert_eq!(entry(&sandbox, "10.9.0.8").unwrap().state, "permanent");
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        let here = links::by_name(&mut visit, "here").unwrap().unwrap();
        for address in ["10.9.0.8", "10.9.0.9"] {
            // What older kernels are asked instead, and twice on one socket.
            let found = search(&mut visit, address.parse().unwrap(), here.index).unwrap();
            assert_eq!(found.unwrap().header.state, NeighbourState::Permanent);
        }
        let none = neighbour(&mut visit, "10.9.0.8".parse().unwrap(), "nowhere").unwrap();
        assert_eq!(none, None);
    }
}
