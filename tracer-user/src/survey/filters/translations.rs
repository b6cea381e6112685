//! Which rule sent an attempt's packets to another destination.

use std::net::SocketAddr;

use super::{Filters, Question, packet};
use crate::{
    case::{Endpoint, Fact, Filtering, Hook, KernelTime, Netns, Purpose, Worker},
    correlate::Ended,
    firewall::ruleset::ChainKind,
    host::facts::Host,
};

/// Namespaces with the dialled address that are asked for the rule.
const ROUTERS: usize = 4;

/// Where a packet of nginx was seen on its way to another destination.
struct Seen {
    netns: Netns,
    at: KernelTime,
    from: SocketAddr,
}

/// Rules of nginx's own namespace that translate, as connection tracking says in the end, else
/// those of the one where the packet was seen.
pub fn of(
    filters: &mut Filters,
    host: &Host,
    worker: &Worker,
    ended: &Ended,
    tracked_to: Option<SocketAddr>,
) -> Option<Filtering> {
    let (local, remote) = (ended.attempt.local?, destination(ended)?);
    let own = ended.netns.unwrap_or(worker.netns);
    let seen = seen(ended, remote).or(tracked_to.map(|_| Seen {
        netns: own,
        at: ended.attempt.ended,
        from: local,
    }))?;
    let mut places = vec![(own, Hook::Output, local)];
    // A router that has the dialled address, as hosts of containers do, or the last one seen.
    let owners = host.owners(remote.ip(), own).into_iter();
    let routers = owners.filter(|netns| *netns != own).take(ROUTERS);
    places.extend(routers.map(|netns| (netns, Hook::Prerouting, local)));
    places.push((seen.netns, Hook::Prerouting, seen.from));
    places.into_iter().find_map(|(netns, hook, from)| {
        let packet = packet::untranslated(host, worker, netns, from, remote, hook);
        let question = Question {
            netns,
            hook,
            answer: false,
            neighbour: None,
            purpose: Purpose::Translated,
            kinds: &[ChainKind::Nat],
            packets: &packet::guesses(packet),
            at: seen.at,
            generation: None,
            bridged: false,
            rule: None,
            met_none: false,
        };
        filters
            .ask(host, &question)
            .filter(|filtering| !filtering.fitting.is_empty())
    })
}

fn destination(ended: &Ended) -> Option<SocketAddr> {
    ended.attempt.remote.or(match ended.attempt.dialled {
        Some(Endpoint::Inet(address)) => Some(address),
        _ => None,
    })
}

fn seen(ended: &Ended, remote: SocketAddr) -> Option<Seen> {
    let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    ended.timeline.iter().rev().find_map(|seen| {
        let (netns, segment) = match &seen.fact {
            Fact::ResetSent { netns, segment, .. }
            | Fact::IcmpSent { netns, segment, .. }
            | Fact::Dropped {
                netns,
                segment,
                answer: false,
                ..
            } => (*netns, segment),
            _ => return None,
        };
        let own_packet = ended
            .attempt
            .local
            .is_none_or(|local| local.port() == segment.from.port());
        let elsewhere = canonical(segment.to) != canonical(remote);
        (own_packet && elsewhere && netns != 0).then_some(Seen {
            netns,
            at: seen.at,
            from: segment.from,
        })
    })
}
