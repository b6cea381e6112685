//! Lines of the error log, joined with the attempts that they are about.
//!
//! A worker writes one line for each attempt, in the thread that learned of the failure: after
//! an error, before closing a socket that it gives up on.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use crate::{
    case::{Attempt, Ending, Endpoint, KernelTime, LogLine},
    evidence::Thread,
    nginx::error_log::{self, FailureKind},
};

/// How long before its attempt ends a line may be written.
const BEFORE: KernelTime = 1_000_000_000;
/// How long a line may come late.
const LATE: KernelTime = 1_000_000_000;
/// Lines, and attempts without one, that are kept for one thread.
const KEPT: usize = 512;

/// A line that may be about an attempt.
#[derive(Debug)]
pub struct Line {
    pub at: KernelTime,
    pub thread: Thread,
    pub parsed: LogLine,
    pub kind: FailureKind,
    upstream: Option<String>,
}

/// How well a line fits an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// It may have ended otherwise than the line says: nginx and the kernel see it differently.
    Possible,
    /// It ended as the line says.
    Same,
}

#[derive(Debug, Default)]
pub struct Lines {
    early: HashMap<u32, VecDeque<Line>>,
    owed: HashMap<u32, VecDeque<Owed>>,
}

/// An attempt that went on without its line.
#[derive(Debug)]
struct Owed {
    ended: KernelTime,
    ending: Ending,
    dialled: Option<String>,
}

impl Line {
    /// `None` for text that is no line of an error log, or about no attempt.
    pub fn parse(at: KernelTime, thread: &Thread, text: &str) -> Option<Self> {
        let parsed = error_log::parse(text.as_bytes())?;
        let kind = error_log::failure_kind(&parsed);
        (kind != FailureKind::Other).then(|| Self {
            at,
            thread: thread.clone(),
            upstream: error_log::upstream_address(&parsed),
            parsed,
            kind,
        })
    }

    /// The upstream's address as nginx writes it.
    pub fn upstream(&self) -> Option<&str> {
        self.upstream.as_deref()
    }

    /// Whom nginx dialled, where the line says so.
    pub fn endpoint(&self) -> Option<Endpoint> {
        let upstream = self.upstream.as_deref()?;
        match upstream.strip_prefix("unix:") {
            Some(path) => Some(Endpoint::Unix(path.as_bytes().to_vec())),
            None => upstream.parse().ok().map(Endpoint::Inet),
        }
    }

    /// How the attempt ended that the line is about.
    pub fn ending(&self) -> Option<Ending> {
        match self.kind {
            FailureKind::ConnectFailedSync { errno } => Some(Ending::ConnectFailed {
                errno,
                reached_syn_sent: false,
            }),
            FailureKind::ConnectFailedAsync { errno } => Some(Ending::SocketError { errno }),
            FailureKind::TimedOutConnecting => Some(Ending::GaveUp),
            FailureKind::SocketFailed { errno } => Some(Ending::SocketFailed { errno }),
            FailureKind::BindFailed { errno } => Some(Ending::BindFailed { errno }),
            _ => None,
        }
    }

    /// The line is about an upstream whose address was cut off.
    pub fn lacks_address(&self) -> bool {
        self.parsed.cut && self.upstream.is_none()
    }

    /// The error that `SO_ERROR` gave for a connection to that address, by the line.
    fn broke(&self, dialled: SocketAddr) -> Option<i32> {
        match self.kind {
            FailureKind::ConnectFailedAsync { errno } if self.names(Some(&dialled.to_string())) => {
                Some(errno)
            }
            _ => None,
        }
    }

    /// How well the line fits such an attempt, where it is about the same address and the same
    /// kind of failure at all.
    pub fn likeness(&self, attempt: &Attempt) -> Option<Likeness> {
        self.about(attempt.ending, address(attempt).as_deref())
    }

    fn about(&self, ending: Ending, dialled: Option<&str>) -> Option<Likeness> {
        let by_error = matches!(self.kind, FailureKind::ConnectFailedAsync { .. });
        let (same, possible) = match ending {
            Ending::SocketFailed { .. } => {
                (matches!(self.kind, FailureKind::SocketFailed { .. }), false)
            }
            Ending::BindFailed { .. } => {
                (matches!(self.kind, FailureKind::BindFailed { .. }), false)
            }
            Ending::ConnectFailed { errno, .. } => {
                (self.kind == FailureKind::ConnectFailedSync { errno }, false)
            }
            Ending::SocketError { errno } => (
                self.kind == FailureKind::ConnectFailedAsync { errno },
                self.gave_up(),
            ),
            // A soft error is read by `SO_ERROR` and leaves the socket in SYN_SENT.
            Ending::GaveUp => (self.gave_up(), by_error),
            Ending::Established | Ending::AfterConnect { .. } | Ending::Undialled { .. } => {
                (false, false)
            }
        };
        match (self.names(dialled), same, possible) {
            (true, true, _) => Some(Likeness::Same),
            (true, false, true) => Some(Likeness::Possible),
            _ => None,
        }
    }

