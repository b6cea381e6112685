//! Folds identical failures, so that a dead upstream under load is a few lines and not thousands.
//!
//! The first failure of its kind opens a window. What follows within it is counted, and all of
//! them are told as one event when it closes: the first of them, with their number. The next of
//! that kind opens a window of its own. The counts of all events together are the number of
//! attempts.
//!
//! Time is an argument, nothing is read here.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use crate::case::{Case, KernelTime};
use crate::event::Failure;
use crate::verdict::Diagnosis;

mod likeness;

/// Kinds of failures that are folded at a time. Past these each attempt is an event of its own:
/// more output, but nothing lost.
const LIMIT: usize = 1024;

/// What two failures have in common that may be told as one.
///
/// A hash, so that 30,000 comparisons a second cost little. Its key is chosen at random for each
/// run: nobody can craft a failure that hides behind another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(u64);

/// The failures that are being folded.
#[derive(Debug)]
pub struct Coalescer {
    window_ns: u64,
    hashing: RandomState,
    open: HashMap<Identity, Folded>,
    /// When windows close, the next first: they are all of one length.
    closing: VecDeque<(KernelTime, Identity)>,
}

#[derive(Debug)]
struct Folded {
    first: Failure,
    count: u64,
}

impl Coalescer {
    /// Folds within `window`; a window of zero folds nothing.
    pub fn new(window: Duration) -> Self {
        Coalescer {
            window_ns: u64::try_from(window.as_nanos()).unwrap_or(u64::MAX),
            hashing: RandomState::new(),
            open: HashMap::new(),
            closing: VecDeque::new(),
        }
    }

    /// The identity of a diagnosed case: which nginx (not which of its workers), which upstream,
    /// what nginx met, what evidence there is, what the verdict is and what it points at. Ports
    /// that the kernel chose, times and requests differ between identical failures.
    pub fn identity(
        &self,
        case: &Case,
        diagnosis: &Diagnosis,
        logged_upstream: Option<&str>,
    ) -> Identity {
        let mut hasher = self.hashing.build_hasher();
        logged_upstream.hash(&mut hasher);
        likeness::hash_case(case, &self.hashing, &mut hasher);
        likeness::hash_diagnosis(diagnosis, &mut hasher);
        Identity(hasher.finish())
    }

    /// An identity of the caller's own making, for those who know before diagnosis that two
    /// attempts will be diagnosed alike.
    pub fn identity_of(&self, likeness: &impl Hash) -> Identity {
        Identity(self.hashing.hash_one(likeness))
    }

    /// Takes in one attempt, which ended at `at`. Gives it back where it is to be told at once:
    /// where nothing is folded, or there is no room for another kind. `build` is not called where
    /// a window of its kind is open.
    pub fn absorb(
        &mut self,
        identity: Identity,
        at: KernelTime,
        build: impl FnOnce() -> Failure,
    ) -> Option<Failure> {
        let has_room = self.open.len() < LIMIT;
        match self.open.entry(identity) {
            Entry::Occupied(mut window) => {
                window.get_mut().count += 1;
                None
            }
            Entry::Vacant(place) if self.window_ns > 0 && has_room => {
                place.insert(Folded {
                    first: build(),
                    count: 1,
                });
                let closes = at.saturating_add(self.window_ns);
                self.closing.push_back((closes, identity));
                None
            }
            Entry::Vacant(_) => Some(build()),
        }
    }

    /// Counts more attempts of a kind that is being folded, without anything else to be told of
    /// them; false where they have to be taken in by [`Coalescer::absorb`].
    pub fn count(&mut self, identity: Identity, attempts: u64) -> bool {
        match self.open.get_mut(&identity) {
            Some(folded) => {
                folded.count += attempts;
                true
            }
            None => false,
        }
    }

    /// When the next window closes: the time to call [`Coalescer::due`].
    pub fn next_due(&self) -> Option<KernelTime> {
        self.closing.front().map(|(closes, _)| *closes)
    }

    /// Closes the windows that end by `now` and gives what was folded in them.
    pub fn due(&mut self, now: KernelTime) -> Vec<Failure> {
        let mut told = Vec::new();
        while self.next_due().is_some_and(|closes| closes <= now) {
            let closed = self.closing.pop_front();
            told.extend(closed.and_then(|(_, identity)| self.close(identity)));
        }
        told
    }

    /// Closes the windows of the failures that `is_meant` picks, and gives those: what is told
    /// next is about what became of them.
    pub fn close_early(&mut self, is_meant: impl Fn(&Failure) -> bool) -> Vec<Failure> {
        let closing = std::mem::take(&mut self.closing);
        let (closed, kept) = closing.into_iter().partition(|(_, identity)| {
            let folded = self.open.get(identity);
            folded.is_some_and(|folded| is_meant(&folded.first))
        });
        self.closing = kept;
        self.close_all(closed)
    }

    /// Gives all that is still folded, in the order in which its windows would have closed.
    pub fn flush(&mut self) -> Vec<Failure> {
        let closed = std::mem::take(&mut self.closing);
        self.close_all(closed)
    }

    fn close_all(&mut self, windows: VecDeque<(KernelTime, Identity)>) -> Vec<Failure> {
        windows
            .into_iter()
            .filter_map(|(_, identity)| self.close(identity))
            .collect()
    }

    fn close(&mut self, identity: Identity) -> Option<Failure> {
        let folded = self.open.remove(&identity)?;
        Some(folded.into_failure())
    }
}

impl Folded {
    fn into_failure(self) -> Failure {
        Failure {
            count: self.count,
            ..self.first
        }
    }
}

#[cfg(test)]
mod tests;
