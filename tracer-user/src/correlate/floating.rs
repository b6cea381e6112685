//! Facts about packets, until the attempt is known whose packets they are.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use super::{Ended, Symbols, reasons};
use crate::{
    case::{Circumstances, Endpoint, Fact, KernelTime, Netns, Observed, Segment},
    evidence::What,
};

/// How long a fact floats: nginx's longest patience in practice, and some.
const LIFETIME: KernelTime = 180_000_000_000;
/// How many facts float at one moment; the oldest go first.
const BOUND: usize = 65_536;
/// How long after its end an attempt's packets are still met: a copy in flight.
const AFTERWARDS: KernelTime = 30_000_000;
/// A packet is never seen before its `connect()`; clocks of processors differ by less than this.
const SKEW: KernelTime = 1_000_000;

/// Facts by the port on nginx's side: it survives the translations of a destination. Where a
/// source is translated it may be another one; the opening sequence number stays.
#[derive(Debug, Default)]
pub struct Floating {
    by_port: HashMap<u16, Vec<Unclaimed>>,
    ports: HashMap<u32, Vec<u16>>,
    order: VecDeque<Floats>,
    forgotten: u64,
}

/// Where a fact is to be found.
#[derive(Debug, Clone, Copy)]
struct Floats {
    at: KernelTime,
    port: u16,
    sequence: Option<u32>,
}

#[derive(Debug)]
struct Unclaimed {
    nginx: SocketAddr,
    target: SocketAddr,
    sequence: Option<u32>,
    netns: Netns,
    observed: Observed,
}

/// Whose packets are looked for.
#[derive(Debug)]
pub struct Owner {
    local: Option<SocketAddr>,
    targets: [Option<SocketAddr>; 2],
    sequence: Option<u32>,
    netns: Option<Netns>,
    started: KernelTime,
    ended: KernelTime,
}

impl Owner {
    pub fn of(ended: &Ended, sequence: Option<u32>) -> Self {
        let attempt = &ended.attempt;
        let dialled = match attempt.dialled {
            Some(Endpoint::Inet(address)) => Some(address),
            _ => None,
        };
        Self {
            local: attempt.local.filter(|local| local.port() != 0),
            targets: [attempt.remote, dialled],
            sequence,
            netns: ended.netns,
            started: attempt.started,
            ended: attempt.ended,
        }
    }

    /// The opening sequence number decides where both are known: no translation changes it, and
    /// the same four addresses may be in use in another namespace. Else the
    /// addresses decide, and on loopback the namespace with them.
    fn owns(&self, fact: &Unclaimed) -> bool {
        let at = fact.observed.at;
        let Some(local) = self.local else {
            return false;
        };
        let in_time = at + SKEW >= self.started && at <= self.ended + AFTERWARDS;
        let mine = match (self.sequence, fact.sequence) {
            (Some(mine), Some(its)) => mine == its,
            _ => self.has_addresses_of(fact, local) && self.may_be_in(fact.netns, local),
        };
        in_time && mine
    }

    fn has_addresses_of(&self, fact: &Unclaimed, local: SocketAddr) -> bool {
        let mut targets = self.targets.iter().flatten();
        same(local, fact.nginx) && targets.any(|target| same(*target, fact.target))
    }

    fn may_be_in(&self, netns: Netns, local: SocketAddr) -> bool {
        !local.ip().to_canonical().is_loopback() || self.netns.is_none_or(|own| own == netns)
    }
}

