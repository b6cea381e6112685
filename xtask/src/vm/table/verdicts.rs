//! What came where tests asked for each verdict.

use std::collections::BTreeSet;

use super::{push_heads, push_row};
use crate::vm::results::{Results, Verdicts};

const WORDS: &str = "
## Verdicts

How often a live test asked for the verdict and got it with all that it expected (`passed`), with the confidence that was
reached, or did not (`failed`). By which means each kernel told them stands below.

";

/// Adds a row for each of `codes`, and for any other that was asked for.
pub fn push(text: &mut String, results: &[Results], codes: &[String]) {
    *text += WORDS;
    push_heads(text, &["verdict"], results);
    let others: BTreeSet<&String> = results
        .iter()
        .flat_map(|one| one.seen.verdicts.keys())
        .filter(|code| !codes.contains(code))
        .collect();
    for code in codes.iter().chain(others) {
        let cells: Vec<_> = results
            .iter()
            .map(|one| cell(one.seen.verdicts.get(code)))
            .collect();
        let mut row = vec![code.as_str()];
        row.extend(cells.iter().map(String::as_str));
        push_row(text, &row);
    }
}

fn cell(verdicts: Option<&Verdicts>) -> String {
    let Some(Verdicts { told, failed }) = verdicts else {
        return "not run".to_owned();
    };
    let passed: u64 = told.values().sum();
    let confidences: Vec<_> = match told.len() {
        1 => told.keys().cloned().collect(),
        _ => told
            .iter()
            .map(|(confidence, count)| format!("{count} {confidence}"))
            .collect(),
    };
    let mut parts = Vec::new();
    if passed > 0 {
        parts.push(format!("{passed} passed ({})", confidences.join(", ")));
    }
    if *failed > 0 {
        parts.push(format!("**{failed} failed**"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(told: &[(&str, u64)], failed: u64) -> Verdicts {
        Verdicts {
            told: told
                .iter()
                .map(|&(confidence, count)| (confidence.to_owned(), count))
                .collect(),
            failed,
        }
    }

    #[test]
    fn every_code_has_a_row_and_says_what_came_of_it() {
        let mut results = Results::default();
        let seen = &mut results.seen.verdicts;
        seen.insert("a".to_owned(), verdicts(&[("certain", 3)], 0));
        seen.insert(
            "b".to_owned(),
            verdicts(&[("certain", 1), ("probable", 2)], 1),
        );
        seen.insert("new".to_owned(), verdicts(&[], 2));
        let mut text = String::new();
        push(&mut text, &[results], &["a", "b", "c"].map(str::to_owned));
        let rows: Vec<_> = text.lines().rev().take(4).collect();
        assert_eq!(
            rows,
            [
                "| new | **2 failed** |",
                "| c | not run |",
                "| b | 3 passed (1 certain, 2 probable), **1 failed** |",
                "| a | 3 passed (certain) |",
            ]
        );
    }
}
