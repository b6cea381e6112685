//! Remembers which upstream addresses fail, to say when one accepts again.

use std::collections::HashMap;

use crate::case::{Endpoint, KernelTime, Netns};
use crate::event::Upstream;

/// Addresses that are remembered at a time. A host with more failing upstreams than this has
/// other worries than a missing recovery event.
const LIMIT: usize = 4096;

/// Upstream addresses that failed and have not accepted since. The same address in two network
/// namespaces is two upstreams.
#[derive(Debug, Default)]
pub struct Recoveries {
    down: HashMap<(Netns, Endpoint), Down>,
    untracked: u64,
}

/// An upstream that accepts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub upstream: Upstream,
    /// From its first failure to the connection that stood, in milliseconds.
    pub down_for_ms: u64,
    pub failures: u64,
}

#[derive(Debug)]
struct Down {
    since: KernelTime,
    failures: u64,
    upstream: Upstream,
}

impl Recoveries {
    /// Notes a failed attempt. `upstream` is asked for at an address's first failure alone.
    pub fn failed(
        &mut self,
        netns: Netns,
        address: &Endpoint,
        at: KernelTime,
        upstream: impl FnOnce() -> Upstream,
    ) {
        let key = (netns, address.clone());
        if let Some(down) = self.down.get_mut(&key) {
            down.failures += 1;
            down.since = down.since.min(at);
        } else if self.down.len() < LIMIT {
            let down = Down {
                since: at,
                failures: 1,
                upstream: upstream(),
            };
            self.down.insert(key, down);
        } else {
            self.untracked += 1;
        }
    }

    /// Notes more attempts of an address that has failed before.
    pub fn failed_again(&mut self, netns: Netns, address: &Endpoint, attempts: u64) {
        if let Some(down) = self.down.get_mut(&(netns, address.clone())) {
            down.failures += attempts;
        }
    }

    /// Notes a connection that stood; says so where the address had failed before it.
    pub fn accepted(
        &mut self,
        netns: Netns,
        address: &Endpoint,
        at: KernelTime,
    ) -> Option<Recovered> {
        if self.down.is_empty() {
            return None;
        }
        let key = (netns, address.clone());
        // Records of two CPUs can arrive out of order: what stood before the failure is no recovery.
        if self.down.get(&key)?.since > at {
            return None;
        }
        let down = self.down.remove(&key)?;
        Some(Recovered {
            upstream: down.upstream,
            down_for_ms: (at - down.since) / 1_000_000,
            failures: down.failures,
        })
    }

    /// Failures of addresses that found no room: their recovery will not be told.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn address(port: u16) -> Endpoint {
        Endpoint::Inet(([127, 0, 0, 1], port).into())
    }

    fn upstream() -> Upstream {
        Upstream {
            address: Some("127.0.0.1:1".into()),
            name: None,
            server: None,
        }
    }

    #[test]
    fn the_first_connection_after_failures_is_a_recovery() {
        let mut recoveries = Recoveries::default();
        recoveries.failed(1, &address(1), 10 * MS, upstream);
        recoveries.failed(1, &address(1), 20 * MS, upstream);
        let recovered = recoveries.accepted(1, &address(1), 110 * MS).unwrap();
        assert_eq!((recovered.down_for_ms, recovered.failures), (100, 2));
        assert_eq!(recoveries.accepted(1, &address(1), 120 * MS), None);
    }

    #[test]
    fn namespaces_and_ports_are_told_apart() {
        let mut recoveries = Recoveries::default();
        recoveries.failed(1, &address(1), 0, upstream);
        assert_eq!(recoveries.accepted(2, &address(1), MS), None);
        assert_eq!(recoveries.accepted(1, &address(2), MS), None);
        assert!(recoveries.accepted(1, &address(1), MS).is_some());
    }

    #[test]
    fn a_connection_older_than_the_failure_is_no_recovery() {
        let mut recoveries = Recoveries::default();
        recoveries.failed(1, &address(1), 10 * MS, upstream);
        assert_eq!(recoveries.accepted(1, &address(1), 9 * MS), None);
        assert!(recoveries.accepted(1, &address(1), 11 * MS).is_some());
    }

    #[test]
    fn memory_is_bounded_and_what_finds_no_room_is_counted() {
        let mut recoveries = Recoveries::default();
        for netns in 0..=LIMIT as u64 {
            recoveries.failed(netns, &address(1), 0, upstream);
        }
        assert_eq!(recoveries.untracked(), 1);
        assert_eq!(recoveries.accepted(LIMIT as u64, &address(1), MS), None);
        assert!(recoveries.accepted(0, &address(1), MS).is_some());
    }
}
