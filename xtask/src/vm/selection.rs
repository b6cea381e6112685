//! Which live tests run on which kernel.

use std::ffi::OsString;
use std::time::Duration;

/// The kernels of Debian's releases, and the newest of the last two majors, with the live tests
/// that run there unless others are asked for. They are started in this order, the longest first.
const SERIES: [(&str, &[&[&str]]); 5] = [
    ("5.10", &[MEANS, VERDICTS, OLDEST]),
    ("6.1", &[MEANS, VERDICTS, CONFINED]),
    ("7", &[MEANS]),
    ("6.12", &[MEANS, CONFINED, LABELLED]),
    ("6", &[MEANS]),
];

/// What `cargo xtask test` runs on every kernel beside the load test: one or two tests of each
/// means, which take a minute or two.
const CORE: &[&str] = &[
    "a_port_that_nobody_listens_on_is_explained_as_no_listener",
    "a_socket_that_is_only_bound_is_explained_as_bound_not_listening",
    "addresses::an_ipv4_listener_dialled_by_ipv6",
    "firewalls::an_iptables_reject",
    "firewalls::an_nft_drop_on_the_way_in",
    "firewalls::an_nft_reset_on_the_way_out",
    "policies::a_seccomp_filter_on_connect",
];

/// On every kernel what kernels show by different means, or not at all, as parts of the tests'
/// names. The kernel gives a drop's reason since 5.17 (before, its place in the code stands for
/// it), lists sockets that are bound and do not listen since 6.8 (before, a program looks among
/// open files), has a tracepoint for resets of closed ports since 6.10 (before, functions are
/// watched), and tells whether a repeated SYN left since 6.17; and which functions a program can
/// attach to differs between any two.
const MEANS: &[&str] = &[
    "a_port_that_nobody_listens_on_is_explained_as_no_listener",
    "a_socket_that_is_only_bound_is_explained_as_bound_not_listening",
    "eaters::a_cgroup_program_on_egress",
    "eaters::a_cgroup_program_that_refuses_connect",
    "eaters::a_generic_xdp_program",
    "eaters::reverse_path_filtering",
    "filter::exact::",
    "filter::hooks::",
    "filter::kinds::",
    "firewalls::",
    "look_alikes::a_connection_that_is_killed_here",
    "look_alikes::a_full_accept_queue_that_resets",
    "look_alikes::a_reset_from_behind_a_translated_address",
    "look_alikes::a_rule_that_rejects_requests",
    "neighbours::a_silent_neighbour",
    "policies::",
    "queues::",
    "remote::",
    "timing::",
];

/// On the oldest kernel, and on that of the release that the tests are written for, what it takes
/// beyond that to ask for every verdict.
const VERDICTS: &[&str] = &[
    "addresses::an_ipv4_listener_dialled_by_ipv6",
    "after_connect::a_backend_that_closes_is_told_from_one_that_resets",
    "after_connect::a_backend_that_never_answers",
    "after_connect::a_kept_connection_that_ends",
    "after_connect::a_listener_that_closes_resets",
    "after_connect::what_is_no_response",
    "is_explained_as_listener_",
    "limits::",
    "listeners::a_listener_on_a_plausible_port",
    "log_only::",
    "namespaces::a_listener_in_another_namespace_is_explained",
    "routes::a_refusing",
    "stale_dns::a_name_that_moved_on_this_host_is_told_from_one_that_stayed",
    "unix_sockets::backlog::",
    "unix_sockets::kinds::",
    "unix_sockets::listeners::a_stale_socket_file",
    "unix_sockets::missing::a_path_with_nothing_there",
    "unix_sockets::paths::paths_that_cannot_be_walked",
    "unix_sockets::permission::a_socket_that_the_worker_may_not_write",
];

/// On the oldest kernel, which shows the least, what looks like each of these, and where several
/// packets and several namespaces meet one rule. The rest of the packet filters' tests try how
/// rules are read and evaluated, which the tool does alike on every kernel. What a rule at the
/// prerouting hook of a bridge dropped cannot be told there (`nf_hook_bridge_pre` gives no reason).
const OLDEST: &[&str] = &[
    "addresses::",
    "after_connect::",
    "deaths::",
    "filter::moments::",
    "filter::nat::",
    "filter::twins::",
    "filter_hooks::a_reset_made",
    "filter_hooks::an_input_or_output_rule",
    "filter_hooks::every_hook_of_ip",
    "filter_hooks::the_hooks_of_ip",
    "listeners::",
    "look_alikes::",
    "namespaces::",
    "protocols::",
    "routes::",
    "unix_connections::",
    "unix_sockets::",
];

/// What takes a guest that enforces a policy (`flavour.rs`): on the kernels of the last two releases.
const CONFINED: &[&str] = &["mandatory::apparmor::"];
/// The same with SELinux, whose policy takes longest to load.
const LABELLED: &[&str] = &["mandatory::selinux::"];

/// How long a guest may take for a selection, and for everything.
const SELECTION: Duration = Duration::from_secs(2700);
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

/// What every run of all tests includes, on every kernel.
pub fn core() -> Vec<Wanted> {
    let wanted = |(series, _)| selected(series, &[CORE], "core");
    SERIES.into_iter().map(wanted).collect()
}

/// The selection, on every kernel.
pub fn selection() -> Vec<Wanted> {
    let wanted = |(series, tests)| selected(series, tests, "selection");
    SERIES.into_iter().map(wanted).collect()
}

fn selected(series: &str, tests: &[&[&str]], chosen: &'static str) -> Wanted {
    Wanted {
        series: series.to_owned(),
        tests: tests
            .iter()
            .copied()
            .flatten()
            .map(OsString::from)
            .collect(),
        chosen,
        deadline: SELECTION,
    }
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
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::vm::flavour::Flavour;
    use crate::workspace;

    /// The names of the tests in `folder` and below it, whose modules are `module`.
    fn names_below(folder: &Path, module: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let inner = format!("{module}{}::", path.file_stem().unwrap().display());
            if path.is_dir() {
                names.extend(names_below(&path, &inner));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let tests = text.split("#[test]\nfn ").skip(1);
                names.extend(
                    tests.filter_map(|test| Some(format!("{inner}{}", test.split_once('(')?.0))),
                );
            }
        }
        names
    }

    #[test]
    fn every_part_of_the_selection_is_in_the_name_of_a_live_test() {
        let names = names_below(&workspace::root().join("tests/tests/live"), "");
        let parts = [CORE, MEANS, VERDICTS, OLDEST, CONFINED, LABELLED];
        for part in parts.iter().copied().flatten() {
            assert!(names.iter().any(|name| name.contains(part)), "{part}");
        }
    }

    #[test]
    fn the_selection_boots_every_flavour() {
        for flavour in Flavour::ALL {
            let boots = |wanted: &Wanted| flavour.arguments(&wanted.tests).is_some();
            assert!(selection().iter().any(boots), "{flavour:?}");
        }
    }

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
