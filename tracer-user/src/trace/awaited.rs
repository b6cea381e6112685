//! Which upstream addresses the kernel is asked to report the next connection to.

use std::collections::HashMap;

use tracer_common::bound;

use super::Trace;
use crate::{
    case::{Endpoint, KernelTime, Netns},
    event::Event,
    evidence::{Evidence, What},
    report,
};

/// Addresses that failed, with the namespaces in which they did. The kernel knows an address
/// alone: what stands in one namespace must not end the wait in another.
#[derive(Debug, Default)]
pub struct Awaited {
    failed: HashMap<Endpoint, Vec<Option<Netns>>>,
    refused: u64,
}

impl Awaited {
    /// Notes a failure in a namespace, where it is known. Whether the kernel is to be asked.
    pub fn failed(&mut self, netns: Option<Netns>, address: &Endpoint) -> bool {
        if let Some(spaces) = self.failed.get_mut(address) {
            if !spaces.contains(&netns) {
                spaces.push(netns);
            }
            return false;
        }
        if self.failed.len() >= bound::RECOVERING as usize {
            self.refused += 1;
            return false;
        }
        self.failed.insert(address.clone(), vec![netns]);
        true
    }

    /// Notes a connection that stood in a namespace. Whether the kernel need not tell the next.
    pub fn accepted(&mut self, netns: Netns, address: &Endpoint) -> bool {
        let Some(spaces) = self.failed.get_mut(address) else {
            return true;
        };
        spaces.retain(|space| space.is_some_and(|space| space != netns));
        let nobody_waits = spaces.is_empty();
        if nobody_waits {
            self.failed.remove(address);
        }
        nobody_waits
    }

    /// Failures of addresses that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

impl Trace {
    /// Awaits the next connection to an address as soon as an attempt at it failed: it may stand
    /// before the failure is explained.
    pub(super) fn await_next(&mut self, evidence: &Evidence) {
        let (netns, dialled) = match &evidence.what {
            What::AttemptEnded {
                dialled,
                remote,
                netns,
                ..
            } => (Some(*netns), dialled.or(*remote).map(Endpoint::Inet)),
            What::ConnectFailed { dialled, netns, .. } => (*netns, dialled.clone()),
            _ => return,
        };
        if let Some(dialled) = dialled {
            self.await_recovery(netns, &dialled);
        }
    }

    /// The kernel tells connections over TCP alone.
    pub(super) fn await_recovery(&mut self, netns: Option<Netns>, dialled: &Endpoint) {
        if matches!(dialled, Endpoint::Inet(_))
            && self.awaited.failed(netns, dialled)
            && let Err(error) = self.probes.await_recovery(dialled)
        {
            log::warn!("{error}");
        }
    }

    /// Notes a connection that stood.
    pub(super) fn connected(&mut self, evidence: &Evidence) {
        let What::Connected {
            dialled: Some(dialled),
            netns,
            self_connected: false,
            ..
        } = &evidence.what
        else {
            return;
        };
        let endpoint = Endpoint::Inet(*dialled);
        self.recoveries.accepted(*netns, &endpoint, evidence.at);
        if self.awaited.accepted(*netns, &endpoint) {
            self.probes.forget_recovery(&endpoint);
        }
    }

    /// Says which upstreams accept again.
    pub(super) fn tell_recoveries(&mut self, now: KernelTime) {
        for recovered in self.recoveries.due(now) {
            // What it recovered from is told first.
            let upstream = &recovered.upstream.address;
            let earlier = self
                .coalescer
                .close_early(|failure| failure.upstream.address == *upstream);
            for failure in earlier {
                self.tell(failure);
            }
            let event = report::recovery(recovered, &self.coverage, &self.host);
            self.write(&Event::Recovery(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_in_one_namespace_does_not_end_with_a_connection_in_another() {
        let mut awaited = Awaited::default();
        let address = Endpoint::Inet(([127, 0, 0, 1], 1).into());
        assert!(awaited.failed(Some(1), &address));
        assert!(!awaited.failed(Some(2), &address));
        assert!(!awaited.accepted(2, &address));
        assert!(!awaited.accepted(3, &address));
        assert!(awaited.accepted(1, &address));
        assert!(awaited.failed(None, &address));
        assert!(awaited.accepted(1, &address));
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut awaited = Awaited::default();
        for port in 0..=bound::RECOVERING as u16 {
            awaited.failed(Some(1), &Endpoint::Inet(([127, 0, 0, 1], port).into()));
        }
        assert_eq!(awaited.refused(), 1);
    }
}
