//! What a run on one kernel has shown, read from what its payload wrote.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How much of a failure's message is kept.
const LONGEST_REASON: usize = 300;

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
    pub means: Vec<Means>,
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    /// With a line of what it said: the first, or the last cause.
    Failed(String),
    Skipped(String),
}

/// Reads the lines of one run in their order.
#[derive(Debug, Default)]
pub struct Transcript {
    pub means: Vec<Means>,
    tests: BTreeMap<String, Outcome>,
    skipped: BTreeMap<String, String>,
    failures: BTreeSet<String>,
    speaking: Option<Speaking>,
}

/// A failed test whose words come now.
#[derive(Debug)]
struct Speaking {
    test: String,
    /// What the next line is worth.
    next: Next,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is the first.
    Message,
    /// Nothing, but for the heading of causes.
    Rest,
    /// It is the first cause.
    Cause,
    /// It is worth something where it is one more cause.
    FurtherCause,
}

impl Transcript {
    /// Takes a line; returns whether it is worth showing while the guest runs.
    pub fn take(&mut self, line: &str) -> bool {
        if let Ok(means) = serde_json::from_str(line) {
            // A load test that fails says the ones that were wrong once more.
            if !self.means.contains(&means) {
                self.means.push(means);
            }
            return false;
        }
        if let Some((test, reason)) = line
            .strip_prefix("skipped: ")
            .and_then(|rest| rest.split_once(": "))
            .filter(|(test, _)| !test.contains(' '))
        {
            self.skipped.insert(test.to_owned(), reason.to_owned());
            return false;
        }
        if let Some((test, outcome)) = outcome(line) {
            if matches!(outcome, Outcome::Failed(_)) {
                self.failures.insert(test.to_owned());
            }
            self.tests.insert(test.to_owned(), outcome);
            return true;
        }
        self.take_words(line);
        line.starts_with("guest: ") || line.starts_with("test result: ")
    }

    /// What every test came to.
    pub fn into_tests(mut self) -> BTreeMap<String, Outcome> {
        for (test, reason) in self.skipped {
            if !self.failures.contains(&test) {
                self.tests.insert(test, Outcome::Skipped(reason));
            }
        }
        self.tests
    }

    fn take_words(&mut self, line: &str) {
        if let Some(heading) = line.strip_prefix("---- ") {
            let test = heading.strip_suffix(" stdout ----").unwrap_or(heading);
            self.speaking = self.failures.contains(test).then(|| Speaking {
                test: test.to_owned(),
                next: Next::Message,
            });
        } else if line.starts_with("test result: ") || line == "failures:" {
            self.speaking = None;
        } else if let Some(speaking) = &mut self.speaking
            && let Some(words) = speaking.listen(line)
        {
            let reason = words.chars().take(LONGEST_REASON).collect();
            self.tests
                .insert(speaking.test.clone(), Outcome::Failed(reason));
        }
    }
}

impl Speaking {
    /// What the line says, where it says more about the failure than those before it. The
    /// causes of an error stand behind a heading, with numbers where they are more than one.
    fn listen<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if line == "Caused by:" {
            self.next = Next::Cause;
            return None;
        }
        let numbered = || {
            let (number, cause) = line.strip_prefix("    ")?.split_once(": ")?;
            number.parse::<u8>().ok().map(|_| cause)
        };
        match self.next {
            Next::Message if line.is_empty() || line.starts_with("thread '") => None,
            Next::Message => {
                self.next = Next::Rest;
                Some(line)
            }
            Next::Rest => None,
            Next::Cause => {
                self.next = Next::FurtherCause;
                Some(numbered().unwrap_or(line.trim()))
            }
            Next::FurtherCause => numbered(),
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

    const TRANSCRIPT: &str = r#"
guest: 6.1.0-49-amd64 after 3.1 s
{"kernel":"6.1","observation":"icmp-sent","candidate":"raw_tracepoint:icmp_send","refused":"No such file"}
{"kernel":"6.1","observation":"icmp-sent","candidate":"raw_tracepoint:icmp_send","refused":"No such file"}
test every ... ok
test a::one ... ok
skipped: a::two: nginx is not installed: install it
test a::two ... ok
test b ... FAILED
test c ... ignored, for a reason

failures:

---- b stdout ----

thread 'b' panicked at b.rs:1:
Error: upstream four: Failure {
  more

Caused by:
    0: the verdict is wrong
    1: expected firewall-drop, got undetermined

failures:
    b

test result: FAILED. 2 passed; 1 failed; 1 ignored
guest: exit code 1
"#;

    #[test]
    fn a_transcript_tells_what_every_test_and_every_means_came_to() {
        let mut transcript = Transcript::default();
        for line in TRANSCRIPT.lines() {
            transcript.take(line);
        }
        assert_eq!(transcript.means.len(), 1);
        assert_eq!(transcript.means[0].refused.as_deref(), Some("No such file"));
        let tests = transcript.into_tests();
        assert_eq!(tests["a::one"], Outcome::Passed);
        assert_eq!(
            tests["a::two"],
            Outcome::Skipped("nginx is not installed: install it".to_owned())
        );
        assert_eq!(
            tests["b"],
            Outcome::Failed("expected firewall-drop, got undetermined".to_owned())
        );
        assert_eq!(tests["c"], Outcome::Skipped("ignored".to_owned()));
        assert_eq!(tests.len(), 5);
    }
}
