//! Attempts that are like one that was just explained.
//!
//! An upstream that is down under load fails thousands of times a second in the same way. Those
//! attempts carry the same evidence, so that asking the host again would give the same answer.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    case::{
        self, Attempt, Circumstances, Ending, Endpoint, Fact, Hook, Icmp, LogLine, Module, Netns,
        Observed, PeerEnd,
    },
    clock,
    coalesce::Identity,
    correlate::Ended,
    event::Upstream,
    nginx::error_log::{self, FailureKind},
    recovery::Recoveries,
    report,
    survey::Explained,
};

/// How long an explanation serves others: what evidence does not show may have changed then.
const FRESH: Duration = Duration::from_millis(500);
/// Explanations that are kept.
const KEPT: usize = 4096;

#[derive(Debug, Default)]
pub struct Followers {
    known: HashMap<Likeness, Known>,
}

/// An explanation that serves attempts like the one it was made for.
#[derive(Debug)]
pub struct Known {
    since: Instant,
    pub identity: Identity,
    netns: Netns,
    upstream: Upstream,
}

/// What two attempts have in common that need not both be explained.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Likeness {
    pid: u32,
    dialled: Option<Endpoint>,
    ending: Ending,
    facts: Vec<FactLikeness>,
    logged: Option<FailureKind>,
}

/// A fact without what differs from packet to packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum FactLikeness {
    ResetReceived,
    ResetSent(Netns, Option<String>, std::net::SocketAddr),
    Dropped(
        Netns,
        String,
        Option<Hook>,
        bool,
        std::net::IpAddr,
        RuleLikeness,
    ),
    IcmpSent(Netns, Icmp, Option<Hook>),
    NeighbourPacketDropped(Netns, Option<Hook>, std::net::IpAddr, bool),
    IcmpReceived(std::net::IpAddr, Icmp),
    Retransmitted(Option<i32>),
    ClientClosed,
    CallIntercepted,
    SecurityDenied(i32),
    Audited(Module),
    FinReceived,
    PeerEnded(PeerEnded),
}

/// What was seen of the rule that stopped a packet: its handles, and whether one would have been.
type RuleLikeness = (Option<Vec<u64>>, bool);

/// How the other end ended a connection, and who did it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PeerEnded {
    how: PeerEnd,
    pid: u32,
    reason: Option<String>,
    accepted: bool,
    listening: bool,
    exit_code: Option<u32>,
}

impl From<&case::PeerEnded> for PeerEnded {
    fn from(ended: &case::PeerEnded) -> Self {
        Self {
            how: ended.how,
            pid: ended.pid,
            reason: ended.reason.clone(),
            accepted: ended.accepted,
            listening: ended.listening,
            exit_code: ended.exit_code,
        }
    }
}

impl Followers {
    /// Listeners or processes changed: explain anew.
    pub fn host_changed(&mut self) {
        self.known.clear();
    }

    /// Remembers how an attempt was explained.
    pub fn learn(&mut self, explained: &Explained, identity: Identity) {
        let case = &explained.case;
        // What became of a connection that stood is not all in the likeness.
        let stood = matches!(case.attempt.ending, Ending::AfterConnect { .. });
        if case.attempt.dialled.is_none() || stood {
            return;
        }
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        let known = Known {
            since: Instant::now(),
            identity,
            netns: case.worker.netns,
            upstream: report::upstream(&case.attempt, None),
        };
        let likeness = Likeness::of(case.worker.pid, &case.attempt, &case.timeline, &case.log);
        self.known.insert(likeness, known);
    }

    /// How such an attempt was explained a moment ago.
    pub fn known(&self, ended: &Ended) -> Option<&Known> {
        let likeness = Likeness::of(
            ended.thread.pid,
            &ended.attempt,
            &ended.timeline,
            &ended.log,
        );
        let known = self.known.get(&likeness)?;
        (known.since.elapsed() < FRESH).then_some(known)
    }
}

impl Known {
    /// Notes for the upstream that an attempt failed which was counted without being explained.
    pub fn count(&self, ended: &Ended, recoveries: &mut Recoveries) {
        let Some(dialled) = &ended.attempt.dialled else {
            return;
        };
        // A call that failed before it had a socket's namespace was made in the worker's.
        let netns = ended.netns.unwrap_or(self.netns);
        let at = ended.attempt.ended;
        let now = clock::monotonic();
        recoveries.failed(netns, dialled, at, now, || self.upstream.clone());
    }
}

impl Likeness {
    fn of(pid: u32, attempt: &Attempt, timeline: &[Observed], log: &Option<LogLine>) -> Self {
        Self {
            pid,
            dialled: attempt.dialled.clone(),
            ending: attempt.ending,
            facts: facts(timeline),
            logged: log.as_ref().map(error_log::failure_kind),
        }
    }
}

fn facts(timeline: &[Observed]) -> Vec<FactLikeness> {
    timeline
        .iter()
        .map(|seen| match &seen.fact {
            Fact::ResetReceived => FactLikeness::ResetReceived,
            Fact::ResetSent {
                netns,
                reason,
                segment,
            } => FactLikeness::ResetSent(*netns, reason.clone(), segment.to),
            Fact::Dropped {
                netns,
                reason,
                hook,
                answer,
                segment,
                circumstances,
                ..
            } => FactLikeness::Dropped(
                *netns,
                reason.clone(),
                *hook,
                *answer,
                segment.to.ip(),
                rule(circumstances.as_ref()),
            ),
            Fact::IcmpSent {
                netns, icmp, hook, ..
            } => FactLikeness::IcmpSent(*netns, *icmp, *hook),
            Fact::IcmpReceived { from, icmp } => FactLikeness::IcmpReceived(*from, *icmp),
            Fact::Retransmitted { error } => FactLikeness::Retransmitted(*error),
            Fact::ClientClosed { .. } => FactLikeness::ClientClosed,
            Fact::CallIntercepted => FactLikeness::CallIntercepted,
            Fact::SecurityDenied { errno } => FactLikeness::SecurityDenied(*errno),
            Fact::Audited { denial } => FactLikeness::Audited(denial.module),
            Fact::NeighbourPacketDropped {
                netns,
                hook,
                wanted,
                answer,
                ..
            } => FactLikeness::NeighbourPacketDropped(*netns, *hook, *wanted, *answer),
            Fact::FinReceived => FactLikeness::FinReceived,
            Fact::PeerEnded(ended) => FactLikeness::PeerEnded(ended.into()),
        })
        .collect()
}

fn rule(circumstances: Option<&Circumstances>) -> RuleLikeness {
    circumstances.map_or((None, false), |seen| {
        let met = seen.rule.as_ref();
        (met.map(|rule| rule.handles.clone()), seen.rules_watched)
    })
}
