//! `KERNELS.md`: what every kernel showed when it was last run, written by the runs alone.

mod means;
mod modules;
mod verdicts;

use std::fmt::Write as _;

use super::results::{Outcome, Results};

const HEAD: &str = "\
# Kernels

What `cargo xtask test --vm` found on Debian's kernels, in the words of the runs. It writes this file;
nothing in it is written by hand. Each column is the last run on that kernel: of all live tests, where the
kernel was named, or of the selection that runs where none is.
";

/// The file's text, a column for each kernel in the order given. `verdicts` are the codes that
/// there are.
pub fn text(results: &[Results], verdicts: &[String]) -> String {
    let mut text = String::from(HEAD);
    push_runs(&mut text, results);
    verdicts::push(&mut text, results, verdicts);
    means::push(&mut text, results);
    modules::push(&mut text, results);
    text
}

fn push_runs(text: &mut String, results: &[Results]) {
    *text += "\n## Runs\n\n";
    let heads = [
        "kernel",
        "package",
        "day",
        "commit",
        "live tests",
        "passed",
        "at the second try",
        "failed",
        "skipped",
        "minutes",
    ];
    push_row(text, &heads);
    push_rule(text, heads.len());
    for one in results {
        let total = one.total();
        let again = |outcome: &&Outcome| matches!(outcome, Outcome::PassedAtSecondTry(_));
        push_row(
            text,
            &[
                &one.kernel,
                &one.version,
                &one.day,
                &one.revision,
                &one.chosen,
                &total.passed.to_string(),
                &one.seen.tests.values().filter(again).count().to_string(),
                &total.failed.to_string(),
                &total.skipped.to_string(),
                &one.seconds.div_ceil(60).to_string(),
            ],
        );
    }
    for one in results {
        if let Some(broken) = &one.broken {
            let first = broken.lines().next().unwrap_or_default();
            let _ = writeln!(text, "\n**{}**: {first}", one.kernel);
        }
    }
}

/// `rows` of all kernels, each once, in the order of the first kernel that has it.
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
    use super::*;

    #[test]
    fn a_run_that_broke_says_so_in_a_line() {
        let results = Results {
            kernel: "6.1".to_owned(),
            seconds: 61,
            chosen: "selection".to_owned(),
            broken: Some("the guest did not end in 30s\nits console".to_owned()),
            ..Results::default()
        };
        let text = text(&[results], &[]);
        assert!(
            text.contains("| 6.1 |  |  |  | selection | 0 | 0 | 1 | 0 | 2 |\n"),
            "{text}"
        );
        assert!(
            text.contains("\n**6.1**: the guest did not end in 30s\n"),
            "{text}"
        );
    }
}
