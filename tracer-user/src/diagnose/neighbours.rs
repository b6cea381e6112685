//! Packets of ARP and neighbour discovery that a packet filter of this host ate.

use std::net::IpAddr;

use crate::case::{Case, Circumstances, Fact, Hook, KernelTime, Netns};
use crate::diagnose::addresses;

/// A dropped packet without which the SYN, or the answer to it, has nowhere to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starved<'c> {
    pub at: KernelTime,
    pub netns: Netns,
    pub hook: Option<Hook>,
    pub wanted: IpAddr,
    pub answer: bool,
    pub circumstances: &'c Circumstances,
}

/// The last packet dropped that asked for the link-layer address of the next hop or told it.
pub(super) fn of_next_hop(case: &Case) -> Option<Starved<'_>> {
    let hops = hops(case);
    last(case, |wanted, _| hops.contains(&Some(wanted)))
}

/// The last packet dropped that asked for the link-layer address of nginx's own address or told
/// it: whoever answers the SYN needs it.
pub(super) fn of_nginx(case: &Case) -> Option<Starved<'_>> {
    let own = case.attempt.local?.ip().to_canonical();
    let hops = hops(case);
    last(case, |wanted, asker| {
        wanted == own && (asker.is_none() || hops.contains(&asker))
    })
}

/// Who may be the next hop: the neighbour that was looked up, the gateway, or the target itself.
fn hops(case: &Case) -> [Option<IpAddr>; 3] {
    let neighbour = case.host.neighbour.as_ref();
    let route = case.host.route.as_ref();
    [
        neighbour.map(|neighbour| neighbour.address),
        route.and_then(|route| route.gateway),
        addresses::target(case).map(|target| target.ip()),
    ]
}

impl Starved<'_> {
    /// That namespace is known to lie on the way. Elsewhere somebody with the same address may have
    /// looked for a neighbour with the same address.
    pub fn is_on_the_way(&self, case: &Case) -> bool {
        let host = &case.host;
        self.netns == case.worker.netns
            || host.far_end == Some(self.netns)
            || host.tool_netns == Some(self.netns)
            || host.owners.contains(&self.netns)
    }
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

/// The last one in nginx's own namespace, else the last one on the way, else the last of all.
fn last(case: &Case, is_wanted: impl Fn(IpAddr, Option<IpAddr>) -> bool) -> Option<Starved<'_>> {
    let all = all(case, is_wanted);
    let newest = |is_there: &dyn Fn(&Starved) -> bool| {
        let mut newest_first = all.iter().rev();
        newest_first.find(|starved| is_there(starved)).copied()
    };
    newest(&|starved| starved.netns == case.worker.netns)
        .or_else(|| newest(&|starved| starved.is_on_the_way(case)))
        .or_else(|| newest(&|_| true))
}

fn all(case: &Case, is_wanted: impl Fn(IpAddr, Option<IpAddr>) -> bool) -> Vec<Starved<'_>> {
    case.timeline
        .iter()
        .filter(|observed| observed.at <= case.attempt.ended)
        .filter_map(|observed| match &observed.fact {
            Fact::NeighbourPacketDropped {
                netns,
                hook,
                wanted,
                asker,
                answer,
                circumstances,
            } if is_wanted(*wanted, *asker) => Some(Starved {
                at: observed.at,
                netns: *netns,
                hook: *hook,
                wanted: *wanted,
                answer: *answer,
                circumstances,
            }),
            _ => None,
        })
        .collect()
}
