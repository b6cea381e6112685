//! Failures that nothing but a line of the error log announces, and the connections that they are
//! about.
//!
//! nginx writes the line and closes the connection in one turn, in that order
//! (`ngx_http_upstream_next`, `ngx_http_upstream_finalize_request`, `ngx_stream_proxy_finalize`).

use std::collections::VecDeque;

use super::{Correlator, Ended, PATIENCE, SETTLING, Waiting, ended::family_of, lines::Line};
use crate::{
    case::{Earlier, Ending, Endpoint, Fact, KernelTime, LogLine, Met, Observed, Phase, Undialled},
    evidence::{Thread, UpstreamClosed},
    nginx::error_log::FailureKind,
};

/// How long what a resolver did is remembered: `resolver_timeout` is 30 seconds by default.
const RESOLVING: KernelTime = 60_000_000_000;
/// How long a response may go on that was complained of: as long as its backend sends something
/// within `proxy_read_timeout`, so there is no bound but that of a connection's usual life.
const PASSING_ON: KernelTime = 3_600_000_000_000;
/// How long a worker may take to read back what it sent itself.
const READING_BACK: KernelTime = 60_000_000_000;
/// What nginx says of a response that it passes on all the same.
const AS_IT_IS: &str = "upstream sent no valid HTTP/1.0 header";
/// Complaints that are remembered of each kind.
const COMPLAINTS: usize = 64;

/// What workers said of their resolvers.
#[derive(Debug, Default)]
pub struct Resolvers {
    said: VecDeque<(u32, Earlier)>,
}

impl Resolvers {
    fn note(&mut self, pid: u32, at: KernelTime, line: &Line) {
        if self.said.len() == COMPLAINTS {
            self.said.pop_front();
        }
        let server = line
            .parsed
            .action
            .as_deref()
            .and_then(|action| action.split_once("resolver: "))
            .map(|(_, server)| server.to_owned());
        let summary = line.parsed.message.clone().unwrap_or_default();
        let earlier = Earlier {
            at,
            server,
            code: None,
            summary,
        };
        self.said.push_back((pid, earlier));
    }

    fn before(&self, pid: u32, at: KernelTime) -> Vec<Earlier> {
        let recent = self.said.iter().filter(|(by, _)| *by == pid);
        recent
            .map(|(_, said)| said)
            .filter(|said| said.at.saturating_add(RESOLVING) > at)
            .cloned()
            .collect()
    }
}

/// Responses that nginx could not read and passes on all the same, as if they were of HTTP/0.9
/// (`ngx_http_proxy_process_status_line`): how their connection ends is part of the same failure.
#[derive(Debug, Default)]
pub struct Malformed {
    told: VecDeque<(u32, KernelTime, LogLine)>,
}

impl Malformed {
    /// Whether the line is about an attempt that an earlier one told.
    fn told_already(&mut self, tid: u32, at: KernelTime, line: &Line) -> bool {
        let FailureKind::AfterConnect { met, phase, .. } = line.kind else {
            return false;
        };
        self.told
            .retain(|(_, told, _)| told.saturating_add(PASSING_ON) > at);
        let message = line.parsed.message.as_deref().unwrap_or_default();
        if met == Met::Malformed && message.starts_with(AS_IT_IS) {
            if self.told.len() == COMPLAINTS {
                self.told.pop_front();
            }
            self.told.push_back((tid, at, line.parsed.clone()));
            return false;
        }
        let same = |one: &LogLine| {
            let other = &line.parsed;
            one.connection == other.connection
                && one.request == other.request
                && one.upstream == other.upstream
        };
        let index = self
            .told
            .iter()
            .position(|(by, _, told)| *by == tid && same(told));
        phase == Phase::ReadingResponse && index.and_then(|index| self.told.remove(index)).is_some()
    }
}

/// Sockets that were connected to themselves: nginx reads its own request back, and complains of
/// it.
#[derive(Debug, Default)]
pub struct ToItself {
    told: VecDeque<(u32, KernelTime, Endpoint)>,
}

impl ToItself {
    pub fn note(&mut self, ended: &Ended) {
        let Some(dialled) = &ended.attempt.dialled else {
            return;
        };
        if self.told.len() == COMPLAINTS {
            self.told.pop_front();
        }
        let attempt = &ended.attempt;
        self.told
            .push_back((ended.thread.tid, attempt.ended, dialled.clone()));
    }

    /// Whether the line is about such a socket.
    fn reads_back(&mut self, tid: u32, at: KernelTime, line: &Line) -> bool {
        self.told
            .retain(|(_, told, _)| told.saturating_add(READING_BACK) > at);
        let endpoint = line.endpoint();
        let index = self
            .told
            .iter()
            .position(|(by, _, dialled)| *by == tid && Some(dialled) == endpoint.as_ref());
        index.and_then(|index| self.told.remove(index)).is_some()
    }
}

