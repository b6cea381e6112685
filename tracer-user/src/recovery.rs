//! Remembers which upstream addresses fail, to say when one accepts again.
//!
//! A connection that stood is known at once; a failed attempt only after it was explained. What
//! failed before that connection may thus come to be known after it: a recovery waits a moment for
//! such failures, and those that are later still are left out.

use std::collections::HashMap;

use crate::case::{Endpoint, KernelTime, Netns};
use crate::event::Upstream;

/// Addresses that are remembered at a time. A host with more failing upstreams than this has
/// other worries than a missing recovery event.
const LIMIT: usize = 4096;
/// How long a recovery waits for the failures before it, in nanoseconds: longer than most
/// attempts wait for their line, and than the kernel's counts are left alone.
const SETTLING: KernelTime = 150_000_000;

/// The same address in two network namespaces is two upstreams.
type Key = (Netns, Endpoint);

/// Upstream addresses that failed and have not accepted since.
#[derive(Debug, Default)]
pub struct Recoveries {
    known: HashMap<Key, Known>,
    /// Recoveries that wait, and when they do no longer; few at a time.
    settling: Vec<(KernelTime, Key)>,
    settled: Vec<Recovered>,
    untracked: u64,
}

/// An upstream that accepts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub upstream: Upstream,
    /// When the connection stood.
    pub at: KernelTime,
    /// From its first failure to the connection that stood, in milliseconds.
    pub down_for_ms: u64,
    pub failures: u64,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Known {
    down: Option<Down>,
    over: Option<Over>,
    /// The last connection that stood.
    accepted: Option<KernelTime>,
    /// The last connection that was told as a recovery.
    told: Option<KernelTime>,
}

/// A time that a connection ended, and that is not told yet.
#[derive(Debug)]
struct Over {
    down: Down,
    until: KernelTime,
    due: KernelTime,
}

#[derive(Debug)]
struct Down {
    since: KernelTime,
    failures: u64,
    upstream: Upstream,
}

impl Recoveries {
    /// Notes at `now` an attempt that failed at `at`. `upstream` is asked for at an address's
    /// first failure alone.
    pub fn failed(
        &mut self,
        netns: Netns,
        address: &Endpoint,
        at: KernelTime,
        now: KernelTime,
        upstream: impl FnOnce() -> Upstream,
    ) {
        let key = (netns, address.clone());
        if !self.has_room_for(&key) {
            self.untracked += 1;
            return;
        }
        let known = self.known.entry(key.clone()).or_default();
        if known.told.is_some_and(|told| at <= told) {
            return;
        }
        if let Some(over) = &mut known.over {
            if at <= over.until {
                over.down.add(at);
                return;
            }
            self.settled.extend(known.settle());
        }
        let until = known.accepted.filter(|accepted| at <= *accepted);
        match (&mut known.down, until) {
            (Some(down), _) => down.add(at),
            (None, None) => known.down = Some(Down::new(at, upstream())),
            (None, Some(until)) => {
                let due = now.saturating_add(SETTLING);
                known.over = Some(Over {
                    down: Down::new(at, upstream()),
                    until,
                    due,
                });
                self.settling.push((due, key));
            }
        }
    }

    /// Notes more attempts of an address that has failed before.
    pub fn failed_again(&mut self, netns: Netns, address: &Endpoint, attempts: u64) {
        let Some(known) = self.known.get_mut(&(netns, address.clone())) else {
            return;
        };
        let over = known.over.as_mut().map(|over| &mut over.down);
        if let Some(down) = over.or(known.down.as_mut()) {
            down.failures += attempts;
        }
    }

