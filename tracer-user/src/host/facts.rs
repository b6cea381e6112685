//! What the host has to say about one attempt.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::case::{
    Attempt, Ending, Endpoint, HostFacts, KernelTime, Listener, Met, Netns, UnixFacts, Worker,
};
use crate::clock;
use crate::host::addresses::AddressBook;
use crate::host::netns::{Namespace, Namespaces};
use crate::host::open_files::OpenFiles;
use crate::host::table::{Census, ListenerTable};
use crate::host::unix_listeners::UnixListeners;
use crate::host::visit::Visit;
use crate::host::{descriptors, listeners, peers, policies, sockets, unix, waiting};

/// How long the search for the holders of some sockets may take, for one attempt.
const OWNERS_BUDGET: Duration = Duration::from_millis(50);

/// The host as it was last read.
#[derive(Debug)]
pub struct Host {
    pub namespaces: Namespaces,
    pub listeners: ListenerTable,
    pub unix_listeners: UnixListeners,
    /// Where they can be looked at.
    pub open_files: Option<OpenFiles>,
    addresses: AddressBook,
    read: Instant,
    /// The namespace of this process.
    own: Option<Netns>,
}

/// The facts, and what could not be read of them, in words.
#[derive(Debug, Default)]
pub struct Gathered {
    pub facts: HostFacts,
    pub unread: Vec<String>,
}

impl Host {
    /// Takes the first snapshot, looking for the owners of listeners for `budget` at most.
    pub fn read(budget: Duration) -> io::Result<(Self, Census)> {
        let namespaces = Namespaces::read()?;
        let mut listeners = ListenerTable::default();
        let census = listeners.rescan(&namespaces, budget)?;
        let host = Self {
            addresses: AddressBook::read(namespaces.iter()),
            namespaces,
            listeners,
            unix_listeners: UnixListeners::default(),
            open_files: None,
            read: Instant::now(),
            own: Namespace::of_process(std::process::id())
                .ok()
                .map(|namespace| namespace.inode),
        };
        Ok((host, census))
    }

    /// Looks for namespaces and addresses again where the last look is older than `age`.
    pub fn freshen(&mut self, age: Duration) -> io::Result<()> {
        if self.read.elapsed() < age {
            return Ok(());
        }
        self.namespaces.refresh()?;
        let namespaces = &self.namespaces;
        self.listeners
            .retain_namespaces(|netns| namespaces.get(netns).is_some());
        self.addresses = AddressBook::read(namespaces.iter());
        self.read = Instant::now();
        Ok(())
    }

    /// The name of an interface by its index, as reports of listeners have it; null for index 0
    /// and where it is gone with its namespace.
    pub fn device(&self, netns: Netns, index: u32) -> Option<String> {
        let namespace = self.namespaces.get(netns).filter(|_| index != 0)?;
        let mut visit = Visit::to(namespace).ok()?;
        listeners::device_name(&mut visit, index, &mut HashMap::new()).ok()?
    }

    /// The namespaces that have the address, `asking` first where it does.
    pub fn owners(&self, address: IpAddr, asking: Netns) -> Vec<Netns> {
        self.addresses.owners(address, asking)
    }

    /// Whether the namespace has the address, as far as was read.
    pub fn owns(&self, netns: Netns, address: IpAddr) -> bool {
        self.addresses.owners(address, netns).contains(&netns)
    }

