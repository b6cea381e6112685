//! Every program of every observation on the running kernel: it loads and attaches, or the
//! kernel has not what it attaches to.
//!
//! It prints a line of JSON for each, by which a run on several kernels is tabulated.

use std::{fs, path::Path};

use nix::unistd::geteuid;
use whyrefused::btf::Btf;
use whyrefused::probes::{Hook, Probes, Trial, Wishes};
use whyrefused::trace::session;

const WISHES: Wishes = Wishes {
    follow_new: true,
    fold: true,
};

#[test]
fn every_candidate_attaches_wherever_the_kernel_has_its_place() {
    if !geteuid().is_root() {
        println!("skipped: loading programs needs root");
        return;
    }
    let btf = match Btf::of_running_kernel() {
        Ok(btf) => btf,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let trials = Probes::try_every_candidate(&btf, WISHES).expect("the maps can be created");
    assert!(!trials.is_empty());
    for trial in &trials {
        println!("{}", line(trial));
    }
    let wrong: Vec<_> = trials
        .iter()
        .filter(|trial| !as_expected(&btf, trial))
        .map(line)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a kernel says whose security policy lends no programs of a kind, whatever they do: the
/// verifier, which has more to say, was not asked.
const FORBIDDEN: &str = "Operation not permitted (os error 1)";

/// What the kernel says of a function that it does not have.
const ABSENT: &str = "No such file or directory";

/// A means that is refused must be one that this kernel does not have, or forbids.
fn as_expected(btf: &Btf, trial: &Trial) -> bool {
    let hooks = trial.candidate.0;
    let lacking = hooks.iter().any(|hook| lacks(btf, *hook));
    let forbidden = trial.refused.as_deref() == Some(FORBIDDEN)
        && hooks
            .iter()
            .any(|hook| matches!(hook, Hook::Entry(_) | Hook::Return(_)));
    // A function is looked for once the program has passed the verifier.
    let unfit = trial.refused.as_deref().is_some_and(|reason| {
        let probes = hooks.iter().all(|hook| matches!(hook, Hook::ProbeEntry(_)));
        probes && !reason.contains(ABSENT)
    });
    trial.refused.is_some() == (lacking || forbidden) && !unfit
}

fn lacks(btf: &Btf, hook: Hook) -> bool {
    match hook {
        Hook::Raw(name) => btf.tracepoint(name).is_none(),
        Hook::RawWith { name, argument } => btf
            .tracepoint(name)
            .is_none_or(|arguments| arguments.iter().all(|one| one.name != argument)),
        // System calls have theirs on every kernel that a distribution builds.
        Hook::Perf { .. } => false,
        Hook::Entry(function) | Hook::Return(function) => btf.function(function).is_none(),
        Hook::ProbeEntry(function) | Hook::ProbeReturn(function) => {
            !Path::new("/sys/bus/event_source/devices/kprobe").exists() || !has(function)
        }
    }
}

/// Whether the kernel or a module that is loaded has that function.
fn has(function: &str) -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    symbols
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some(function))
}

fn line(trial: &Trial) -> String {
    serde_json::json!({
        "kernel": session::kernel(),
        "observation": trial.observation.name,
        "candidate": trial.candidate.to_string(),
        "refused": trial.refused,
    })
    .to_string()
}
