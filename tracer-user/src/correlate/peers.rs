//! How the other ends of connections ended them, until the worker complains.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use super::Ended;
use crate::case::{Fact, KernelTime, Netns, Observed, PeerEnded};

/// How long a worker may take to notice: `proxy_read_timeout` is 60 seconds by default, and what
/// is filtered is sent again at growing intervals.
const LIFETIME: KernelTime = 120_000_000_000;
/// Ends that are remembered; those of healthy connections are among them, and the oldest go first.
const BOUND: usize = 8_192;
/// Clocks of processors differ by less than this.
const SKEW: KernelTime = 1_000_000;

/// nginx's end and the other, in canonical form.
type Pair = (SocketAddr, SocketAddr);

#[derive(Debug, Default)]
pub struct Peers {
    ended: HashMap<Pair, Vec<(KernelTime, PeerEnded)>>,
    order: VecDeque<(KernelTime, Pair)>,
}

impl Peers {
    pub fn add(&mut self, at: KernelTime, nginx: SocketAddr, target: SocketAddr, end: PeerEnded) {
        let pair = (canonical(nginx), canonical(target));
        let told = self.ended.entry(pair).or_default();
        // What is filtered is sent again and again: the last time stands for all.
        if end.how.is_filtered() {
            told.retain(|(_, earlier)| earlier.how != end.how);
        }
        told.push((at, end));
        self.order.push_back((at, pair));
        if self.order.len() > BOUND {
            self.forget_oldest();
        }
    }

    /// What ended the connection of that attempt.
    pub fn of(&self, of: &Ended) -> Vec<Observed> {
        let attempt = &of.attempt;
        let (Some(local), Some(remote)) = (attempt.local, attempt.remote) else {
            return Vec::new();
        };
        let pair = (canonical(local), canonical(remote));
        let in_time = |at: KernelTime| at + SKEW >= attempt.started;
        self.ended
            .get(&pair)
            .into_iter()
            .flatten()
            .filter(|(at, end)| in_time(*at) && may_end_in(end.netns, of.netns, pair))
            .map(|(at, end)| Observed {
                at: *at,
                fact: Fact::PeerEnded(end.clone()),
            })
            .collect()
    }

    /// Whether a process that was dying ended the connection of that attempt.
    pub fn died_of(&self, ended: &Ended) -> bool {
        self.of(ended)
            .iter()
            .any(|seen| matches!(&seen.fact, Fact::PeerEnded(end) if end.exit_code.is_some()))
    }

    pub fn forget_before(&mut self, now: KernelTime) {
        while self
            .order
            .front()
            .is_some_and(|(at, _)| at.saturating_add(LIFETIME) < now)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((at, pair)) = self.order.pop_front() else {
            return;
        };
        if let Some(ended) = self.ended.get_mut(&pair) {
            ended.retain(|(ended, _)| *ended > at);
            if ended.is_empty() {
                self.ended.remove(&pair);
            }
        }
    }
}

/// A namespace that dials itself meets nobody else, and others have the same connection within
/// themselves: loopback is everywhere, and so are private addresses.
fn may_end_in(netns: Netns, own: Option<Netns>, (nginx, target): Pair) -> bool {
    let within = nginx.ip().is_loopback() || nginx.ip() == target.ip();
    !within || own.is_none_or(|own| own == netns)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