    /// Notes a connection that stood.
    pub fn accepted(&mut self, netns: Netns, address: &Endpoint, at: KernelTime) {
        let key = (netns, address.clone());
        if !self.has_room_for(&key) {
            return;
        }
        let known = self.known.entry(key.clone()).or_default();
        known.accepted = known.accepted.max(Some(at));
        // Records of two CPUs can arrive out of order: what stood before the failure is no recovery.
        let Some(down) = known.down.take_if(|down| down.since <= at) else {
            return;
        };
        self.settled.extend(known.settle());
        let due = at.saturating_add(SETTLING);
        known.over = Some(Over {
            down,
            until: at,
            due,
        });
        self.settling.push((due, key));
    }

    /// Whether the address failed after it last accepted.
    pub fn is_down(&self, netns: Netns, address: &Endpoint) -> bool {
        let known = self.known.get(&(netns, address.clone()));
        known.is_some_and(|known| known.down.is_some())
    }

    /// When the next recovery is to be told: the time to call [`Recoveries::due`].
    pub fn next_due(&self) -> Option<KernelTime> {
        match self.settled.is_empty() {
            true => self.settling.iter().map(|(due, _)| *due).min(),
            false => Some(0),
        }
    }

    /// The recoveries that are to be told by `now`, in the order in which they happened.
    pub fn due(&mut self, now: KernelTime) -> Vec<Recovered> {
        let due = self.settling.extract_if(.., |(due, _)| *due <= now);
        for (_, key) in due {
            if let Some(known) = self.known.get_mut(&key)
                && known.over.as_ref().is_some_and(|over| over.due <= now)
            {
                self.settled.extend(known.settle());
            }
        }
        self.settled.sort_by_key(|recovered| recovered.at);
        std::mem::take(&mut self.settled)
    }

    /// Failures of addresses that found no room: their recovery will not be told.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// Makes room by forgetting those that are well.
    fn has_room_for(&mut self, key: &Key) -> bool {
        if self.known.len() < LIMIT || self.known.contains_key(key) {
            return true;
        }
        self.known
            .retain(|_, known| known.down.is_some() || known.over.is_some());
        self.known.len() < LIMIT
    }
}

impl Known {
    fn settle(&mut self) -> Option<Recovered> {
        let Over {
            down, until: at, ..
        } = self.over.take()?;
        self.told = Some(at);
        Some(Recovered {
            upstream: down.upstream,
            at,
            down_for_ms: at.saturating_sub(down.since) / 1_000_000,
            failures: down.failures,
        })
    }
}

impl Down {
    fn new(since: KernelTime, upstream: Upstream) -> Self {
        Self {
            since,
            failures: 1,
            upstream,
        }
    }

