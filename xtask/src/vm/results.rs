//! What the runs on the kernels have shown.

mod transcript;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::test::Total;
pub use transcript::Transcript;

/// The results of one kernel.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// What `uname -r` said.
    pub kernel: String,
    /// The version of Debian's package.
    pub version: String,
    /// The commit of this repository, and whether something was changed since.
    pub revision: String,
    /// In UTC, such as `2026-05-17`.
    pub day: String,
    /// From the start of the guest to its end.
    pub seconds: u64,
    /// Which live tests were asked for, in words.
    pub chosen: String,
    /// Why the guest did not come to its end, where it did not.
    pub broken: Option<String>,
    pub seen: Seen,
}

/// What a guest wrote.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub means: Vec<Means>,
    /// How many traces used a means, by observation and means.
    pub used: BTreeMap<String, BTreeMap<String, u64>>,
    /// By the code that was asked for.
    pub verdicts: BTreeMap<String, Verdicts>,
    /// By the test's name.
    pub tests: BTreeMap<String, Outcome>,
}

/// A line of the load test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Means {
    pub observation: String,
    pub candidate: String,
    /// Why it was refused; `None` where it was attached.
    pub refused: Option<String>,
}

/// What came where a verdict was asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// How often it was told and all else was as expected, by confidence.
    pub told: BTreeMap<String, u64>,
    /// How often something was not as expected.
    pub failed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    /// It failed first, with these words.
    PassedAtSecondTry(String),
    /// With a line of what it said: the first, or the last cause.
    Failed(String),
    Skipped(String),
}

impl Results {
    /// The sum of its tests. A guest that broke counts as a failure of its own.
    pub fn total(&self) -> Total {
        let mut total = self.seen.total();
        total.failed += u64::from(self.broken.is_some());
        total
    }

    /// The tests that did not simply pass: the name, what they came to, and why.
    pub fn remarkable(&self) -> impl Iterator<Item = (&str, &'static str, &str)> {
        self.seen
            .tests
            .iter()
            .filter_map(|(test, outcome)| match outcome {
                Outcome::Passed => None,
                Outcome::PassedAtSecondTry(words) => {
                    Some((test.as_str(), "passed at the second try", words.as_str()))
                }
                Outcome::Failed(words) => Some((test, "failed", words)),
                Outcome::Skipped(reason) => Some((test, "skipped", reason)),
            })
    }
}

impl Seen {
    /// The sum of the tests.
    pub fn total(&self) -> Total {
        let mut total = Total::default();
        for outcome in self.tests.values() {
            match outcome {
                Outcome::Passed | Outcome::PassedAtSecondTry(_) => total.passed += 1,
                Outcome::Failed(_) => total.failed += 1,
                Outcome::Skipped(_) => total.skipped += 1,
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_broke_is_a_failure_beside_those_of_its_tests() {
        let outcomes = [
            ("a", Outcome::Passed),
            ("b", Outcome::PassedAtSecondTry("late".to_owned())),
            ("c", Outcome::Failed("wrong".to_owned())),
            ("d", Outcome::Skipped("no nginx".to_owned())),
        ];
        let results = Results {
            broken: Some("it did not end".to_owned()),
            seen: Seen {
                tests: outcomes
                    .map(|(name, outcome)| (name.to_owned(), outcome))
                    .into(),
                ..Seen::default()
            },
            ..Results::default()
        };
        assert_eq!(results.total().to_string(), "2 passed, 2 failed, 1 skipped");
        let told: Vec<_> = results.remarkable().map(|(test, ..)| test).collect();
        assert_eq!(told, ["b", "c", "d"]);
    }
}
