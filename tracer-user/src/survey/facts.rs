//! What a case asks of the host, kept for identical attempts.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    case::{Ending, Endpoint, Fact, HostFacts, Met, Netns, Observed, Worker},
    correlate::Ended,
    host::{conntrack, facts::Host},
    survey::suspects::{self, Suspects},
};

/// How long an answer serves identical attempts.
const FRESH: Duration = Duration::from_millis(100);
/// How long the namespaces and their addresses are believed.
const ADDRESSES_FRESH: Duration = Duration::from_secs(2);
/// How long the owners of listeners are looked for, where nobody found them before.
const LOOK: Duration = Duration::from_millis(25);
/// How long between two such looks.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Attempts of one kind whose answers are kept.
const KEPT: usize = 256;

/// Asks the host, and keeps its answers for as long as they are fresh.
#[derive(Debug, Default)]
pub struct Facts {
    kept: HashMap<Asked, (Instant, HostFacts)>,
    looked: Option<Instant>,
}

/// What makes two attempts ask the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    pid: u32,
    dialled: Option<Endpoint>,
    remote: Option<SocketAddr>,
    arrived: Option<(Netns, SocketAddr)>,
    ending: Ending,
    suspects: Suspects,
    /// nginx's end of a connection whose other end is looked for.
    local: Option<SocketAddr>,
}

impl Facts {
    /// Forgets what is known: the host has changed.
    pub fn forget(&mut self) {
        self.kept.clear();
    }

    /// The facts about one attempt of `worker`.
    pub fn gather(&mut self, host: &mut Host, worker: &Worker, ended: &Ended) -> HostFacts {
        let tracked = tracked(host, worker, ended);
        let asked = Asked {
            pid: worker.pid,
            dialled: ended.attempt.dialled.clone(),
            remote: ended.attempt.remote,
            arrived: arrival(&ended.timeline).or(tracked.map(|to| (worker.netns, to))),
            ending: ended.attempt.ending,
            suspects: Suspects::of(ended, worker),
            local: ended.attempt.local.filter(|_| waited(ended.attempt.ending)),
        };
        if let Some((at, facts)) = self.kept.get(&asked)
            && at.elapsed() < FRESH
        {
            return facts.clone();
        }
        let mut facts = self.ask(host, worker, ended, &asked);
        let ownerless = |facts: &HostFacts| facts.listeners.iter().any(|l| l.owners.is_empty());
        let may_look = self.looked.is_none_or(|at| at.elapsed() > LOOK_AGAIN);
        if may_look && ownerless(&facts) {
            self.looked = Some(Instant::now());
            let _ = host.listeners.refresh_owners(LOOK);
            facts = self.ask(host, worker, ended, &asked);
        }
        facts.tracked_to = tracked;
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.insert(asked, (Instant::now(), facts.clone()));
        facts
    }

    fn ask(&self, host: &mut Host, worker: &Worker, ended: &Ended, asked: &Asked) -> HostFacts {
        let _ = host.freshen(ADDRESSES_FRESH);
        let gathered = host.facts(worker, &ended.attempt, asked.arrived);
        let programs = asked.suspects.read(host, worker, &gathered.facts);
        HostFacts {
            unread: gathered.unread,
            programs,
            devices: suspects::devices(host, &ended.timeline),
            sources_at_home: suspects::sources_at_home(host, &ended.timeline),
            ..gathered.facts
        }
    }
}

/// The destination to which connection tracking translates the connection, where no packet of it
/// was seen elsewhere: these show their own.
fn tracked(host: &Host, worker: &Worker, ended: &Ended) -> Option<SocketAddr> {
    let attempt = &ended.attempt;
    let waited = matches!(attempt.ending, Ending::GaveUp | Ending::SocketError { .. });
    if !waited || arrival(&ended.timeline).is_some() {
        return None;
    }
    let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let (from, to) = (canonical(attempt.local?), canonical(attempt.remote?));
    let namespace = host.namespaces.get(worker.netns)?;
    conntrack::destination(namespace, from, to).filter(|real| *real != to)
}

/// nginx waited for an answer on a connection that stood: its other end may stand yet.
fn waited(ending: Ending) -> bool {
    matches!(
        ending,
        Ending::AfterConnect {
            met: Met::Timeout,
            ..
        }
    )
}

/// Where the SYN was last seen, and which destination it had there.
fn arrival(timeline: &[Observed]) -> Option<(Netns, SocketAddr)> {
    timeline
        .iter()
        .rev()
        .find_map(|seen| match &seen.fact {
            Fact::ResetSent { netns, segment, .. }
            | Fact::IcmpSent { netns, segment, .. }
            | Fact::Dropped {
                netns,
                segment,
                answer: false,
                ..
            } => Some((*netns, segment.to)),
            _ => None,
        })
        .filter(|(netns, _)| *netns != 0)
}
