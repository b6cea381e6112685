//! Attempts that the kernel counted because they failed like others that it told.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tracer_common::record::Outcome;

use crate::{
    case::{Endpoint, KernelTime, Netns},
    coalesce::{Coalescer, Identity},
    event::Failure,
    recovery::Recoveries,
};

/// How often the kernel's counts are read while there are any.
pub const EVERY: Duration = Duration::from_millis(100);
/// How long an outcome is remembered that no attempt has any more.
const IDLE: Duration = Duration::from_secs(10);

/// What is known of each outcome from the attempts that were told.
#[derive(Debug, Default)]
pub struct Tallies {
    known: HashMap<Outcome, Known>,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    netns: Netns,
    dialled: Endpoint,
    example: Failure,
    counted: u64,
    changed: Instant,
}

impl Tallies {
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Attempts of this outcome are being counted in the kernel at present.
    pub fn is_counting(&self, outcome: Outcome) -> bool {
        let known = self.known.get(&outcome);
        known.is_some_and(|known| known.counted > 0 && known.changed.elapsed() < 5 * EVERY)
    }

    /// Remembers what attempts of this outcome mean: as `example`, which was just explained.
    pub fn learn(
        &mut self,
        outcome: Outcome,
        identity: Identity,
        netns: Netns,
        dialled: &Endpoint,
        example: &Failure,
    ) {
        let (counted, changed) = self
            .known
            .get(&outcome)
            .map_or((0, Instant::now()), |known| (known.counted, known.changed));
        let known = Known {
            identity,
            netns,
            dialled: dialled.clone(),
            example: example.clone(),
            counted,
            changed,
        };
        self.known.insert(outcome, known);
    }

    /// Takes in the kernel's counts, and gives the failures that are to be told at once and the
    /// outcomes that may be forgotten. `time` is `now` in the form of events: those that were
    /// counted failed since the last look.
    pub fn take(
        &mut self,
        counts: Vec<(Outcome, u64)>,
        now: KernelTime,
        time: &str,
        coalescer: &mut Coalescer,
        recoveries: &mut Recoveries,
    ) -> (Vec<Failure>, Vec<Outcome>) {
        let mut told = Vec::new();
        for (outcome, total) in counts {
            // One that is not known yet is taken in once its first attempt has been explained.
            let Some(known) = self.known.get_mut(&outcome) else {
                continue;
            };
            let new = total.saturating_sub(known.counted);
            if new == 0 {
                continue;
            }
            known.counted = total;
            known.changed = Instant::now();
            recoveries.failed_again(known.netns, &known.dialled, new);
            let mut left = new;
            while left > 0 && !coalescer.count(known.identity, left) {
                told.extend(coalescer.absorb(known.identity, now, || Failure {
                    time: time.to_owned(),
                    request: None,
                    ..known.example.clone()
                }));
                left -= 1;
            }
        }
        let idle: Vec<Outcome> = self
            .known
            .iter()
            .filter(|(_, known)| known.changed.elapsed() > IDLE)
            .map(|(outcome, _)| *outcome)
            .collect();
        for outcome in &idle {
            self.known.remove(outcome);
        }
        (told, idle)
    }

    /// How many attempts were counted that nobody can explain.
    pub fn unexplained(&self, counts: &[(Outcome, u64)]) -> u64 {
        counts
            .iter()
            .map(|(outcome, total)| {
                let known = self.known.get(outcome);
                total.saturating_sub(known.map_or(0, |known| known.counted))
            })
            .sum()
    }
}
