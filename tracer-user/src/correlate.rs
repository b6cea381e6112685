//! Joins evidence into attempts.
//!
//! Facts about packets carry no process: they float until an attempt ends whose packets they are.
//! An attempt that ended waits shortly for what the worker does next (its log line), and is then
//! ready. Time is an argument; nothing here asks the host.

mod connections;
mod copies;
mod denials;
mod ended;
mod floating;
mod joining;
mod lines;
mod neighbours;
mod peers;
mod reasons;
mod rules;
mod unseen;

use std::{collections::HashMap, net::SocketAddr};

use crate::{
    case::{Denial, Ending, Fact, Hook, KernelTime, LogLine, Observed},
    evidence::{Evidence, SocketKey, Thread, What},
};
use connections::{Malformed, Resolvers, ToItself};
use copies::Copies;
use denials::Denials;
pub use ended::Ended;
use floating::{Floating, Owner};
use lines::Lines;
use neighbours::NeighbourPackets;
use peers::Peers;
use rules::Rules;
use unseen::Unseen;

/// How long an attempt waits for the worker's log line, which follows in the same turn of its
/// event loop.
const PATIENCE: KernelTime = 30_000_000;
/// How long an attempt waits for a worker that has not yet taken notice of the error. The worker
/// closes the socket when it has, and that ends the wait.
const UNNOTICED: KernelTime = 500_000_000;
/// How long one waits that has all it can get: records of other processors may still come.
const SETTLING: KernelTime = 4_000_000;
/// How long a socket that sends its SYN again may be silent between two times: the kernel doubles
/// its patience up to two minutes (`TCP_RTO_MAX`).
const SILENT: KernelTime = 130_000_000_000;
/// How often what is older is forgotten.
const FORGETTING: KernelTime = 10_000_000_000;
/// Attempts that wait at one moment. What is above goes on without its log line.
const WAITING: usize = 65_536;
/// Sockets whose retransmissions are remembered.
const RETRANSMITTING: usize = 16_384;

/// Turns code addresses into what they mean.
pub trait Symbols {
    /// The netfilter hook whose function is among the frames.
    fn hook(&self, frames: &[u64]) -> Option<Hook>;
    /// The functions of packet filters among the frames, the innermost first.
    fn filters(&self, frames: &[u64]) -> Vec<String>;
    /// The function at an address.
    fn function(&self, address: u64) -> Option<String>;
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Correlator {
    floating: Floating,
    neighbours: NeighbourPackets,
    retransmissions: HashMap<SocketKey, Vec<Observed>>,
    lines: Lines,
    copies: Copies,
    denials: Denials,
    peers: Peers,
    rules: Rules,
    resolvers: Resolvers,
    malformed: Malformed,
    to_itself: ToItself,
    unseen: Unseen,
    waiting: Vec<Waiting>,
    forgotten: u64,
    forget_at: KernelTime,
}

#[derive(Debug)]
struct Waiting {
    ended: Ended,
    socket: Option<SocketKey>,
    sequence: Option<u32>,
    /// The worker closed the socket: what it had to say of it, it has said.
    closed: bool,
    ready_at: KernelTime,
}

impl Correlator {
    /// Takes in one piece of evidence. Evidence about processes and listeners is not for here and
    /// is ignored.
    pub fn observe(&mut self, evidence: Evidence, symbols: &impl Symbols) {
        let Evidence { at, mut what } = evidence;
        self.rules.observe(at, &mut what);
        match what {
            What::ResetSent { .. }
            | What::Dropped { .. }
            | What::IcmpSent { .. }
            | What::IcmpReceived { .. } => self.floating.add(at, what, symbols),
            What::NeighbourPacketDropped { .. } => self.neighbours.add(at, what, symbols),
            What::Retransmitted { socket, error } => self.retransmitted(at, socket, error),
            What::Audited { pid, denial } => self.audited(at, pid, denial),
            What::ClientClosed { thread, client } => self.client_closed(at, &thread, client),
            What::SocketClosed { socket } => self.socket_closed(at, socket),
            What::UpstreamClosed(closed) => self.upstream_closed(at, *closed),
            What::PeerEnded {
                nginx,
                target,
                mut ended,
                callers,
            } => {
                if ended.reason.is_none() {
                    let callers = callers.iter().filter_map(|it| symbols.function(*it));
                    ended.reason = reasons::of_reset(callers).map(str::to_owned);
                }
                self.peers.add(at, nginx, target, ended);
            }
            What::LogLine {
                thread,
                descriptor,
                text,
            } => self.log_line(at, &thread, descriptor, &text),
            What::ConnectFailed { .. }
            | What::AttemptEnded { .. }
            | What::Connected { .. }
            | What::SocketFailed { .. }
            | What::BindFailed { .. } => self.ended(at, what),
            _ => {}
        }
    }

    /// The attempts that need not wait any longer, in the order in which they ended.
    pub fn ready(&mut self, now: KernelTime) -> Vec<Ended> {
        let unclaimed = self.lines.forget_before(now);
        self.tell_unseen(unclaimed);
        let (ready, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.ready_at <= now);
        self.waiting = waiting;
        // What is about to be forgotten may be theirs: at the end of a trace all is.
        let mut ready: Vec<Ended> = Vec::from_iter(ready)
            .into_iter()
            .map(|waiting| self.complete(waiting))
            .collect();
        self.forget_retransmissions(now);
        self.floating.forget_before(now);
        self.neighbours.forget_before(now);
        self.peers.forget_before(now);
        self.rules.forget_before(now);
        ready.sort_by_key(|ended| ended.attempt.ended);
        ready
    }

