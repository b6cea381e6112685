//! Every program of every observation on the running kernel: it loads and attaches, or the
//! kernel has not what it attaches to.
//!
//! It prints a line of JSON for each, by which a run on several kernels is tabulated.

use nix::unistd::geteuid;
use whyrefused::btf::Btf;
use whyrefused::probes::{Candidate, Probes, Trial, Wishes};
use whyrefused::trace::session;

const WISHES: Wishes = Wishes {
    follow_new: true,
    fold: true,
};

/// What the kernel says of a tracepoint that it does not have (`bpf_raw_tp_link_attach`,
/// `bpf_get_raw_tracepoint`).
const ABSENT: &str = "No such file or directory";

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

fn as_expected(btf: &Btf, trial: &Trial) -> bool {
    let is_there = match trial.candidate {
        Candidate::Raw(name) => btf.tracepoint(name).is_some(),
        // System calls have theirs on every kernel that a distribution builds.
        Candidate::Perf { .. } => true,
    };
    match &trial.refused {
        None => is_there,
        Some(reason) => {
            if is_there {
                eprintln!("LOG {reason}");
            }
            !is_there && reason.contains(ABSENT)
        }
    }
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
