//! Attempts that the kernel counted because they failed like others that it told.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use tracer_common::{bound, record::Outcome};

use crate::{
    case::{Endpoint, KernelTime, Netns},
    coalesce::{Coalescer, Identity},
    event::{Attempt, Failure},
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
    /// Outcomes of attempts that were none at an upstream.
    dismissed: HashSet<Outcome>,
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

    /// Remembers that attempts of this outcome were none at an upstream.
    pub fn dismiss(&mut self, outcome: Option<Outcome>) {
        if self.dismissed.len() < bound::OUTCOMES as usize {
            self.dismissed.extend(outcome);
        }
    }

    /// Takes in the kernel's counts, and gives the failures that are to be told at once and the
    /// outcomes that may be forgotten. Those that were counted failed since the last look, which
    /// is taken for `now`. `text` gives a time the form of events.
    pub fn take(
        &mut self,
        counts: Vec<(Outcome, u64)>,
        now: KernelTime,
        text: impl Fn(KernelTime) -> String,
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
                let like = || like(&known.example, now, &text);
                told.extend(coalescer.absorb(known.identity, now, like));
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
            .filter(|(outcome, _)| !self.dismissed.contains(outcome))
            .map(|(outcome, total)| {
                let known = self.known.get(outcome);
                total.saturating_sub(known.map_or(0, |known| known.counted))
            })
            .sum()
    }
}

/// A failure like that one, of an attempt that ended at `at` and of which nothing else is known:
/// it took as long, from a port of its own.
fn like(example: &Failure, at: KernelTime, text: impl Fn(KernelTime) -> String) -> Failure {
    let took = example.attempt.duration_us.saturating_mul(1000);
    Failure {
        time: text(at),
        request: None,
        attempt: Attempt {
            local: None,
            started: text(at.saturating_sub(took)),
            ..example.attempt.clone()
        },
        ..example.clone()
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::*;

    const MS: KernelTime = 1_000_000;

    fn outcome(tgid: u8) -> Outcome {
        let mut bytes = [0; size_of::<Outcome>()];
        bytes[40] = tgid;
        Outcome::read_from_bytes(&bytes).expect("an outcome")
    }

    fn example() -> Failure {
        let text = r#"{
            "schema": "whyrefused/1", "time": "1000000", "host": "edge", "count": 1,
            "nginx": { "pid": 2, "master_pid": 1, "exe": null, "config": null, "netns": 1,
                       "container": null },
            "upstream": { "address": "127.0.0.1:1", "name": null, "server": null },
            "attempt": { "family": "ipv4", "local": "127.0.0.1:4000", "remote": "127.0.0.1:1",
                         "started": "0", "duration_us": 1000, "errno": "ECONNREFUSED",
                         "surface": "so_error", "translated_to": null },
            "verdict": { "code": "no-listener", "confidence": "certain", "summary": "",
                         "because": [], "ruled_out": [], "missing": [], "fix": [] },
            "rule": null, "listener": null, "candidates": [], "request": null
        }"#;
        serde_json::from_str(text).expect("a failure")
    }

    #[test]
    fn counted_attempts_failed_when_they_were_counted_and_took_as_long() {
        let mut coalescer = Coalescer::new(Duration::from_secs(1));
        let mut recoveries = Recoveries::default();
        let mut tallies = Tallies::default();
        let dialled = Endpoint::Inet(([127, 0, 0, 1], 1).into());
        let identity = coalescer.identity_of(&1);
        tallies.learn(outcome(1), identity, 1, &dialled, &example());
        let counts = vec![(outcome(1), 5)];
        let text = |at: KernelTime| at.to_string();
        let (told, _) = tallies.take(counts, 70 * MS, text, &mut coalescer, &mut recoveries);
        assert_eq!(told.len(), 0);
        let told = coalescer.flush();
        let [failure] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(failure.count, 5);
        assert_eq!(failure.time, (70 * MS).to_string());
        assert_eq!(failure.attempt.started, (69 * MS).to_string());
        assert_eq!(failure.attempt.local, None);
    }

    #[test]
    fn counted_attempts_that_were_none_at_an_upstream_were_looked_into() {
        let mut tallies = Tallies::default();
        let counts = [(outcome(1), 5), (outcome(2), 3)];
        assert_eq!(tallies.unexplained(&counts), 8);
        tallies.dismiss(Some(outcome(1)));
        tallies.dismiss(None);
        assert_eq!(tallies.unexplained(&counts), 3);
    }
}
