//! Where packets to an address end, as far as the namespaces of this host lead them.

use crate::case::{Netns, Route};
use crate::host::facts::Host;
use crate::host::facts::way::next_hop;
use crate::host::routes::{self, Question};
use crate::host::visit::Visit;
use crate::host::{links, neighbours};

/// A way through more namespaces than this is taken for a loop.
const MOST_HOPS: usize = 8;

impl Host {
    /// The namespace at which the routes to an address end, followed from `start` by the
    /// link-layer addresses of their next hops. Null where they lead off this host, and where
    /// they cannot be followed: an address alone tells nothing, as unconnected namespaces may own
    /// the same private one.
    pub(super) fn far_end(&self, start: Netns, question: &Question) -> Option<Netns> {
        let mut question = *question;
        let mut netns = start;
        for _ in 0..MOST_HOPS {
            let mut visit = Visit::to(self.namespaces.get(netns)?).ok()?;
            let route = routes::route(&mut visit, &question).ok()?;
            if route.error.is_none() && route.kind.as_deref() == Some("local") {
                return Some(netns);
            }
            netns = self.next_namespace(&mut visit, &route, &question)?;
            question = Question::new(question.destination, None);
        }
        None
    }

    /// Whether an interface besides the loopback one is up in `netns`: without one nothing gets
    /// there from another namespace. True where that cannot be read.
    pub(super) fn is_connected(&self, netns: Netns) -> bool {
        let visit = self
            .namespaces
            .get(netns)
            .and_then(|place| Visit::to(place).ok());
        visit.is_none_or(|mut visit| links::any_leads_out(&mut visit).unwrap_or(true))
    }

    fn next_namespace(
        &self,
        visit: &mut Visit,
        route: &Route,
        question: &Question,
    ) -> Option<Netns> {
        let (hop, device) = next_hop(route, question.destination)?;
        let link_address = neighbours::link_address(visit, hop, &device).ok()??;
        let mut found = self
            .addresses
            .owners(hop, visit.netns)
            .into_iter()
            .filter(|netns| *netns != visit.netns)
            .filter(|netns| self.has_link(*netns, &link_address));
        let next = found.next();
        next.filter(|_| found.next().is_none())
    }

    fn has_link(&self, netns: Netns, link_address: &[u8]) -> bool {
        self.namespaces
            .get(netns)
            .and_then(|place| Visit::to(place).ok())
            .is_some_and(|mut visit| {
                links::any_has_address(&mut visit, link_address).unwrap_or(false)
            })
    }
}
