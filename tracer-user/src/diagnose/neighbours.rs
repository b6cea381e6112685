//! Packets of ARP and neighbour discovery that a packet filter of this host ate.

use std::net::IpAddr;

use crate::case::{Case, Fact, Hook, KernelTime, Netns};
use crate::diagnose::addresses;

/// A dropped packet without which the SYN, or the answer to it, has nowhere to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starved {
    pub at: KernelTime,
    pub netns: Netns,
    pub hook: Option<Hook>,
    pub wanted: IpAddr,
    pub answer: bool,
}

/// The last packet dropped that asked for the link-layer address of the next hop or told it.
pub(super) fn of_next_hop(case: &Case) -> Option<Starved> {
    let neighbour = case.host.neighbour.as_ref();
    let route = case.host.route.as_ref();
    let hops = [
        neighbour.map(|neighbour| neighbour.address),
        route.and_then(|route| route.gateway),
        addresses::target(case).map(|target| target.ip()),
    ];
    last(case, |wanted| hops.contains(&Some(wanted)))
}

/// The last packet dropped that asked for the link-layer address of nginx's own address or told
/// it: whoever answers the SYN needs it.
pub(super) fn of_nginx(case: &Case) -> Option<Starved> {
    let own = case.attempt.local?.ip().to_canonical();
    last(case, |wanted| wanted == own)
}

/// What the packet was, in words.
pub(super) fn packet(wanted: IpAddr, answer: bool) -> String {
    match (wanted, answer) {
        (IpAddr::V4(_), false) => format!("the ARP request for {wanted}"),
        (IpAddr::V4(_), true) => format!("the ARP reply of {wanted}"),
        (IpAddr::V6(_), false) => format!("the neighbour solicitation for {wanted}"),
        (IpAddr::V6(_), true) => format!("the neighbour advertisement of {wanted}"),
    }
}

fn last(case: &Case, is_wanted: impl Fn(IpAddr) -> bool) -> Option<Starved> {
    case.timeline
        .iter()
        .rev()
        .filter(|observed| observed.at <= case.attempt.ended)
        .find_map(|observed| match observed.fact {
            Fact::NeighbourPacketDropped {
                netns,
                hook,
                wanted,
                answer,
                ..
            } if is_wanted(wanted) => Some(Starved {
                at: observed.at,
                netns,
                hook,
                wanted,
                answer,
            }),
            _ => None,
        })
}
