//! Which parts of a case and its diagnosis make two failures alike.

use std::hash::{BuildHasher, Hash, Hasher};

use crate::case::{Case, Death, Fact, HostFacts, Icmp, PeerEnded};
use crate::verdict::Diagnosis;

pub fn hash_case(case: &Case, hashing: &impl BuildHasher, hasher: &mut impl Hasher) {
    let worker = &case.worker;
    (worker.master_pid.unwrap_or(worker.pid), worker.netns).hash(hasher);
    let attempt = &case.attempt;
    (&attempt.dialled, attempt.bound).hash(hasher);
    attempt.ending.hash(hasher);
    (&attempt.upstream_name, &attempt.upstream_server).hash(hasher);
    hash_host(&case.host, hasher);
    // The kinds of evidence count, not how often each was met: the number of retransmissions
    // depends on nginx's patience.
    let mut kinds: Vec<_> = case
        .timeline
        .iter()
        .map(|observed| fact_kind(&observed.fact, hashing))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.hash(hasher);
}

pub fn hash_diagnosis(diagnosis: &Diagnosis, hasher: &mut impl Hasher) {
    let verdict = &diagnosis.verdict;
    (verdict.code, verdict.confidence, &verdict.missing).hash(hasher);
    (diagnosis.surface, diagnosis.errno, diagnosis.translated_to).hash(hasher);
    diagnosis.rule.hash(hasher);
    diagnosis.listener.is_some().hash(hasher);
    let listeners = diagnosis.listener.iter().chain(&diagnosis.candidates);
    for listener in listeners {
        let owner = listener.owners.first().map(|process| process.pid);
        (listener.address, listener.netns, owner).hash(hasher);
    }
    let sockets = diagnosis.unix_listener.iter();
    for socket in sockets.chain(&diagnosis.unix_candidates) {
        let owner = socket.owners.first().map(|process| process.pid);
        (&socket.name, socket.netns, owner).hash(hasher);
    }
    if let Some((at, death)) = &diagnosis.ended {
        let how = match death {
            Death::Closed => (0, 0),
            Death::Exited { status } => (1, *status),
            Death::Killed { signal, .. } => (2, *signal),
            Death::OomKilled => (3, 0),
        };
        (at, how).hash(hasher);
    }
}

fn hash_host(host: &HostFacts, hasher: &mut impl Hasher) {
    if let Some(route) = &host.route {
        (route.error, &route.kind, &route.line, &route.device).hash(hasher);
    }
    if let Some(neighbour) = &host.neighbour {
        (neighbour.address, &neighbour.device, neighbour.netns).hash(hasher);
    }
}

/// What a fact says, without the ports and sequence numbers that differ for each attempt.
fn fact_kind(fact: &Fact, hashing: &impl BuildHasher) -> u64 {
    match fact {
        Fact::ResetReceived => hashing.hash_one(0),
        Fact::ResetSent { netns, reason, .. } => hashing.hash_one((1, netns, reason)),
        Fact::Dropped {
            netns,
            reason,
            location,
            hook,
            answer,
            ..
        } => hashing.hash_one((2, netns, reason, location, hook, answer)),
        Fact::IcmpSent {
            netns, icmp, hook, ..
        } => hashing.hash_one((3, netns, icmp_parts(icmp), hook)),
        Fact::IcmpReceived { from, icmp } => hashing.hash_one((4, from, icmp_parts(icmp))),
        Fact::Retransmitted { error } => hashing.hash_one((5, error)),
        Fact::ClientClosed { .. } => hashing.hash_one(6),
        Fact::CallIntercepted => hashing.hash_one(8),
        Fact::SecurityDenied { errno } => hashing.hash_one((12, errno)),
        Fact::Audited { denial } => hashing.hash_one((9, denial.module, &denial.request)),
        Fact::NeighbourPacketDropped {
            netns,
            hook,
            wanted,
            answer,
            ..
        } => hashing.hash_one((7, netns, hook, wanted, answer)),
        Fact::FinReceived => hashing.hash_one(10),
        Fact::PeerEnded(ended) => {
            let PeerEnded {
                how,
                netns,
                reason,
                accepted,
                ..
            } = ended;
            hashing.hash_one((11, how, netns, reason, accepted))
        }
    }
}

fn icmp_parts(icmp: &Icmp) -> (u8, u8, bool) {
    (icmp.kind, icmp.code, icmp.v6)
}
