//! The rules of one namespace: as they were read last, and as they stood before they last changed.

use std::time::{Duration, Instant};

use super::{
    Question, TOLD,
    ends::{as_sent, ends_for, fitting},
    exact, presumption,
    reading::Reading,
    tally::{self, Tally},
    wording::Wording,
};
use crate::{
    case::{Filtering, Fitting, KernelTime, KnownBy},
    firewall::trial::End,
    host::{netns::Namespace, packet_filter::legacy},
};

/// Rules without a generation that were read so soon after the packet (in nanoseconds), and were
/// others when they were read before it, are taken to have changed before it.
const AT_ONCE: KernelTime = 250_000_000;

#[derive(Debug)]
pub struct Kept {
    /// When it was last asked whether the rules are what they were.
    pub looked: Instant,
    now: Version,
    /// Before the last change.
    before: Option<Version>,
    tally: Tally,
}

/// A ruleset, and the texts of its rules.
#[derive(Debug)]
struct Version {
    reading: Reading,
    wording: Wording,
}

/// Which rules a packet met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// Those of now, not those before the last change.
    now: bool,
    /// They may have been others still.
    changed: bool,
}

impl Standing {
    /// Whether a rule that the packet met is the one that was read: handles begin anew behind a
    /// `flush ruleset`, and the same one may be another rule's by then.
    fn is_certain(self, met: Option<u32>, read: Option<u32>) -> bool {
        met.zip(read)
            .map_or(!self.changed, |(met, read)| met == read)
    }
}

impl Kept {
    pub fn of(namespace: &Namespace) -> Self {
        let reading = Reading::of(namespace);
        let mut tally = Tally::default();
        tally.add(&reading);
        Self {
            looked: Instant::now(),
            now: Version::of(reading),
            before: None,
            tally,
        }
    }

    /// When the last reading began.
    pub fn read_at(&self) -> KernelTime {
        self.now.reading.at
    }

    /// Reads again what may have changed, unless it was looked at within `age`.
    pub fn refresh(&mut self, namespace: &Namespace, age: Duration) {
        if self.looked.elapsed() < age {
            return;
        }
        self.looked = Instant::now();
        if self.now.reading.is_outdated(namespace) {
            self.read_again(namespace);
        }
    }

    pub fn read_again(&mut self, namespace: &Namespace) {
        self.take(Reading::of(namespace));
    }

    fn take(&mut self, reading: Reading) {
        // Rules without handles are counted by their place, where others stand now.
        if !self.now.reading.has_legacy_rules_of(&reading) {
            self.tally.forget();
        }
        self.tally.add(&reading);
        if self.now.reading.has_rules_of(&reading) {
            self.now.reading = reading;
        } else {
            let old = std::mem::replace(&mut self.now, Version::of(reading));
            self.before = Some(old);
        }
    }

    /// The rules that a packet met at `at`, when the generation of the ruleset was `generation`.
    fn standing(&self, at: KernelTime, generation: Option<u32>) -> Standing {
        let agrees = |reading: &Reading| {
            let pair = generation.zip(reading.ruleset.generation);
            pair.is_none_or(|(one, other)| one == other)
        };
        let now = &self.now.reading;
        let Some(before) = self.before.as_ref().map(|version| &version.reading) else {
            return Standing {
                now: true,
                changed: !agrees(now),
            };
        };
        let between = before.at < at && at + AT_ONCE < now.at;
        match (agrees(before), agrees(now)) {
            // Legacy rules have no generation: what was read first after the packet is nearest.
            (true, true) => Standing {
                now: before.at < at,
                changed: between,
            },
            (true, false) => Standing {
                now: false,
                changed: between && !before.has_legacy_rules_of(now),
            },
            (false, agrees) => Standing {
                now: true,
                changed: !agrees || between && !before.has_legacy_rules_of(now),
            },
        }
    }

