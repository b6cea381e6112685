//! Attempts that nothing but their line tells of: the kernel refused to run the program that would
//! have seen them begin or end, or its record found no room.
//!
//! A line whose attempt is not there means that only where something was missed. Attempts that are
//! counted in the kernel are not told one by one, and their lines come all the same.

use std::collections::HashMap;

use super::{Correlator, Ended, Waiting, lines::Line};
use crate::case::{Ending, KernelTime};

/// How long after a miss an attempt may still fail that it hid: nginx waits for `connect()` as
/// long as `proxy_connect_timeout` says, a minute by default and hardly ever more.
const AFTER_MISS: KernelTime = 130_000_000_000;
/// How long before or after a line a failure of the same upstream tells what it would tell.
const TOLD: KernelTime = 1_000_000_000;
/// Upstreams whose last failure is remembered.
const UPSTREAMS: usize = 4_096;

/// What decides whether a line tells of an attempt that was not seen.
#[derive(Debug, Default)]
pub struct Unseen {
    missed: Option<KernelTime>,
    /// When an attempt was last seen to fail, by the upstream as nginx logs it.
    failed: HashMap<String, KernelTime>,
}

impl Unseen {
    /// Notes an attempt that was seen to fail.
    pub fn seen(&mut self, upstream: Option<String>, at: KernelTime) {
        let Some(upstream) = upstream else {
            return;
        };
        if self.failed.len() >= UPSTREAMS {
            self.failed.clear();
        }
        self.failed.insert(upstream, at);
    }

    fn tells(&self, line: &Line) -> bool {
        let missed = self.missed.is_some_and(|missed| {
            // It is noticed some time after it happened.
            missed.saturating_add(AFTER_MISS) > line.at
        });
        let told = line
            .upstream()
            .and_then(|upstream| self.failed.get(upstream))
            .is_some_and(|failed| failed.saturating_add(TOLD) > line.at);
        missed && !told
    }
}

impl Correlator {
    /// Takes notice that evidence about attempts was lost, some time before `at`.
    pub fn missed(&mut self, at: KernelTime) {
        self.unseen.missed = Some(at);
    }

    /// Tells the attempts of lines that no attempt was seen to end for.
    pub(super) fn tell_unseen(&mut self, unclaimed: Vec<Line>) {
        for line in unclaimed {
            let ending = line.ending().filter(|_| self.unseen.tells(&line));
            if let Some(ended) = ending.and_then(|ending| of_line(&line, ending)) {
                self.unseen
                    .seen(line.upstream().map(str::to_owned), line.at);
                self.waiting.push(Waiting {
                    ready_at: line.at,
                    socket: None,
                    sequence: None,
                    closed: true,
                    ended,
                });
            }
        }
    }
}

/// The attempt as its line tells it; `None` where that is too little.
fn of_line(line: &Line, ending: Ending) -> Option<Ended> {
    let ended = Ended {
        unseen: true,
        ..Ended::told_by(line.thread.clone(), line.at, ending, line)
    };
    let called = matches!(
        ending,
        Ending::SocketFailed { .. } | Ending::BindFailed { .. }
    );
    (called || ended.attempt.dialled.is_some()).then_some(ended)
}
