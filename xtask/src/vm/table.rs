//! `KERNELS.md`: what every kernel showed when it was last run, written by the runs alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::results::{Outcome, Results};

const HEAD: &str = "\
# Kernels

What `cargo xtask test --vm` found on Debian's kernels, in the words of the runs. It writes this file; nothing
in it is written by hand.
";

/// The file's text, a column for each kernel in the order given.
pub fn text(results: &[Results]) -> String {
    let mut text = String::from(HEAD);
    push_runs(&mut text, results);
    push_means(&mut text, results);
    push_tests(&mut text, results);
    text
}

fn push_runs(text: &mut String, results: &[Results]) {
    *text += "\n## Runs\n\n";
    push_row(
        text,
        &[
            "kernel", "package", "day", "commit", "attached", "refused", "passed", "failed",
            "skipped", "seconds",
        ],
    );
    push_rule(text, 10);
    for one in results {
        let refused = one.means.iter().filter(|means| means.refused.is_some());
        let refused = refused.count();
        let count = |wanted: fn(&Outcome) -> bool| one.tests.values().filter(|o| wanted(o)).count();
        push_row(
            text,
            &[
                &one.kernel,
                &one.version,
                &one.day,
                &one.revision,
                &(one.means.len() - refused).to_string(),
                &refused.to_string(),
                &count(|outcome| matches!(outcome, Outcome::Passed)).to_string(),
                &count(|outcome| matches!(outcome, Outcome::Failed(_))).to_string(),
                &count(|outcome| matches!(outcome, Outcome::Skipped(_))).to_string(),
                &one.seconds.to_string(),
            ],
        );
    }
}

fn push_means(text: &mut String, results: &[Results]) {
    *text += "\n## Means of each observation\n\n";
    push_heads(text, &["observation", "means"], results);
    let rows = in_order(results, |one| {
        let means = one.means.iter();
        means
            .map(|means| (means.observation.clone(), means.candidate.clone()))
            .collect()
    });
    for (observation, candidate) in rows {
        let cells = results.iter().map(|one| {
            let found = one
                .means
                .iter()
                .find(|means| means.observation == observation && means.candidate == candidate);
            match found.map(|means| &means.refused) {
                None => "",
                Some(None) => "attached",
                Some(Some(reason)) => reason,
            }
        });
        let mut row = vec![observation.as_str(), candidate.as_str()];
        row.extend(cells);
        push_row(text, &row);
    }
}

fn push_tests(text: &mut String, results: &[Results]) {
    *text += "\n## Tests\n\n";
    push_heads(text, &["test"], results);
    let tests: BTreeSet<_> = results.iter().flat_map(|one| one.tests.keys()).collect();
    for test in tests {
        let cells = results.iter().map(|one| match one.tests.get(test) {
            None => "",
            Some(Outcome::Passed) => "passed",
            Some(Outcome::Failed(_)) => "**failed**",
            Some(Outcome::Skipped(_)) => "skipped",
        });
        let mut row = vec![test.as_str()];
        row.extend(cells);
        push_row(text, &row);
    }
    for one in results {
        push_reasons(text, one);
    }
}

fn push_reasons(text: &mut String, results: &Results) {
    let reasons: Vec<_> = results
        .tests
        .iter()
        .filter_map(|(test, outcome)| match outcome {
            Outcome::Passed => None,
            Outcome::Failed(words) => Some((test, "failed", words)),
            Outcome::Skipped(reason) => Some((test, "skipped", reason)),
        })
        .collect();
    if reasons.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n### Not passed on {}\n", results.kernel);
    for (test, what, words) in reasons {
        let _ = writeln!(text, "- {test} {what}: {}", words.replace('\n', " "));
    }
}

/// The rows of all kernels, each once, in the order of the first kernel that has it.
fn in_order<T: PartialEq>(results: &[Results], rows: impl Fn(&Results) -> Vec<T>) -> Vec<T> {
    let mut order = Vec::new();
    for row in results.iter().flat_map(rows) {
        if !order.contains(&row) {
            order.push(row);
        }
    }
    order
}

fn push_heads(text: &mut String, first: &[&str], results: &[Results]) {
    let mut heads = first.to_vec();
    heads.extend(results.iter().map(|one| one.kernel.as_str()));
    push_row(text, &heads);
    push_rule(text, heads.len());
}

fn push_row(text: &mut String, cells: &[&str]) {
    for cell in cells {
        // What a kernel or a test says may hold anything.
        let _ = write!(text, "| {} ", cell.replace('|', "\\|").replace('\n', " "));
    }
    *text += "|\n";
}

fn push_rule(text: &mut String, columns: usize) {
    let _ = writeln!(text, "|{}", " --- |".repeat(columns));
}

#[cfg(test)]
mod tests {
    use super::super::results::Means;
    use super::*;

    fn results(kernel: &str, candidate: &str, refused: Option<&str>) -> Results {
        Results {
            kernel: kernel.to_owned(),
            means: vec![Means {
                observation: "drop".to_owned(),
                candidate: candidate.to_owned(),
                refused: refused.map(str::to_owned),
            }],
            tests: [("a".to_owned(), Outcome::Failed("Error: x".to_owned()))].into(),
            ..Results::default()
        }
    }

    #[test]
    fn every_kernel_has_a_column_and_gaps_stay_empty() {
        let text = text(&[
            results("5.10", "kfree_skb", Some("a|b")),
            results("6.1", "fentry", None),
        ]);
        assert!(
            text.contains("| observation | means | 5.10 | 6.1 |\n"),
            "{text}"
        );
        assert!(text.contains("| drop | kfree_skb | a\\|b |  |\n"), "{text}");
        assert!(text.contains("| drop | fentry |  | attached |\n"), "{text}");
        assert!(text.contains("| a | **failed** | **failed** |\n"), "{text}");
        assert!(
            text.contains("### Not passed on 6.1\n\n- a failed: Error: x\n"),
            "{text}"
        );
    }
}