    /// When the next attempt gets ready.
    pub fn next_ready(&self) -> Option<KernelTime> {
        self.waiting.iter().map(|waiting| waiting.ready_at).min()
    }

    /// How many facts were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten + self.floating.forgotten()
    }

    /// Those of sockets that were connected in the end.
    fn forget_retransmissions(&mut self, now: KernelTime) {
        if self.retransmissions.is_empty() || now < self.forget_at {
            return;
        }
        self.forget_at = now.saturating_add(FORGETTING);
        self.retransmissions
            .retain(|_, seen| seen.last().is_some_and(|last| last.at + SILENT > now));
    }

    fn retransmitted(&mut self, at: KernelTime, socket: SocketKey, error: Option<i32>) {
        if self.retransmissions.len() >= RETRANSMITTING
            && !self.retransmissions.contains_key(&socket)
        {
            self.retransmissions.clear();
            self.forgotten += RETRANSMITTING as u64;
        }
        let fact = Fact::Retransmitted { error };
        let seen = self.retransmissions.entry(socket).or_default();
        seen.push(Observed { at, fact });
    }

    fn client_closed(&mut self, at: KernelTime, thread: &Thread, client: Option<SocketAddr>) {
        let waiting = self.waiting.iter_mut().rev().find(|waiting| {
            waiting.ended.thread.tid == thread.tid && waiting.ended.attempt.ending == Ending::GaveUp
        });
        if let Some(waiting) = waiting {
            let fact = Fact::ClientClosed { client };
            waiting.ended.timeline.push(Observed { at, fact });
        }
    }

    /// Records come in the order of the calls, and one ends a call. A record of Landlock names no
    /// process; the first whose call it fits is meant.
    fn audited(&mut self, at: KernelTime, pid: Option<u32>, denial: Denial) {
        let waiting = self.waiting.iter_mut().find(|waiting| {
            let ended = &waiting.ended;
            denials::may_be_denied(ended.attempt.ending)
                && pid.is_none_or(|pid| ended.thread.pid == pid)
                && denial.is_about(&ended.attempt, &ended.timeline)
                && !ended.timeline.iter().any(denials::is_enforced)
        });
        match waiting {
            Some(waiting) => {
                let fact = Fact::Audited { denial };
                waiting.ended.timeline.push(Observed { at, fact });
            }
            None => self.denials.keep(at, pid, denial),
        }
    }

    fn socket_closed(&mut self, at: KernelTime, socket: SocketKey) {
        let waiting = self
            .waiting
            .iter_mut()
            .rev()
            .find(|waiting| waiting.socket == Some(socket));
        if let Some(waiting) = waiting {
            waiting.closed = true;
            waiting.ready_at = waiting.ready_at.min(at + SETTLING);
        }
    }

    fn ended(&mut self, at: KernelTime, what: What) {
        let Some((mut ended, socket, sequence)) = Ended::from_evidence(at, what) else {
            return;
        };
        if ended.attempt.ending == Ending::Established {
            self.to_itself.note(&ended);
        }
        self.unseen.seen(lines::address(&ended.attempt), at);
        let owner = Owner::of(&ended, sequence);
        ended.timeline.extend(self.floating.take(&owner));
        if let Some(retransmissions) = socket.and_then(|s| self.retransmissions.remove(&s)) {
            let started = ended.attempt.started;
            let own = retransmissions
                .into_iter()
                .filter(|seen| seen.at >= started);
            ended.timeline.extend(own);
        }
        if denials::may_be_denied(ended.attempt.ending) {
            let denied = self
                .denials
                .take(at, ended.thread.pid, &ended.attempt, &ended.timeline);
            ended.timeline.extend(denied);
        }
        let line = self.lines.take(ended.thread.tid, &ended.attempt);
        let patience = match ended.attempt.ending {
            Ending::SocketError { .. } => UNNOTICED,
            Ending::Established => SETTLING,
            _ => PATIENCE,
        };
        let mut waiting = Waiting {
            ready_at: at + patience,
            socket,
            sequence,
            closed: false,
            ended,
        };
        if let Some(line) = line {
            waiting.take_line(line, at);
        }
        if self.waiting.len() >= WAITING {
            waiting.ready_at = 0;
        }
        self.waiting.push(waiting);
    }

    /// Adds what came after the end, and notes a line that is still to come.
    fn complete(&mut self, waiting: Waiting) -> Ended {
        let mut ended = waiting.ended;
        let owner = Owner::of(&ended, waiting.sequence);
        ended.timeline.extend(self.floating.take(&owner));
        ended.timeline.extend(self.neighbours.about(&ended));
        if ended.connection.is_some() {
            ended.timeline.extend(self.peers.of(&ended));
        }
        ended.timeline.sort_by_key(|seen| seen.at);
        reasons::recognise(&mut ended.timeline);
        if ended.log.is_none() && !waiting.closed {
            self.lines.owe(ended.thread.tid, &ended.attempt);
        }
        ended
    }
}

impl Waiting {
    fn take_line(&mut self, line: LogLine, at: KernelTime) {
        self.ended.log = Some(line);
        // The audit log is delivered behind the call.
        if !denials::may_be_denied(self.ended.attempt.ending) {
            self.ready_at = self.ready_at.min(at + SETTLING);
        }
    }
}

#[cfg(test)]
mod tests;
