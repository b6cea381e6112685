//! What the tests of each module came to, and those that did not simply pass.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{push_heads, push_row};
use crate::test::Total;
use crate::vm::results::Results;

/// Adds a row for each module, and a list for each kernel.
pub fn push(text: &mut String, results: &[Results]) {
    *text += "\n## Tests\n\n";
    push_heads(text, &["module"], results);
    let modules: BTreeSet<&str> = results
        .iter()
        .flat_map(|one| one.seen.tests.keys())
        .map(|test| module(test))
        .collect();
    for module in modules {
        let cells: Vec<_> = results.iter().map(|one| cell(one, module)).collect();
        let mut row = vec![module];
        row.extend(cells.iter().map(String::as_str));
        push_row(text, &row);
    }
    for one in results {
        push_remarkable(text, one);
    }
}

fn push_remarkable(text: &mut String, results: &Results) {
    let mut remarkable = results.remarkable().peekable();
    if remarkable.peek().is_none() {
        return;
    }
    let _ = writeln!(text, "\n### Not simply passed on {}\n", results.kernel);
    for (test, what, words) in remarkable {
        let _ = writeln!(text, "- {test} {what}: {}", words.replace('\n', " "));
    }
}

/// Where the test stands; the load test stands alone.
fn module(test: &str) -> &str {
    test.rsplit_once("::").map_or(test, |(module, _)| module)
}

fn cell(results: &Results, wanted: &str) -> String {
    let mut seen = results.seen.clone();
    seen.tests.retain(|test, _| module(test) == wanted);
    let Total {
        passed,
        failed,
        skipped,
    } = seen.total();
    let mut parts = Vec::new();
    for (count, what) in [(passed, "passed"), (skipped, "skipped")] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if failed > 0 {
        parts.push(format!("**{failed} failed**"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::results::Outcome;

    #[test]
    fn tests_are_counted_by_module_and_told_where_they_did_not_simply_pass() {
        let outcomes = [
            ("every_candidate", Outcome::Passed),
            ("a::b::one", Outcome::Passed),
            ("a::b::two", Outcome::PassedAtSecondTry("late".to_owned())),
            ("a::three", Outcome::Failed("wrong".to_owned())),
            ("a::four", Outcome::Skipped("no\nnft".to_owned())),
        ];
        let mut results = Results {
            kernel: "6.1".to_owned(),
            ..Results::default()
        };
        results.seen.tests = outcomes
            .map(|(name, outcome)| (name.to_owned(), outcome))
            .into();
        let mut text = String::new();
        push(&mut text, &[results, Results::default()]);
        for line in [
            "| a | 1 skipped, **1 failed** |  |",
            "| a::b | 2 passed |  |",
            "| every_candidate | 1 passed |  |",
            "- a::b::two passed at the second try: late",
            "- a::four skipped: no nft",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("### ").count(), 1);
    }
}
