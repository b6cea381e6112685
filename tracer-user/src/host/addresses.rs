//! The addresses that network namespaces own.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use crate::case::Netns;
use crate::host::netlink::{More, NetlinkError};
use crate::host::netns::{Namespace, across};
use crate::host::visit::Visit;

/// An address with the length of its network's prefix, on the interface with this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    pub address: IpAddr,
    pub prefix: u8,
    pub link: u32,
}

/// The addresses of one namespace, those of interfaces that are down as well.
pub fn local(visit: &mut Visit) -> Result<Vec<Local>, NetlinkError> {
    let mut found = Vec::new();
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    visit.route.dump(request, |message| {
        if let RouteNetlinkMessage::NewAddress(answer) = message {
            found.extend(own_address(&answer).map(|address| Local {
                address,
                prefix: answer.header.prefix_len,
                link: answer.header.index,
            }));
        }
        More::Yes
    })?;
    Ok(found)
}

/// On a point-to-point link `IFA_ADDRESS` is the peer's and `IFA_LOCAL` the own one; IPv6 gives
/// only the former where there is no peer (`inet6_fill_ifaddr`).
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => own = Some(*address),
            _ => {}
        }
    }
    own
}

/// The addresses of all namespaces, to ask which of them own one.
#[derive(Debug, Default)]
pub struct AddressBook {
    by_netns: BTreeMap<Netns, HashSet<IpAddr>>,
}

impl AddressBook {
    /// Reads the addresses of these namespaces. One that cannot be read has none.
    pub fn read<'a>(namespaces: impl Iterator<Item = &'a Namespace> + Send) -> Self {
        let mut by_netns = BTreeMap::new();
        across(namespaces, |namespace, entered| {
            let read = entered.ok().and_then(|()| local_here(namespace.inode));
            if let Some(local) = read {
                let addresses = local.into_iter().map(|local| local.address).collect();
                by_netns.insert(namespace.inode, addresses);
            }
        });
        Self { by_netns }
    }

    /// The namespaces that own `address`, `asking` first where it is one of them: several may own
    /// the same private address. Loopback and unspecified addresses lead to the asking namespace
    /// alone.
    pub fn owners(&self, address: IpAddr, asking: Netns) -> Vec<Netns> {
        let address = address.to_canonical();
        if address.is_loopback() || address.is_unspecified() {
            return vec![asking];
        }
        let mut owners: Vec<Netns> = self
            .by_netns
            .iter()
            .filter(|(_, addresses)| addresses.contains(&address))
            .map(|(netns, _)| *netns)
            .collect();
        owners.sort_by_key(|netns| *netns != asking);
        owners
    }
}

fn local_here(netns: Netns) -> Option<Vec<Local>> {
    local(&mut Visit::here(netns).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    #[test]
    fn the_asking_namespace_comes_first_and_owns_its_loopback_alone() {
        let address: IpAddr = "10.1.1.1".parse().unwrap();
        let addresses = HashSet::from([address, "127.0.0.1".parse().unwrap()]);
        let book = AddressBook {
            by_netns: [(1, addresses.clone()), (2, addresses), (3, HashSet::new())].into(),
        };
        assert_eq!(book.owners(address, 2), [2, 1]);
        assert_eq!(book.owners("::ffff:10.1.1.1".parse().unwrap(), 3), [1, 2]);
        assert_eq!(book.owners("127.0.0.9".parse().unwrap(), 3), [3]);
        assert_eq!(book.owners("::1".parse().unwrap(), 3), [3]);
    }

    #[test]
    fn addresses_of_both_families_are_found_where_they_are() {
        if !root_or_skip() {
            return;
        }
        let (one, other) = (Sandbox::new(), Sandbox::new());
        one.ip("link add here type veth peer name there");
        one.ip("addr add 10.9.0.1/24 dev here");
        other.ip("addr add fd00:9::1/64 dev lo nodad");
        let namespaces = [one.namespace(), other.namespace()];
        let book = AddressBook::read(namespaces.iter());
        let owners = |address: &str| book.owners(address.parse().unwrap(), 0);
        assert_eq!(owners("10.9.0.1"), [one.inode()]);
        assert_eq!(owners("fd00:9::1"), [other.inode()]);
        assert!(owners("10.9.0.2").is_empty());
        let mut visit = Visit::to(&one.namespace()).unwrap();
        let prefix = local(&mut visit)
            .unwrap()
            .into_iter()
            .find(|local| local.address.to_string() == "10.9.0.1")
            .unwrap()
            .prefix;
        assert_eq!(prefix, 24);
    }
}
