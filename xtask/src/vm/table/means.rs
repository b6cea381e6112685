//! By which means each kernel makes each observation.

use super::{in_order, push_heads, push_row};
use crate::vm::results::Results;

const WORDS: &str = "
## Means of each observation

`used` by how many traces of live tests; `attached` by the load test, while traces used something else; or the reason why
the kernel refused it.

";

/// Adds a row for each means of each observation.
pub fn push(text: &mut String, results: &[Results]) {
    *text += WORDS;
    push_heads(text, &["observation", "means"], results);
    for (observation, means) in in_order(results, means_of) {
        let cells: Vec<_> = results
            .iter()
            .map(|one| cell(one, &observation, &means))
            .collect();
        let mut row = vec![observation.as_str(), means.as_str()];
        row.extend(cells.iter().map(String::as_str));
        push_row(text, &row);
    }
}

/// Those that were tried, and then those that were only used.
fn means_of(results: &Results) -> Vec<(String, String)> {
    let seen = &results.seen;
    let tried = seen
        .means
        .iter()
        .map(|means| (means.observation.clone(), means.candidate.clone()));
    let used = seen.used.iter().flat_map(|(observation, used)| {
        used.keys()
            .map(|means| (observation.clone(), means.clone()))
    });
    tried.chain(used).collect()
}

fn cell(results: &Results, observation: &str, means: &str) -> String {
    let used = results.seen.used.get(observation);
    if let Some(traces) = used.and_then(|used| used.get(means)) {
        return format!("used {traces}");
    }
    let tried = results
        .seen
        .means
        .iter()
        .find(|one| one.observation == observation && one.candidate == means);
    match tried.map(|one| &one.refused) {
        None => String::new(),
        Some(None) => "attached".to_owned(),
        Some(Some(reason)) => reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::results::Means;

    fn results(kernel: &str, candidate: &str, refused: Option<&str>) -> Results {
        let mut results = Results {
            kernel: kernel.to_owned(),
            ..Results::default()
        };
        results.seen.means.push(Means {
            observation: "drop".to_owned(),
            candidate: candidate.to_owned(),
            refused: refused.map(str::to_owned),
        });
        results
    }

    #[test]
    fn every_kernel_has_a_column_and_gaps_stay_empty() {
        let mut used = results("7.3", "fentry", None);
        used.seen
            .used
            .insert("drop".to_owned(), [("fentry".to_owned(), 12)].into());
        let mut text = String::new();
        push(
            &mut text,
            &[
                results("5.10", "kfree_skb", Some("a|b")),
                results("6.1", "fentry", None),
                used,
            ],
        );
        let rows: Vec<_> = text.lines().rev().take(4).collect();
        assert_eq!(
            rows,
            [
                "| drop | fentry |  | attached | used 12 |",
                "| drop | kfree_skb | a\\|b |  |  |",
                "| --- | --- | --- | --- | --- |",
                "| observation | means | 5.10 | 6.1 | 7.3 |",
            ]
        );
    }
}