    /// Gathers what bears on `attempt`. `arrived` is the namespace that its SYN got to and the
    /// destination that it had there, where the kernel told: NAT may have changed it. Nothing is
    /// gathered about a destination that is not TCP.
    pub fn facts(
        &mut self,
        worker: &Worker,
        attempt: &Attempt,
        arrived: Option<(Netns, SocketAddr)>,
    ) -> Gathered {
        let mut gathered = Gathered::default();
        gathered.facts.tool_netns = self.own;
        gathered.process(worker, attempt);
        if let Some(Endpoint::Unix(path)) = &attempt.dialled {
            gathered.facts.unix = Some(self.unix(worker, path, attempt));
        }
        let Some(target) = target(attempt) else {
            return gathered;
        };
        let reached = arrived.map_or(target, |(_, to)| to);
        gathered.facts.owners = self.addresses.owners(reached.ip(), worker.netns);
        gathered
            .facts
            .owners
            .retain(|netns| *netns == worker.netns || self.is_connected(*netns));
        let passed = self.way_there(worker, attempt, (target, arrived), &mut gathered);
        let stations: BTreeSet<Netns> = gathered
            .facts
            .owners
            .iter()
            .copied()
            .chain(arrived.map(|(netns, _)| netns))
            .collect();
        for netns in &stations {
            let told = gathered.unread.len();
            self.station(*netns, reached.port(), attempt, &mut gathered);
            let matters = arrived.is_some_and(|(place, _)| place == *netns)
                || *netns == worker.netns
                || gathered.facts.far_end == Some(*netns);
            if !matters && self.has_vanished(*netns) {
                // It had the address once. Nothing is left to read, nor was anything of the attempt
                // seen there.
                gathered.unread.truncate(told);
            }
        }
        // Past listeners of its own, perhaps.
        let places = stations
            .iter()
            .copied()
            .chain(passed.then_some(worker.netns));
        gathered.facts.listeners = self.listeners_about(&places.collect(), reached.port());
        if let Some(ends) = waited_on(attempt, reached) {
            for netns in &stations {
                let Some(mut visit) = self.visit(*netns, &mut gathered.unread) else {
                    continue;
                };
                let found = peers::peer(&mut visit, ends, &gathered.facts.listeners, OWNERS_BUDGET);
                let found = gathered.noted("peer", found).flatten();
                gathered.facts.peer = gathered.facts.peer.or(found);
            }
        }
        gathered.facts.ended = self
            .listeners
            .ended_on_port(reached.port(), ending(attempt));
        let lost = |netns: &Netns| self.listeners.lost_one_on(*netns, reached);
        gathered.facts.end_lost = stations.iter().any(lost);
        gathered
    }

    /// Reads who listens, or otherwise holds the port, in a namespace.
    fn station(&mut self, netns: Netns, port: u16, attempt: &Attempt, gathered: &mut Gathered) {
        let Some(mut visit) = self.visit(netns, &mut gathered.unread) else {
            return;
        };
        let listed = listeners::listening_on(&mut visit, port);
        if let Some(listed) = gathered.noted("listeners", listed) {
            self.listeners
                .listed(netns, port, listed, clock::monotonic());
        }
        gathered.bound_to(&mut visit, port, attempt, self.open_files.as_mut());
        gathered.udp_on(&mut visit, port);
        if may_have_waited(attempt.ending) {
            gathered.waiting(&mut visit, &self.namespaces, port);
        }
    }

    fn unix(&self, worker: &Worker, path: &[u8], attempt: &Attempt) -> UnixFacts {
        let mut facts = unix::facts(
            &self.namespaces,
            worker,
            path,
            &self.unix_listeners.owners(),
        );
        let served = facts
            .bound
            .iter()
            .any(|socket| socket.listening && !socket.shut);
        let began = attempt.started;
        facts.ended = self
            .unix_listeners
            .ended(worker.pid, path)
            .filter(|ended| !served && ended.at <= began);
        facts
    }

    /// Every listener on the port, and all those of the namespaces that the SYN may have got to.
    fn listeners_about(&self, stations: &BTreeSet<Netns>, port: u16) -> Vec<Listener> {
        let mut found = self.listeners.on_port(port);
        for netns in stations {
            let others = self.listeners.in_namespace(*netns);
            found.extend(others.into_iter().filter(|l| l.address.port() != port));
        }
        found
    }

    fn has_vanished(&self, netns: Netns) -> bool {
        self.namespaces
            .get(netns)
            .is_some_and(|namespace| !namespace.exists())
    }