    /// The line names that address, as far as either is known.
    fn names(&self, dialled: Option<&str>) -> bool {
        dialled.is_none() || dialled == self.upstream.as_deref() || self.lacks_address()
    }

    fn gave_up(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::TimedOutConnecting | FailureKind::ClientLeft
        )
    }
}

impl Lines {
    /// Keeps a line whose attempt has not ended yet.
    pub fn keep(&mut self, line: Line) {
        let lines = self.early.entry(line.thread.tid).or_default();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Takes the line that was written before the attempt ended.
    pub fn take(&mut self, tid: u32, attempt: &Attempt) -> Option<LogLine> {
        let lines = self.early.get_mut(&tid)?;
        let fitting = |likeness: Likeness| {
            lines.iter().position(|line| {
                line.at >= attempt.started && line.likeness(attempt) == Some(likeness)
            })
        };
        let index = fitting(Likeness::Same).or_else(|| fitting(Likeness::Possible))?;
        lines.remove(index).map(|line| line.parsed)
    }

    /// Takes the line that speaks of dialling and is about a connection that stood, with the error
    /// that it tells: nginx looks at `SO_ERROR` before it sends a request, on a connection that it
    /// kept as well (`ngx_http_upstream_test_connect`).
    pub fn take_broken(&mut self, tid: u32, dialled: SocketAddr) -> Option<(Line, i32)> {
        let lines = self.early.get_mut(&tid)?;
        let (index, errno) = lines
            .iter()
            .enumerate()
            .find_map(|(index, line)| Some((index, line.broke(dialled)?)))?;
        Some((lines.remove(index)?, errno))
    }

    /// Notes that an attempt went on without its line, so that the line, when it comes, is not
    /// taken for another attempt's.
    pub fn owe(&mut self, tid: u32, attempt: &Attempt) {
        // The line of an attempt that nginx gave up comes before its end.
        if attempt.ending == Ending::GaveUp {
            return;
        }
        let owed = self.owed.entry(tid).or_default();
        if owed.len() == KEPT {
            owed.pop_front();
        }
        owed.push_back(Owed {
            ended: attempt.ended,
            ending: attempt.ending,
            dialled: address(attempt),
        });
    }

    /// Whether the line belongs to an attempt that went on without it.
    pub fn was_owed(&mut self, tid: u32, line: &Line) -> bool {
        let Some(owed) = self.owed.get_mut(&tid) else {
            return false;
        };
        let index = owed.iter().position(|owed| owed.due(line).is_some());
        index.and_then(|index| owed.remove(index)).is_some()
    }

    /// Whether the line belongs to such an attempt even though a later one waits for a line that
    /// this one is that like. What a call returned is logged before the next call is made: its
    /// line does not come behind that.
    pub fn is_owed_first(&self, tid: u32, line: &Line, likeness: Likeness) -> bool {
        self.owed.get(&tid).into_iter().flatten().any(|owed| {
            matches!(owed.ending, Ending::SocketError { .. })
                && owed.due(line).is_some_and(|owed| owed >= likeness)
        })
    }

    /// Gives up the lines whose attempt was not seen to end.
    pub fn forget_before(&mut self, now: KernelTime) -> Vec<Line> {
        let mut unclaimed = Vec::new();
        self.early.retain(|_, lines| {
            while lines.front().is_some_and(|line| line.at + BEFORE <= now) {
                unclaimed.extend(lines.pop_front());
            }
            !lines.is_empty()
        });
        self.owed.retain(|_, owed| {
            owed.retain(|owed| owed.ended + LATE > now);
            !owed.is_empty()
        });
        unclaimed
    }
}

impl Owed {
    /// How well a line fits the attempt, where it does not come too late.
    fn due(&self, line: &Line) -> Option<Likeness> {
        let in_time = line.at.saturating_sub(self.ended) < LATE;
        in_time
            .then(|| line.about(self.ending, self.dialled.as_deref()))
            .flatten()
    }
}

/// The dialled address as nginx logs it.
pub fn address(attempt: &Attempt) -> Option<String> {
    match attempt.dialled.as_ref()? {
        Endpoint::Inet(address) => Some(address.to_string()),
        Endpoint::Unix(path) => Some(format!("unix:{}", String::from_utf8_lossy(path))),
    }
}
