//! An attempt that ended, made of the evidence that ends it.

use std::net::{IpAddr, SocketAddr};

use tracer_common::record::Outcome;

use super::lines::Line;
use crate::{
    case::{
        Attempt, Connection, Earlier, Ending, Endpoint, Fact, Family, KernelTime, LogLine, Netns,
        Observed, Segment,
    },
    evidence::{Fate, SocketKey, Thread, What},
};

/// A failed attempt with all evidence about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub thread: Thread,
    pub netns: Option<Netns>,
    pub attempt: Attempt,
    pub timeline: Vec<Observed>,
    pub log: Option<LogLine>,
    pub connection: Option<Connection>,
    pub earlier: Vec<Earlier>,
    /// Nothing but the line was seen of an attempt of which more should have been.
    pub unseen: bool,
    /// Attempts with the same outcome may be counted in the kernel without being told.
    pub outcome: Option<Outcome>,
}

impl Ended {
    /// The attempt that the evidence ends, with its socket and initial sequence number.
    pub(super) fn from_evidence(
        at: KernelTime,
        what: What,
    ) -> Option<(Self, Option<SocketKey>, Option<u32>)> {
        match what {
            What::ConnectFailed { .. } => Self::in_call(at, what).map(|ended| (ended, None, None)),
            What::AttemptEnded {
                thread,
                socket,
                started,
                reset_at,
                reset_sent,
                no_socket,
                dialled,
                local,
                remote,
                error,
                initial_sequence,
                netns,
                outcome,
                ..
            } => {
                let ending = match error {
                    0 => Ending::GaveUp,
                    errno => Ending::SocketError { errno },
                };
                let mut ended = Self::of(thread, dialled.or(remote)?, started, at, ending);
                ended.netns = Some(netns);
                ended.attempt.local = local;
                ended.attempt.remote = remote;
                ended.outcome = reset_sent.is_some().then_some(outcome);
                ended.timeline.extend(reset_at.map(|at| Observed {
                    at,
                    fact: Fact::ResetReceived,
                }));
                let answers =
                    local.map(|local| fates(local, initial_sequence, reset_sent, no_socket));
                ended.timeline.extend(answers.into_iter().flatten());
                Some((ended, Some(socket), Some(initial_sequence)))
            }
            What::Connected {
                thread,
                socket,
                started,
                dialled,
                local,
                remote,
                netns,
                self_connected: true,
            } => {
                let dialled = dialled.or(remote)?;
                let mut ended = Self::of(thread, dialled, started, at, Ending::Established);
                ended.netns = Some(netns);
                ended.attempt.local = local;
                ended.attempt.remote = remote;
                Some((ended, Some(socket), None))
            }
            What::SocketFailed { thread, errno } => {
                let ending = Ending::SocketFailed { errno };
                Some((Self::undialled(thread, None, at, ending), None, None))
            }
            What::BindFailed {
                thread,
                address,
                errno,
            } => {
                let ending = Ending::BindFailed { errno };
                Some((Self::undialled(thread, address, at, ending), None, None))
            }
            _ => None,
        }
    }

    /// What a line of the error log alone announces.
    pub(super) fn told_by(thread: Thread, at: KernelTime, ending: Ending, line: &Line) -> Self {
        let mut ended = Self::undialled(thread, None, at, ending);
        if !matches!(
            ending,
            Ending::Undialled { .. } | Ending::SocketFailed { .. } | Ending::BindFailed { .. }
        ) {
            ended.attempt.dialled = line.endpoint();
            ended.attempt.family = match &ended.attempt.dialled {
                Some(Endpoint::Inet(address)) => family_of(*address),
                Some(Endpoint::Unix(_)) => Family::Unix,
                None => Family::Ipv4,
            };
        }
        ended.log = Some(line.parsed.clone());
        ended
    }

    /// It stood, and what would name its address was cut off from its line.
    pub(super) fn lacks_address(&self) -> bool {
        let cut = self.log.as_ref().is_some_and(|line| line.cut);
        let stood = matches!(self.attempt.ending, Ending::AfterConnect { .. });
        cut && stood && self.attempt.dialled.is_none()
    }

    fn in_call(at: KernelTime, what: What) -> Option<Self> {
        let What::ConnectFailed {
            thread,
            started,
            family,
            dialled,
            local,
            remote,
            errno,
            reached_syn_sent,
            netns,
            intercepted,
            denied,
        } = what
        else {
            return None;
        };
        let ending = Ending::ConnectFailed {
            errno,
            reached_syn_sent,
        };
        let mut ended = Self::undialled(thread, None, at, ending);
        ended.netns = netns;
        ended.attempt.started = started;
        ended.attempt.family = match &dialled {
            Some(Endpoint::Inet(address)) => family_of(*address),
            // The log line tells what it was to be.
            _ if intercepted => Family::Ipv4,
            _ => family?,
        };
        let intercepted = intercepted.then_some(Fact::CallIntercepted);
        let denied = denied.map(|errno| Fact::SecurityDenied { errno });
        let facts = intercepted.into_iter().chain(denied);
        ended
            .timeline
            .extend(facts.map(|fact| Observed { at, fact }));
        ended.attempt.dialled = dialled;
        ended.attempt.local = local;
        ended.attempt.remote = remote;
        Some(ended)
    }

    pub(super) fn of(
        thread: Thread,
        dialled: SocketAddr,
        started: KernelTime,
        at: KernelTime,
        ending: Ending,
    ) -> Self {
        let mut ended = Self::undialled(thread, None, at, ending);
        ended.attempt.started = started;
        ended.attempt.family = family_of(dialled);
        ended.attempt.dialled = Some(Endpoint::Inet(dialled));
        ended
    }

    pub(super) fn undialled(
        thread: Thread,
        bound: Option<SocketAddr>,
        at: KernelTime,
        ending: Ending,
    ) -> Self {
        Self {
            thread,
            netns: None,
            attempt: Attempt {
                family: bound.map_or(Family::Ipv4, family_of),
                dialled: None,
                local: None,
                remote: None,
                bound,
                started: at,
                ended: at,
                ending,
                upstream_name: None,
                upstream_server: None,
                connect_timeout_ms: None,
            },
            timeline: Vec::new(),
            log: None,
            connection: None,
            earlier: Vec::new(),
            unseen: false,
            outcome: None,
        }
    }
}

/// What this host did with the SYN of `local`.
fn fates(
    local: SocketAddr,
    sequence: u32,
    reset_sent: Option<Fate>,
    no_socket: Option<Fate>,
) -> Vec<Observed> {
    const SYN: u8 = 0x02;
    let segment = |to| Segment {
        from: local,
        to,
        sequence,
        flags: SYN,
    };
    let reset_sent = reset_sent.map(|fate| Observed {
        at: fate.at,
        fact: Fact::ResetSent {
            netns: fate.netns,
            reason: Some(fate.reason),
            segment: segment(fate.to),
        },
    });
    let no_socket = no_socket.map(|fate| Observed {
        at: fate.at,
        fact: Fact::Dropped {
            netns: fate.netns,
            reason: fate.reason,
            location: None,
            hook: None,
            answer: false,
            segment: segment(fate.to),
            circumstances: None,
        },
    });
    reset_sent.into_iter().chain(no_socket).collect()
}

pub(super) fn family_of(address: SocketAddr) -> Family {
    match address.ip() {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}
