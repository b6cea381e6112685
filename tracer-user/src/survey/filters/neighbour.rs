//! A packet of ARP or neighbour discovery as a hook sees it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::incidents::Incident;
use crate::{
    firewall::{
        Packet,
        packet::{Conntrack, Kind, Owner, Side, State},
    },
    host::facts::Host,
};

/// `ndisc_rcv` takes no other hop limit.
const NEVER_ROUTED: u8 = 255;

/// What the packet can have been. A solicitation goes to the group of the address that is looked
/// for, or to the neighbour itself that is asked again (`ndisc_solicit`); an advertisement comes
/// from the address that it is about, unless somebody else answers for it.
pub fn guesses(
    host: &Host,
    incident: &Incident,
    (wanted, asker): (IpAddr, Option<IpAddr>),
    (input, output): (Side, Side),
) -> Vec<Vec<Packet>> {
    let likely = ends(wanted, asker, incident.answer);
    let packet = |from: IpAddr, to: IpAddr| Packet {
        kind: kind(wanted, incident.answer),
        from: SocketAddr::new(from, 0),
        to: SocketAddr::new(to, 0),
        from_local: Some(host.owns(incident.netns, from)),
        to_local: Some(host.owns(incident.netns, to)),
        flags: 0,
        sequence: 0,
        ttl: wanted.is_ipv6().then_some(NEVER_ROUTED),
        mark: incident.circumstances.map(|seen| seen.mark),
        input: input.clone(),
        output: output.clone(),
        // Sockets of the kernel have no file (`ndisc_alloc_skb`).
        owner: Owner::Absent,
        conntrack: Conntrack {
            state: Some(state(wanted)),
            ..Conntrack::default()
        },
    };
    let known: Vec<Packet> = likely.iter().map(|(from, to)| packet(*from, *to)).collect();
    let unmarked = known.iter().cloned().map(|packet| Packet {
        mark: None,
        ..packet
    });
    let unmarked = unmarked.collect();
    vec![known, unmarked]
}

fn kind(wanted: IpAddr, answer: bool) -> Kind {
    match wanted {
        IpAddr::V4(_) => Kind::Arp { reply: answer },
        IpAddr::V6(target) => Kind::Discovery {
            advertisement: answer,
            target,
        },
    }
}

/// Connection tracking knows nothing of ARP, and leaves neighbour discovery alone
/// (`nf_conntrack_icmpv6_error`).
fn state(wanted: IpAddr) -> State {
    match wanted {
        IpAddr::V4(_) => State::Invalid,
        IpAddr::V6(_) => State::Untracked,
    }
}

/// Source and destination.
fn ends(wanted: IpAddr, asker: Option<IpAddr>, answer: bool) -> Vec<(IpAddr, IpAddr)> {
    let nobody = match wanted {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let asker = asker.unwrap_or(nobody);
    match wanted {
        _ if answer => vec![(wanted, asker)],
        IpAddr::V4(_) => vec![(asker, wanted)],
        IpAddr::V6(target) => vec![(asker, group_of(target).into()), (asker, wanted)],
    }
}

/// The solicited-node multicast address (RFC 4291, 2.7.1).
fn group_of(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solicitation_goes_to_the_group_or_to_the_neighbour_itself() {
        let wanted: IpAddr = "fd01::12:3456".parse().unwrap();
        let asker: IpAddr = "fd01::1".parse().unwrap();
        let group: IpAddr = "ff02::1:ff12:3456".parse().unwrap();
        assert_eq!(
            ends(wanted, Some(asker), false),
            [(asker, group), (asker, wanted)]
        );
        assert_eq!(ends(wanted, Some(asker), true), [(wanted, asker)]);
    }
}
