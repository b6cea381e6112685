//! Packets of ARP and neighbour discovery that a packet filter freed, until an attempt ends that
//! waited for them.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use super::{Ended, Symbols, floating::with_functions};
use crate::{
    case::{Ending, Endpoint, Fact, KernelTime, Observed},
    evidence::What,
};

/// An attempt that nobody answers for want of a neighbour fails within some seconds
/// (`mcast_solicit` times `retrans_time_ms`), and a neighbour that failed is not asked again for
/// another.
const LIFETIME: KernelTime = 10_000_000_000;
/// How long before an attempt its neighbour may have been asked: what failed then still fails it.
const BEFORE: KernelTime = 5_000_000_000;
/// How many are kept at one moment; the oldest go first.
const BOUND: usize = 1024;
/// An attempt needs no more of one kind to be explained.
const MOST: usize = 8;

/// See the module's description.
#[derive(Debug, Default)]
pub struct NeighbourPackets {
    /// By time.
    kept: VecDeque<Observed>,
}

impl NeighbourPackets {
    pub fn add(&mut self, at: KernelTime, what: What, symbols: &impl Symbols) {
        let What::NeighbourPacketDropped {
            netns,
            wanted,
            asker,
            answer,
            frames,
            circumstances,
        } = what
        else {
            return;
        };
        if self.kept.len() >= BOUND {
            self.kept.pop_front();
        }
        self.kept.push_back(Observed {
            at,
            fact: Fact::NeighbourPacketDropped {
                netns,
                hook: symbols.hook(&frames),
                wanted,
                asker,
                answer,
                circumstances: with_functions(circumstances, &frames, symbols),
            },
        });
    }

    /// What may have kept the SYN of the attempt from its next hop. Which address that has is not
    /// known here: all that was asked by the address that nginx dialled from, and all about the
    /// dialled address itself. Other attempts at the same neighbour need it too: it stays.
    pub fn about(&self, ended: &Ended) -> Vec<Observed> {
        if !may_lack_a_neighbour(ended) {
            return Vec::new();
        }
        let attempt = &ended.attempt;
        let dialled = match attempt.dialled {
            Some(Endpoint::Inet(address)) => Some(address),
            _ => None,
        };
        let addresses = [attempt.local, attempt.remote, dialled].map(|it| it.map(canonical));
        self.kept
            .iter()
            .rev()
            .skip_while(|seen| seen.at > attempt.ended)
            .take_while(|seen| seen.at + BEFORE >= attempt.started)
            .filter(|seen| concerns(&seen.fact, &addresses))
            .take(MOST)
            .cloned()
            .collect()
    }

    pub fn forget_before(&mut self, now: KernelTime) {
        while self
            .kept
            .front()
            .is_some_and(|seen| seen.at + LIFETIME < now)
        {
            self.kept.pop_front();
        }
    }
}

fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn concerns(fact: &Fact, addresses: &[Option<IpAddr>]) -> bool {
    let Fact::NeighbourPacketDropped { wanted, asker, .. } = fact else {
        return false;
    };
    addresses
        .iter()
        .flatten()
        .any(|address| address == wanted || Some(*address) == *asker)
}

fn may_lack_a_neighbour(ended: &Ended) -> bool {
    match ended.attempt.ending {
        Ending::GaveUp => true,
        Ending::SocketError { errno } => [libc::EHOSTUNREACH, libc::ETIMEDOUT].contains(&errno),
        _ => false,
    }
}