    fn add(&mut self, at: KernelTime) {
        self.failures += 1;
        self.since = self.since.min(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn address(port: u16) -> Endpoint {
        Endpoint::Inet(([127, 0, 0, 1], port).into())
    }

    fn failed(recoveries: &mut Recoveries, at: KernelTime) {
        recoveries.failed(1, &address(1), at, at + 40 * MS, || Upstream {
            address: Some("127.0.0.1:1".into()),
            name: None,
            server: None,
        });
    }

    fn told(recoveries: &mut Recoveries, now: KernelTime) -> Vec<(KernelTime, u64, u64)> {
        let due = recoveries.due(now).into_iter();
        due.map(|it| (it.at / MS, it.down_for_ms, it.failures))
            .collect()
    }

    #[test]
    fn the_first_connection_after_failures_is_a_recovery() {
        let mut recoveries = Recoveries::default();
        failed(&mut recoveries, 10 * MS);
        failed(&mut recoveries, 20 * MS);
        recoveries.accepted(1, &address(1), 110 * MS);
        recoveries.accepted(1, &address(1), 120 * MS);
        assert_eq!(recoveries.next_due(), Some(110 * MS + SETTLING));
        assert_eq!(told(&mut recoveries, 110 * MS), []);
        assert_eq!(told(&mut recoveries, 300 * MS), [(110, 100, 2)]);
        assert_eq!(recoveries.next_due(), None);
    }

    #[test]
    fn a_failure_that_is_explained_after_the_recovery_makes_no_second_one() {
        let mut recoveries = Recoveries::default();
        failed(&mut recoveries, 10 * MS);
        recoveries.accepted(1, &address(1), 110 * MS);
        failed(&mut recoveries, 105 * MS);
        assert_eq!(told(&mut recoveries, 300 * MS), [(110, 100, 2)]);
        failed(&mut recoveries, 106 * MS);
        recoveries.accepted(1, &address(1), 400 * MS);
        assert_eq!(told(&mut recoveries, 900 * MS), []);
        failed(&mut recoveries, 500 * MS);
        recoveries.accepted(1, &address(1), 600 * MS);
        assert_eq!(told(&mut recoveries, 900 * MS), [(600, 100, 1)]);
    }

    #[test]
    fn a_connection_that_stands_before_its_failure_is_explained_is_a_recovery() {
        let mut recoveries = Recoveries::default();
        recoveries.accepted(1, &address(1), 15 * MS);
        failed(&mut recoveries, 10 * MS);
        failed(&mut recoveries, 11 * MS);
        assert_eq!(told(&mut recoveries, 300 * MS), [(15, 5, 2)]);
    }

    #[test]
    fn an_address_that_fails_again_at_once_recovers_twice() {
        let mut recoveries = Recoveries::default();
        failed(&mut recoveries, 10 * MS);
        recoveries.accepted(1, &address(1), 20 * MS);
        recoveries.accepted(1, &address(1), 40 * MS);
        failed(&mut recoveries, 30 * MS);
        assert_eq!(told(&mut recoveries, 30 * MS), [(20, 10, 1)]);
        assert_eq!(told(&mut recoveries, 300 * MS), [(40, 10, 1)]);
    }

    #[test]
    fn attempts_that_were_only_counted_are_failures_of_the_time_before() {
        let mut recoveries = Recoveries::default();
        failed(&mut recoveries, 10 * MS);
        recoveries.failed_again(1, &address(1), 5);
        recoveries.accepted(1, &address(1), 20 * MS);
        recoveries.failed_again(1, &address(1), 4);
        assert_eq!(told(&mut recoveries, 300 * MS), [(20, 10, 10)]);
    }

    #[test]
    fn namespaces_and_ports_are_told_apart() {
        let mut recoveries = Recoveries::default();
        failed(&mut recoveries, 10 * MS);
        recoveries.accepted(2, &address(1), 20 * MS);
        recoveries.accepted(1, &address(2), 20 * MS);
        assert_eq!(told(&mut recoveries, 300 * MS), []);
        recoveries.accepted(1, &address(1), 400 * MS);
        assert_eq!(told(&mut recoveries, 900 * MS).len(), 1);
    }

    #[test]
    fn a_connection_older_than_the_failure_is_no_recovery() {
        let mut recoveries = Recoveries::default();
        failed(&mut recoveries, 10 * MS);
        recoveries.accepted(1, &address(1), 9 * MS);
        assert_eq!(told(&mut recoveries, 300 * MS), []);
        recoveries.accepted(1, &address(1), 11 * MS);
        assert_eq!(told(&mut recoveries, 300 * MS).len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_what_finds_no_room_is_counted() {
        let mut recoveries = Recoveries::default();
        let upstream = || Upstream {
            address: None,
            name: None,
            server: None,
        };
        for netns in 0..=LIMIT as u64 {
            recoveries.failed(netns, &address(1), 1, 1, upstream);
        }
        assert_eq!(recoveries.untracked(), 1);
        recoveries.accepted(LIMIT as u64, &address(1), MS);
        assert!(recoveries.due(KernelTime::MAX).is_empty());
        recoveries.accepted(0, &address(1), MS);
        assert_eq!(recoveries.due(KernelTime::MAX).len(), 1);
        // Those that are well make room.
        recoveries.failed(LIMIT as u64, &address(1), MS, MS, upstream);
        assert_eq!(recoveries.untracked(), 1);
    }
}
