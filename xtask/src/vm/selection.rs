//! Which live tests run on which kernel.

use std::ffi::OsString;
use std::time::Duration;

/// The kernels of Debian's releases, and the newest of the last two majors; the live tests that
/// run there unless others are asked for, as the beginnings of their names. They are started in
/// this order, the longest first.
const SERIES: [(&str, &[&str]); 5] = [
    ("5.10", OLDEST),
    ("6.1", MIDDLE),
    ("7", ELSEWHERE),
    ("6", ELSEWHERE),
    ("6.12", ELSEWHERE),
];

const OLDEST: &[&str] = &[];
const MIDDLE: &[&str] = &[];
const ELSEWHERE: &[&str] = &[];

/// How long a guest may take for a selection, and for everything.
const SELECTION: Duration = Duration::from_secs(1800);
const EVERYTHING: Duration = Duration::from_secs(3600);

/// What is to run on the newest kernel of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub series: String,
    /// Arguments of the live tests.
    pub tests: Vec<OsString>,
    /// In a word, for the table.
    pub chosen: &'static str,
    pub deadline: Duration,
}

/// The series that are run where none is named.
pub fn series() -> impl Iterator<Item = &'static str> {
    SERIES.into_iter().map(|(series, _)| series)
}

/// The selection, on every kernel.
pub fn selection() -> Vec<Wanted> {
    SERIES
        .into_iter()
        .map(|(series, tests)| Wanted {
            series: series.to_owned(),
            tests: tests.iter().map(OsString::from).collect(),
            chosen: "selection",
            deadline: SELECTION,
        })
        .collect()
}

/// What `--vm` with these names and these arguments of the tests asks for: without either the
/// selection; else everything, or what the arguments say, on the kernels that are named, `all` or
/// none of them meaning every one.
pub fn asked_for(named: &[String], tests: &[OsString]) -> Vec<Wanted> {
    if named.is_empty() && tests.is_empty() {
        return selection();
    }
    let every = named.is_empty() || named == ["all"];
    let names: Vec<String> = match every {
        true => series().map(str::to_owned).collect(),
        false => named.to_vec(),
    };
    names
        .into_iter()
        .map(|series| Wanted {
            series,
            tests: tests.to_vec(),
            chosen: if tests.is_empty() { "all" } else { "some" },
            deadline: EVERYTHING,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(named: &[&str], tests: &[&str]) -> Vec<(String, usize, &'static str)> {
        let named: Vec<_> = named.iter().map(|&name| name.to_owned()).collect();
        let tests: Vec<_> = tests.iter().map(OsString::from).collect();
        asked_for(&named, &tests)
            .into_iter()
            .map(|wanted| (wanted.series, wanted.tests.len(), wanted.chosen))
            .collect()
    }

    #[test]
    fn what_is_named_runs_in_full() {
        assert_eq!(
            asked(&["6.1", "7"], &[]),
            [("6.1".to_owned(), 0, "all"), ("7".to_owned(), 0, "all")]
        );
        let all = asked(&["all"], &[]);
        assert_eq!(all.len(), SERIES.len());
        assert!(all.iter().all(|(_, tests, _)| *tests == 0));
    }

    #[test]
    fn without_a_name_the_selection_runs_and_with_arguments_those_on_every_kernel() {
        assert!(asked(&[], &[]).iter().all(|(_, tests, _)| *tests > 0));
        assert_eq!(asked(&[], &["firewalls::"]).len(), SERIES.len());
        assert_eq!(asked(&["all"], &["firewalls::"])[0].1, 1);
    }
}