    fn visit(&self, netns: Netns, unread: &mut Vec<String>) -> Option<Visit> {
        let Some(namespace) = self.namespaces.get(netns) else {
            unread.push(format!("network namespace {netns} is not known"));
            return None;
        };
        let mut told = |error: String| {
            if !unread.contains(&error) {
                unread.push(error);
            }
        };
        Visit::to(namespace)
            .map_err(|error| told(error.to_string()))
            .ok()
    }
}

impl Gathered {
    fn process(&mut self, worker: &Worker, attempt: &Attempt) {
        let filtered = descriptors::seccomp_filter(worker.pid);
        self.facts.seccomp_filter = self.noted("seccomp state", filtered).flatten();
        if may_be_denied(attempt.ending) {
            let refused =
                matches!(attempt.ending, Ending::SocketFailed { .. }).then_some(attempt.family);
            self.facts.policies = Some(policies::of_process(worker.pid, refused));
        }
        if matches!(attempt.ending, Ending::SocketFailed { .. }) {
            let read = descriptors::descriptors(worker.pid);
            self.facts.descriptors = self.noted("descriptors", read);
        }
    }

    fn udp_on(&mut self, visit: &mut Visit, port: u16) {
        let udp = sockets::udp_on_port(visit, port);
        self.facts.udp_on_port |= self.noted("UDP sockets", udp).unwrap_or(false);
    }

    fn waiting(&mut self, visit: &mut Visit, namespaces: &Namespaces, port: u16) {
        let Some(namespace) = namespaces.get(visit.netns) else {
            return;
        };
        let waiting = waiting::on_port(visit, namespace, port);
        let noted = self.noted("waiting connections", waiting);
        self.facts.waiting.extend(noted);
    }

    fn noted<T, E: std::fmt::Display>(&mut self, what: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.unread.push(format!("{what}: {error}")))
            .ok()
    }
}

/// Where the SYN was to go: a cgroup program may have changed what nginx dialled.
fn target(attempt: &Attempt) -> Option<SocketAddr> {
    let dialled = match attempt.dialled {
        Some(Endpoint::Inet(address)) => Some(address),
        _ => None,
    };
    attempt
        .remote
        .or(dialled)
        .map(|address| match address.ip().to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
            IpAddr::V6(_) => address,
        })
}

/// Nobody answered, or not in time.
fn may_have_waited(ending: Ending) -> bool {
    match ending {
        Ending::GaveUp => true,
        Ending::SocketError { errno } => errno == libc::ETIMEDOUT,
        _ => false,
    }
}

/// A security policy can give any of these; whether it did is for diagnosis to say.
fn may_be_denied(ending: Ending) -> bool {
    matches!(
        ending,
        Ending::SocketFailed { .. }
            | Ending::BindFailed { .. }
            | Ending::ConnectFailed {
                reached_syn_sent: false,
                ..
            }
    )
}

/// `tcp_v4_connect` looks for a free port once the socket is in SYN_SENT, and fails with
/// `EADDRNOTAVAIL` where there is none. A socket that is connected to itself was given the port
/// that it dials.
fn wants_ports(ending: Ending) -> bool {
    match ending {
        Ending::ConnectFailed { errno, .. } | Ending::BindFailed { errno } => {
            [libc::EADDRNOTAVAIL, libc::EADDRINUSE].contains(&errno)
        }
        Ending::Established => true,
        _ => false,
    }
}

/// Until when a listener that ended bears on the attempt. A process that dies closes its sockets
/// in any order: nginx may have complained of a connection before its listener is gone.
fn ending(attempt: &Attempt) -> KernelTime {
    const WITH_ITS_CONNECTIONS: KernelTime = 1_000_000_000;
    match attempt.ending {
        Ending::AfterConnect { .. } => attempt.ended.saturating_add(WITH_ITS_CONNECTIONS),
        _ => attempt.ended,
    }
}

/// The ends of a connection on which nginx waited for an answer: the other one may stand yet.
fn waited_on(attempt: &Attempt, reached: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    match attempt.ending {
        Ending::AfterConnect {
            met: Met::Timeout, ..
        } => Some((attempt.local?, reached)),
        _ => None,
    }
}

mod bound;
mod far_end;
#[cfg(test)]
mod tests;
mod way;
