//! Reads what the payload of a guest writes.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Means, Outcome, Seen};
use words::Words;

/// What stands before the name of a test that failed and is run again.
const ONCE_MORE: &str = "guest: once more: ";

/// What a test prints that could not do its work: `skipped: TEST: REASON` past the capture of its
/// output, `skipped: REASON` in it.
const SKIPPED: &str = "skipped: ";

/// Reads the lines of one run in their order.
#[derive(Debug, Default)]
pub struct Transcript {
    seen: Seen,
    asked: BTreeMap<String, Vec<Asked>>,
    skipped: BTreeMap<String, String>,
    /// A reason whose test is named by the next line about one.
    skips_next: Option<String>,
    failures: BTreeSet<String>,
    /// What tests said that failed and were run again.
    first_words: BTreeMap<String, String>,
    /// The test whose output stands here.
    test: Option<String>,
    /// And what it says, where it failed.
    words: Option<Words>,
}

/// A line that tells more than it says to people.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Told {
    Means(Means),
    Used { used: BTreeMap<String, String> },
    Asked(Asked),
}

/// A verdict that a test asked for (`tests/src/tally.rs`).
#[derive(Debug, Deserialize)]
struct Asked {
    expected: String,
    confidence: Option<String>,
    as_expected: bool,
}

impl Transcript {
    /// Takes a line; returns whether it is worth showing while the guest runs.
    pub fn take(&mut self, line: &str) -> bool {
        if let Ok(told) = serde_json::from_str(line) {
            self.take_told(told);
            return false;
        }
        if self.take_reason(line) {
            return false;
        }
        if let Some((test, outcome)) = outcome(line) {
            self.take_outcome(test, outcome);
            return true;
        }
        if let Some(test) = line.strip_prefix(ONCE_MORE) {
            self.forget(test);
            return true;
        }
        self.take_words(line);
        ["guest: ", "test result: "]
            .iter()
            .any(|start| line.starts_with(start))
            // What may be hanging, if the guest has to be ended.
            || line.contains(" has been running for over ")
    }

    /// What was seen, all in all.
    pub fn into_seen(mut self) -> Seen {
        for (test, reason) in self.skipped {
            if !self.failures.contains(&test) {
                self.seen.tests.insert(test, Outcome::Skipped(reason));
            }
        }
        for (test, words) in self.first_words {
            if self.seen.tests.get(&test) == Some(&Outcome::Passed) {
                let outcome = Outcome::PassedAtSecondTry(words);
                self.seen.tests.insert(test, outcome);
            }
        }
        for asked in self.asked.into_values().flatten() {
            let verdicts = self.seen.verdicts.entry(asked.expected).or_default();
            match asked.confidence {
                Some(confidence) if asked.as_expected => {
                    *verdicts.told.entry(confidence).or_default() += 1;
                }
                _ => verdicts.failed += 1,
            }
        }
        self.seen
    }

    fn take_told(&mut self, told: Told) {
        match told {
            // A load test that fails says the ones that were wrong once more.
            Told::Means(means) if !self.seen.means.contains(&means) => self.seen.means.push(means),
            Told::Means(_) => {}
            Told::Used { used } => {
                for (observation, means) in used {
                    let traces = self.seen.used.entry(observation).or_default();
                    *traces.entry(means).or_default() += 1;
                }
            }
            Told::Asked(asked) => {
                let test = self.test.clone().unwrap_or_default();
                self.asked.entry(test).or_default().push(asked);
            }
        }
    }

    /// Takes a line that says why a test was skipped; returns whether it does.
    fn take_reason(&mut self, line: &str) -> bool {
        // With one thread, libtest has begun a line with the test's name.
        let begun = line
            .strip_prefix("test ")
            .and_then(|l| l.split_once(" ... "));
        let Some(said) = begun.map_or(line, |(_, rest)| rest).strip_prefix(SKIPPED) else {
            return false;
        };
        match said
            .split_once(": ")
            .filter(|(test, _)| !test.contains(' '))
        {
            Some((test, reason)) => {
                self.skipped.insert(test.to_owned(), reason.to_owned());
            }
            None => match &self.test {
                Some(test) => {
                    self.skipped.insert(test.clone(), said.to_owned());
                }
                None => self.skips_next = Some(said.to_owned()),
            },
        }
        true
    }

