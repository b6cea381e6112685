//! How nginx's namespace leads to the target, or to where it translates it.

use std::net::{IpAddr, SocketAddr};

use super::{Gathered, Host, OWNERS_BUDGET, wants_ports};
use crate::case::{Attempt, Neighbour, Netns, Route, Worker};
use crate::host::routes::{self, Question};
use crate::host::visit::Visit;
use crate::host::{neighbours, ports};

impl Host {
    /// Reads how nginx's namespace leads to the target, or to where it translates it, and where
    /// that way ends. Tells whether it translates it.
    pub(super) fn way_there(
        &self,
        worker: &Worker,
        attempt: &Attempt,
        (target, arrived): (SocketAddr, Option<(Netns, SocketAddr)>),
        gathered: &mut Gathered,
    ) -> bool {
        let own = worker.netns;
        let mut translated = arrived.filter(|(_, to)| to.ip().to_canonical() != target.ip());
        let mut towards = target;
        if let Some(mut visit) = self.visit(own, &mut gathered.unread) {
            gathered.way(&mut visit, worker, attempt, target);
            let stays = gathered.has_local_route();
            if let Some((_, to)) = translated.take_if(|(netns, _)| *netns == own || stays) {
                // Routed again once its destination was another (`ip_route_me_harder`).
                towards = to;
                gathered.way(&mut visit, worker, attempt, to);
            }
            gathered.own_local_route(own);
        }
        if gathered.facts.owners.iter().any(|netns| *netns != own) {
            gathered.facts.far_end = match translated {
                // A namespace on the way translated it, and its routes lead on.
                Some((netns, to)) => self.far_end(netns, &Question::new(to, None)),
                None => self.far_end(own, &question(worker, attempt, towards)),
            };
        }
        towards != target
    }
}

impl Gathered {
    /// How the worker's namespace leads to the target.
    fn way(&mut self, visit: &mut Visit, worker: &Worker, attempt: &Attempt, target: SocketAddr) {
        self.facts.neighbour = None;
        let route = routes::route(visit, &question(worker, attempt, target));
        self.facts.route = self.noted("route", route);
        if let Some((hop, device)) = self.facts.route.as_ref().and_then(|r| next_hop(r, target)) {
            let found: Result<Option<Neighbour>, _> = neighbours::neighbour(visit, hop, &device);
            self.facts.neighbour = self.noted("neighbour", found).flatten();
        }
        if wants_ports(attempt.ending) {
            let towards = ports::towards(visit, target, OWNERS_BUDGET);
            self.facts.ports = self.noted("local ports", towards).flatten();
        }
    }

    /// A local route may cover a network of which no interface has an address
    /// (`ip route add local …`): the SYN stays all the same.
    fn own_local_route(&mut self, netns: Netns) {
        if self.has_local_route() && !self.facts.owners.contains(&netns) {
            self.facts.owners.insert(0, netns);
        }
    }

    fn has_local_route(&self) -> bool {
        let route = self.facts.route.as_ref();
        route.is_some_and(|route| route.kind.as_deref() == Some("local"))
    }
}

fn question(worker: &Worker, attempt: &Attempt, target: SocketAddr) -> Question {
    let mut question = Question::new(target, worker.uid);
    question.source = attempt
        .bound
        .map(|bound| bound.ip())
        .filter(|ip| !ip.is_unspecified());
    question
}

/// Whoever is to answer ARP or ND, and on which interface.
pub(super) fn next_hop(route: &Route, target: SocketAddr) -> Option<(IpAddr, String)> {
    let unicast = route.error.is_none() && route.kind.as_deref() == Some("unicast");
    let device = route.device.clone().filter(|_| unicast)?;
    Some((route.gateway.unwrap_or_else(|| target.ip()), device))
}