    pub fn answer(&mut self, namespace: &Namespace, question: &Question) -> Filtering {
        let standing = self.standing(question.at, question.generation);
        let Self {
            now, before, tally, ..
        } = self;
        let Version { reading, wording } = match before {
            Some(before) if !standing.now => before,
            _ => now,
        };
        let trial = presumption::trial(namespace, reading, question);
        let mut ends = trial.ends;
        ends.retain(|end| ends_for(end, question.purpose));
        let narrowed = exact::narrowed(
            &reading.ruleset,
            question,
            || legacy::images(namespace),
            ends,
        );
        let by_kernel = narrowed.known_by == KnownBy::Kernel
            && standing.is_certain(question.generation, reading.ruleset.generation);
        let ends: Vec<&End> = narrowed.ends.iter().take(TOLD).collect();
        let texts = if standing.now {
            wording.of(namespace, &ends, || reading.still_stands(namespace))
        } else {
            wording.without_tools(&ends)
        };
        let mut packets = question.packets.iter().flatten();
        let v6 = packets.any(|packet| packet.to.is_ipv6());
        let fitting = std::iter::zip(ends, texts)
            .map(|(end, text)| Fitting {
                text,
                counted: tally.counted(end, question.at),
                never_met: !by_kernel && tally::packets(end) == Some(0) && reading.at > question.at,
                action: as_sent(&end.action, v6),
                ..fitting(end)
            })
            .collect();
        Filtering {
            netns: question.netns,
            hook: question.hook,
            answer: question.answer,
            neighbour: question.neighbour,
            purpose: question.purpose,
            fitting,
            // What the kernel evaluated and still has is certain, whatever else there was.
            doubts: trial.doubts.into_iter().filter(|_| !by_kernel).collect(),
            changed: standing.changed && !by_kernel,
            unread: match by_kernel {
                true => Vec::new(),
                false => reading.ruleset.unread.clone(),
            },
            known_by: narrowed.known_by,
            disagreement: narrowed.disagreement,
        }
    }
}

impl Version {
    fn of(reading: Reading) -> Self {
        Self {
            reading,
            wording: Wording::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::{Backend, FilterFamily},
        firewall::{
            Ruleset,
            ruleset::{Chain, Rule, Table},
        },
    };

    fn reading(at: KernelTime, generation: u32, backend: Backend, rules: u32) -> Reading {
        let rule = |position| Rule {
            handle: None,
            position,
            comment: None,
            packets: None,
            expressions: Vec::new(),
        };
        let chain = Chain {
            name: "INPUT".to_owned(),
            base: None,
            rules: (1..=rules).map(rule).collect(),
        };
        let table = Table {
            backend,
            family: FilterFamily::Ip,
            name: "filter".to_owned(),
            dormant: false,
            chains: vec![chain],
            sets: Default::default(),
        };
        Reading {
            at,
            ruleset: Ruleset {
                generation: Some(generation),
                tables: vec![table],
                ..Ruleset::default()
            },
        }
    }

    fn kept(first: Reading, second: Reading) -> Kept {
        let mut kept = Kept {
            looked: Instant::now(),
            now: Version::of(first),
            before: None,
            tally: Tally::default(),
        };
        kept.take(second);
        kept
    }

    fn standing(now: bool, changed: bool) -> Standing {
        Standing { now, changed }
    }

    #[test]
    fn legacy_rules_are_those_that_were_read_first_after_the_packet() {
        let legacy = |at, rules| reading(at, 7, Backend::IptablesLegacy, rules);
        let late = 100 + 3 * AT_ONCE;
        let kept = kept(legacy(100, 1), legacy(late, 2));
        assert_eq!(kept.standing(90, Some(7)), standing(false, false));
        assert_eq!(kept.standing(150, Some(7)), standing(true, true));
        assert_eq!(kept.standing(late - 10, Some(7)), standing(true, false));
        assert_eq!(kept.standing(late + 10, Some(7)), standing(true, false));
    }

    #[test]
    fn a_handle_is_certain_in_its_own_generation_alone() {
        let unchanged = standing(true, false);
        assert!(unchanged.is_certain(Some(4), Some(4)) && unchanged.is_certain(None, Some(4)));
        assert!(!unchanged.is_certain(Some(4), Some(5)));
        assert!(!standing(true, true).is_certain(None, Some(4)));
        assert!(standing(true, true).is_certain(Some(4), Some(4)));
    }

    #[test]
    fn rules_of_nft_are_those_of_the_packets_generation() {
        let nft = |at, generation| reading(at, generation, Backend::Nft, generation);
        let kept = kept(nft(100, 1), nft(200, 2));
        assert_eq!(kept.standing(150, Some(1)), standing(false, false));
        assert_eq!(kept.standing(150, Some(2)), standing(true, false));
        assert_eq!(kept.standing(90, Some(3)), standing(true, true));
        assert_eq!(kept.standing(90, None), standing(false, false));
    }
}