impl Correlator {
    /// Takes a line that announces a failure by itself; gives back any other.
    pub(super) fn announced(
        &mut self,
        at: KernelTime,
        thread: &Thread,
        line: Line,
    ) -> Option<Line> {
        let ending = match line.kind {
            FailureKind::AfterConnect { phase, met, errno } => {
                Ending::AfterConnect { phase, met, errno }
            }
            FailureKind::Undialled(cause) => Ending::Undialled { cause },
            FailureKind::Resolver => {
                self.resolvers.note(thread.pid, at, &line);
                return None;
            }
            _ => return Some(line),
        };
        if self.malformed.told_already(thread.tid, at, &line)
            || self.to_itself.reads_back(thread.tid, at, &line)
        {
            return None;
        }
        let mut ended = Ended::told_by(thread.clone(), at, ending, &line);
        if let FailureKind::Undialled(Undialled::Unresolved) = line.kind {
            ended.earlier = self.resolvers.before(thread.pid, at);
        }
        let patience = match ended.attempt.dialled {
            Some(Endpoint::Inet(_)) => PATIENCE,
            None if ended.lacks_address() => PATIENCE,
            _ => SETTLING,
        };
        self.wait(ended, at + patience);
        None
    }

    /// Joins a connection that a worker closed with the line that it wrote about it.
    pub(super) fn upstream_closed(&mut self, at: KernelTime, closed: UpstreamClosed) {
        let (tid, dialled) = (closed.thread.tid, closed.dialled);
        if let Some(index) = self.complained_of(&closed) {
            let waiting = &mut self.waiting[index];
            join(&mut waiting.ended, closed);
            // What else a dying process leaves behind is told with it.
            let settling = match self.peers.died_of(&waiting.ended) {
                true => PATIENCE,
                false => SETTLING,
            };
            waiting.ready_at = at + settling;
            return;
        }
        // Lines of refusals that the kernel counted without telling speak of the same address.
        if closed.connection.broken.is_none() {
            return;
        }
        let Some((line, errno)) = self.lines.take_broken(tid, dialled) else {
            return;
        };
        let ending = Ending::AfterConnect {
            phase: Phase::Connecting,
            met: Met::SocketError,
            errno: Some(errno),
        };
        let mut ended = Ended::told_by(closed.thread.clone(), line.at, ending, &line);
        join(&mut ended, closed);
        self.wait(ended, at + SETTLING);
    }

    /// The complaint that is about a connection: rather one that names its address than one whose
    /// end was cut off.
    fn complained_of(&self, closed: &UpstreamClosed) -> Option<usize> {
        let dialled = Some(Endpoint::Inet(closed.dialled));
        let position = |fits: &dyn Fn(&Ended) -> bool| {
            self.waiting.iter().position(|waiting| {
                let ended = &waiting.ended;
                ended.thread.tid == closed.thread.tid
                    && ended.connection.is_none()
                    && ended_so(ended, closed)
                    && fits(ended)
            })
        };
        position(&|ended| ended.attempt.dialled == dialled)
            .or_else(|| position(&|ended| ended.lacks_address()))
    }

    fn wait(&mut self, ended: Ended, ready_at: KernelTime) {
        let full = self.waiting.len() >= super::WAITING;
        self.waiting.push(Waiting {
            ended,
            socket: None,
            sequence: None,
            closed: true,
            ready_at: if full { 0 } else { ready_at },
        });
    }
}

/// The connection ended as the complaint says. One that was made before the trace is not told, and
/// the next that the worker closes to the same address may be in good health.
fn ended_so(ended: &Ended, closed: &UpstreamClosed) -> bool {
    let Ending::AfterConnect { met, errno, .. } = ended.attempt.ending else {
        return false;
    };
    let line = ended.log.as_ref();
    match (met, errno) {
        (_, Some(libc::ECONNRESET | libc::EPIPE)) => {
            closed.reset_at.is_some() || closed.connection.broken.is_some()
        }
        // TLS has an end of its own, which goes before the FIN.
        (Met::Closed, _) => closed.fin_at.is_some() || line.is_some_and(over_tls),
        _ => true,
    }
}

fn over_tls(line: &LogLine) -> bool {
    let upstream = line.upstream.as_deref().unwrap_or_default();
    upstream.starts_with("https://") || upstream.starts_with("grpcs://")
}

fn join(ended: &mut Ended, closed: UpstreamClosed) {
    let arrived = |at: Option<KernelTime>, fact| at.map(|at| Observed { at, fact });
    ended
        .timeline
        .extend(arrived(closed.reset_at, Fact::ResetReceived));
    ended
        .timeline
        .extend(arrived(closed.fin_at, Fact::FinReceived));
    ended.netns = Some(closed.netns);
    let attempt = &mut ended.attempt;
    attempt.started = closed.started;
    attempt.local = closed.local;
    attempt.remote = closed.remote;
    attempt.family = family_of(closed.dialled);
    attempt.dialled = Some(Endpoint::Inet(closed.dialled));
    ended.connection = Some(closed.connection);
}