impl Floating {
    pub fn add(&mut self, at: KernelTime, what: What, symbols: &impl Symbols) {
        let Some(fact) = Unclaimed::from_evidence(at, what, symbols) else {
            return;
        };
        let (port, sequence) = (fact.nginx.port(), fact.sequence);
        self.order.push_back(Floats { at, port, sequence });
        self.by_port.entry(port).or_default().push(fact);
        if let Some(sequence) = sequence {
            let ports = self.ports.entry(sequence).or_default();
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        if self.order.len() > BOUND {
            self.forgotten += u64::from(self.forget_oldest());
        }
    }

    /// Takes out what belongs to the attempt.
    pub fn take(&mut self, owner: &Owner) -> Vec<Observed> {
        let Some(own) = owner.local.map(|local| local.port()) else {
            return Vec::new();
        };
        let translated = owner
            .sequence
            .and_then(|sequence| self.ports.get(&sequence));
        let mut ports: Vec<u16> = translated.into_iter().flatten().copied().collect();
        ports.retain(|port| *port != own);
        ports.push(own);
        ports
            .into_iter()
            .flat_map(|port| self.take_at(port, owner))
            .collect()
    }

    fn take_at(&mut self, port: u16, owner: &Owner) -> Vec<Observed> {
        let Some(facts) = self.by_port.get_mut(&port) else {
            return Vec::new();
        };
        let taken = facts
            .extract_if(.., |fact| owner.owns(fact))
            .map(|fact| fact.observed)
            .collect();
        if facts.is_empty() {
            self.by_port.remove(&port);
        }
        taken
    }

    pub fn forget_before(&mut self, now: KernelTime) {
        while let Some(Floats { at, .. }) = self.order.front()
            && at + LIFETIME < now
        {
            self.forget_oldest();
        }
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Forgets the oldest fact; tells whether it was still unclaimed.
    fn forget_oldest(&mut self) -> bool {
        let Some(Floats { at, port, sequence }) = self.order.pop_front() else {
            return false;
        };
        if let Some(sequence) = sequence {
            self.ports.remove(&sequence);
        }
        let Some(facts) = self.by_port.get_mut(&port) else {
            return false;
        };
        let before = facts.len();
        facts.retain(|fact| fact.observed.at > at);
        let forgot = facts.len() < before;
        if facts.is_empty() {
            self.by_port.remove(&port);
        }
        forgot
    }
}

impl Unclaimed {
    fn from_evidence(at: KernelTime, what: What, symbols: &impl Symbols) -> Option<Self> {
        let netns = match &what {
            What::ResetSent { netns, .. }
            | What::Dropped { netns, .. }
            | What::IcmpSent { netns, .. }
            | What::IcmpReceived { netns, .. } => *netns,
            _ => return None,
        };
        let (nginx, target, sequence, fact) = match what {
            What::ResetSent {
                netns,
                reason,
                segment,
            } => opening(
                segment,
                Fact::ResetSent {
                    netns,
                    reason,
                    segment,
                },
            ),
            What::Dropped {
                netns,
                reason,
                answer,
                location,
                frames,
                segment,
                circumstances,
            } => {
                let hook = symbols.hook(&frames);
                let location = symbols.function(location);
                let fact = Fact::Dropped {
                    netns,
                    reason: reasons::of_drop(reason, hook, location.as_deref())?,
                    location,
                    hook,
                    answer,
                    segment,
                    circumstances: Some(with_functions(circumstances, &frames, symbols)),
                };
                match answer {
                    true => (segment.to, segment.from, None, fact),
                    false => opening(segment, fact),
                }
            }
            What::IcmpSent {
                netns,
                icmp,
                frames,
                segment,
                circumstances,
            } => opening(
                segment,
                Fact::IcmpSent {
                    netns,
                    icmp,
                    hook: symbols.hook(&frames),
                    segment,
                    circumstances: Some(with_functions(circumstances, &frames, symbols)),
                },
            ),
            What::IcmpReceived {
                from,
                icmp,
                segment_from,
                segment_to,
                sequence,
                ..
            } => (
                segment_from,
                segment_to,
                sequence,
                Fact::IcmpReceived { from, icmp },
            ),
            _ => return None,
        };
        Some(Self {
            nginx,
            target,
            sequence,
            netns,
            observed: Observed { at, fact },
        })
    }
}

pub(super) fn with_functions(
    circumstances: Circumstances,
    frames: &[u64],
    symbols: &impl Symbols,
) -> Circumstances {
    Circumstances {
        functions: symbols.filters(frames),
        ..circumstances
    }
}

fn opening(segment: Segment, fact: Fact) -> (SocketAddr, SocketAddr, Option<u32>, Fact) {
    (segment.from, segment.to, Some(segment.sequence), fact)
}

/// Equal but for the scope of a link-local address, which packets do not carry, and for the form
/// of a mapped one.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip().to_canonical() == other.ip().to_canonical() && one.port() == other.port()
}
