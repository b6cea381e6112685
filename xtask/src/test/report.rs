//! Reads what `cargo test -- --show-output` prints, and adds it up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;

/// What a test prints that could not do its work here: `skipped: REASON` in its captured output,
/// `skipped: TEST: REASON` past the capture.
const SKIPPED: &str = "skipped: ";

/// What was read so far, of all test programs.
#[derive(Default)]
pub struct Report {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// The reason by the test's name.
    skipped: BTreeMap<String, String>,
    failures: BTreeSet<String>,
    place: Place,
}

/// Where in a test program's output the next line is.
#[derive(Default)]
enum Place {
    #[default]
    Anywhere,
    /// In the output of tests that passed, of the test of this name.
    Successes { test: Option<String> },
    /// In the output of tests that failed.
    Failures,
}

/// The total, as one line in a plain form that scripts may read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Total {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Total {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl Report {
    /// Takes a line of standard output; returns whether it is worth showing. What passing tests
    /// print is not.
    pub fn take_output(&mut self, line: &str) -> bool {
        match line {
            "successes:" => self.place = Place::Successes { test: None },
            "failures:" => self.place = Place::Failures,
            _ => self.take_line(line),
        }
        !matches!(self.place, Place::Successes { .. })
    }

    /// Takes a line of standard error.
    pub fn take_message(&mut self, line: &str) {
        if let Some((test, reason)) = line.strip_prefix(SKIPPED).and_then(named) {
            self.skipped.insert(test.to_owned(), reason.to_owned());
        }
    }

    /// Why tests were skipped, by the test's name.
    pub fn skipped(&self) -> impl Iterator<Item = (&String, &String)> {
        self.skipped
            .iter()
            .filter(|(test, _)| !self.failures.contains(*test))
    }

    /// The sum. Where cargo failed and no test did, something else failed, such as a test
    /// program that crashed or did not compile; it counts as one.
    pub fn total(&self, cargo_succeeded: bool) -> Total {
        // libtest counts them as passed.
        let skipped = self.skipped().count() as u64;
        Total {
            passed: self.passed.saturating_sub(skipped),
            failed: if cargo_succeeded {
                self.failed
            } else {
                self.failed.max(1)
            },
            skipped: skipped + self.ignored,
        }
    }

    fn take_line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.place = Place::Anywhere;
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.ignored += count(result, "ignored");
            return;
        }
        match &mut self.place {
            Place::Anywhere => {
                if let Some(test) = failed_test(line) {
                    self.failures.insert(test.to_owned());
                }
                self.take_message(line);
            }
            Place::Successes { test } => {
                if let Some(name) = heading(line) {
                    *test = Some(name.to_owned());
                } else if let (Some(test), Some(reason)) = (test, line.strip_prefix(SKIPPED)) {
                    self.skipped.insert(test.clone(), reason.to_owned());
                }
            }
            Place::Failures => {}
        }
    }
}

/// The name and the reason in `TEST: REASON`; a test's name has no blank in it.
fn named(text: &str) -> Option<(&str, &str)> {
    text.split_once(": ")
        .filter(|(test, _)| !test.contains(' '))
}

/// The name in `test NAME ... FAILED`.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// The name in `---- NAME stdout ----`.
fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// The number before `label` in `ok. 3 passed; 0 failed; …`.
fn count(result: &str, label: &str) -> u64 {
    result
        .split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(label))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 4 tests
test a ... ok
test b ... ok
test c ... FAILED
test d ... ignored

successes:

---- a stdout ----
skipped: not root
---- b stdout ----
noise

successes:
    a
    b

failures:

---- c stdout ----
skipped: but it failed all the same

failures:
    c

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn report(output: &str) -> (Report, Vec<&str>) {
        let mut report = Report::default();
        let shown = output
            .lines()
            .filter(|line| report.take_output(line))
            .collect();
        (report, shown)
    }

    fn reasons(report: &Report) -> Vec<String> {
        report
            .skipped()
            .map(|(test, reason)| format!("{test}: {reason}"))
            .collect()
    }

    #[test]
    fn a_test_that_says_why_it_was_skipped_did_not_pass() {
        let (report, _) = report(OUTPUT);
        assert_eq!(
            report.total(false).to_string(),
            "1 passed, 1 failed, 2 skipped"
        );
        assert_eq!(reasons(&report), ["a: not root"]);
    }

    #[test]
    fn a_reason_past_the_capture_counts_once_and_not_where_the_test_failed() {
        let (mut report, _) = report(OUTPUT);
        report.take_message("skipped: a: not root");
        report.take_message("skipped: b: no nginx: install it");
        report.take_message("skipped: c: no nginx");
        report.take_message("skipped: something else: that is no test");
        assert_eq!(reasons(&report), ["a: not root", "b: no nginx: install it"]);
        assert_eq!(
            report.total(false).to_string(),
            "0 passed, 1 failed, 3 skipped"
        );
    }

    #[test]
    fn output_of_failing_tests_is_shown_and_of_passing_ones_not() {
        let (_, shown) = report(OUTPUT);
        assert!(shown.contains(&"---- c stdout ----"));
        assert!(!shown.contains(&"noise"));
    }

    #[test]
    fn results_of_several_programs_add_up() {
        let result = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out";
        let (report, _) = report(&format!("{result}\n{result}\n"));
        assert_eq!(
            report.total(true).to_string(),
            "6 passed, 0 failed, 2 skipped"
        );
    }

    #[test]
    fn a_crash_without_a_result_counts_as_a_failure() {
        let (report, _) = report("running 1 test\n");
        assert_eq!(report.total(false).failed, 1);
        assert_eq!(report.total(true).failed, 0);
    }
}