    fn take_outcome(&mut self, test: &str, outcome: Outcome) {
        if matches!(outcome, Outcome::Failed(_)) {
            self.failures.insert(test.to_owned());
        }
        if let Some(reason) = self.skips_next.take() {
            self.skipped.insert(test.to_owned(), reason);
        }
        self.test = None;
        self.seen.tests.insert(test.to_owned(), outcome);
    }

    /// What the test came to counts no more, for it is run again.
    fn forget(&mut self, test: &str) {
        self.failures.remove(test);
        self.asked.remove(test);
        if let Some(Outcome::Failed(words)) = self.seen.tests.get(test) {
            self.first_words.insert(test.to_owned(), words.clone());
        }
    }

    fn take_words(&mut self, line: &str) {
        if let Some(heading) = line.strip_prefix("---- ") {
            let test = heading.strip_suffix(" stdout ----").unwrap_or(heading);
            self.words = self.failures.contains(test).then(Words::default);
            self.test = Some(test.to_owned());
        } else if line.starts_with("test result: ") || line == "failures:" {
            self.words = None;
            self.test = None;
        } else if let (Some(words), Some(test)) = (&mut self.words, &self.test)
            && let Some(said) = words.listen(line)
        {
            self.seen.tests.insert(test.clone(), Outcome::Failed(said));
        }
    }
}

/// The name and the outcome in `test NAME ... ok`.
fn outcome(line: &str) -> Option<(&str, Outcome)> {
    let (test, word) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let outcome = match word.split([',', ' ']).next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed(String::new()),
        "ignored" => Outcome::Skipped("ignored".to_owned()),
        _ => return None,
    };
    Some((test, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSCRIPT: &str = include_str!("transcript/example.txt");

    fn seen(transcript: &str) -> Seen {
        let mut taken = Transcript::default();
        for line in transcript.lines() {
            taken.take(line);
        }
        taken.into_seen()
    }

    #[test]
    fn a_transcript_tells_what_every_test_and_every_means_came_to() {
        let seen = seen(TRANSCRIPT);
        assert_eq!(seen.means.len(), 1);
        assert_eq!(seen.means[0].refused.as_deref(), Some("No such file"));
        assert_eq!(seen.used["icmp-sent"]["raw_tracepoint:icmp_send"], 1);
        let tests = seen.tests;
        assert_eq!(tests["a::one"], Outcome::Passed);
        assert_eq!(
            tests["a::two"],
            Outcome::Skipped("nginx is not installed: install it".to_owned())
        );
        assert_eq!(tests["b"], Outcome::Failed("wrong again".to_owned()));
        assert_eq!(tests["c"], Outcome::Skipped("ignored".to_owned()));
        assert_eq!(
            tests["d"],
            Outcome::PassedAtSecondTry("nothing for 40s".to_owned())
        );
        assert_eq!(tests.len(), 6);
    }

    #[test]
    fn verdicts_of_the_last_try_count() {
        let verdicts = seen(TRANSCRIPT).verdicts;
        let told: Vec<_> = verdicts["no-listener"].told.iter().collect();
        assert_eq!(
            told,
            [(&"certain".to_owned(), &1), (&"probable".to_owned(), &1)]
        );
        assert_eq!(verdicts["no-listener"].failed, 0);
        assert_eq!(verdicts["firewall-drop"].failed, 1);
    }

    #[test]
    fn the_last_cause_of_a_failure_is_kept() {
        let first = TRANSCRIPT.split("guest: once more").next().unwrap();
        assert_eq!(
            seen(first).tests["b"],
            Outcome::Failed("expected firewall-drop, got undetermined".to_owned())
        );
    }

    #[test]
    fn a_reason_without_a_name_belongs_to_the_test_that_ends_next_or_speaks() {
        let seen = seen(
            "skipped: loading programs needs root\ntest every ... ok\ntest a ... ok\n\
             test one ... skipped: one: no nft\nok\n---- a stdout ----\nskipped: too old\n",
        );
        let skipped = |reason: &str| Outcome::Skipped(reason.to_owned());
        assert_eq!(seen.tests["every"], skipped("loading programs needs root"));
        assert_eq!(seen.tests["a"], skipped("too old"));
        assert_eq!(seen.tests["one"], skipped("no nft"));
    }
}
