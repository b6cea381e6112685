//! Programs of other people that can have eaten, refused or rewritten, in words.

use crate::case::{AttachedProgram, Case, Netns, ProgramPlace};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, wording};

/// The filters of tc at the way in or out of the devices of a namespace.
pub(super) fn of_traffic_control(
    case: &Case,
    netns: Netns,
    ingress: bool,
) -> Vec<&AttachedProgram> {
    fitting(case, |place| {
        matches!(place, ProgramPlace::TrafficControl { netns: its, ingress: way, .. }
            if *its == netns && *way == ingress)
    })
}

/// XDP programs of the devices of a namespace.
pub(super) fn of_xdp(
    case: &Case,
    netns: Netns,
    is_mode: impl Fn(&str) -> bool,
) -> Vec<&AttachedProgram> {
    fitting(
        case,
        |place| matches!(place, ProgramPlace::Xdp { netns: its, mode, .. } if *its == netns && is_mode(mode)),
    )
}

/// Programs of cgroups by their kind.
pub(super) fn of_cgroups<'a>(case: &'a Case, kinds: &[&str]) -> Vec<&'a AttachedProgram> {
    fitting(case, |place| {
        matches!(place, ProgramPlace::Cgroup { attach_type, .. }
            if kinds.contains(&attach_type.as_str()))
    })
}

/// The programs that run when a worker calls `connect()` on an address of that family.
pub(super) fn at_connect(case: &Case) -> Vec<&AttachedProgram> {
    let kind = match addresses::dialled(case) {
        None => "cgroup_unix_connect",
        Some(address) if address.is_ipv6() => "cgroup_inet6_connect",
        Some(_) => "cgroup_inet4_connect",
    };
    of_cgroups(case, &[kind])
}

/// Programs of the BPF security module that `connect()` asks.
pub(super) fn of_security(case: &Case) -> Vec<&AttachedProgram> {
    fitting(case, |place| {
        matches!(place, ProgramPlace::SecurityHook { .. })
    })
}

fn fitting(case: &Case, is_place: impl Fn(&ProgramPlace) -> bool) -> Vec<&AttachedProgram> {
    let programs = case.host.programs.iter();
    programs.filter(|it| is_place(&it.place)).collect()
}

/// A program with its place, such as `XDP program guard (id 7) on eth0`.
pub(super) fn words(program: &AttachedProgram) -> String {
    let what = match (program.id, program.name.as_str()) {
        (0, name) => name.to_owned(),
        (id, "") => format!("program without a name (id {id})"),
        (id, name) => format!("program {name} (id {id})"),
    };
    match &program.place {
        ProgramPlace::Xdp { device, mode, .. } => format!("{mode} XDP {what} on {device}"),
        ProgramPlace::TrafficControl {
            device, ingress, ..
        } => {
            let way = if *ingress { "ingress" } else { "egress" };
            format!("tc {what} on {device} {way}")
        }
        ProgramPlace::SecurityHook { hook } => {
            format!("{what} of the BPF security module at {hook}")
        }
        ProgramPlace::Cgroup {
            cgroup,
            attach_type,
        } => format!("{attach_type} {what} of the cgroup {cgroup}"),
    }
}

/// The device that it is attached to; null where to none.
pub(super) fn device(program: &AttachedProgram) -> Option<&str> {
    match &program.place {
        ProgramPlace::Xdp { device, .. } | ProgramPlace::TrafficControl { device, .. } => {
            Some(device)
        }
        ProgramPlace::Cgroup { .. } | ProgramPlace::SecurityHook { .. } => None,
    }
}

/// How to look at a program and where it is attached.
pub(super) fn command(case: &Case, program: &AttachedProgram) -> String {
    match &program.place {
        ProgramPlace::Xdp { netns, device, .. } => {
            let device = wording::shell_word(device);
            wording::in_namespace(case, *netns, &format!("ip -details link show {device}"))
        }
        ProgramPlace::TrafficControl {
            netns,
            device,
            ingress,
        } => {
            let way = if *ingress { "ingress" } else { "egress" };
            let device = wording::shell_word(device);
            let show = format!("tc -s filter show dev {device} {way}");
            let show = if program.id == 0 {
                show
            } else {
                format!("bpftool net show dev {device}")
            };
            wording::in_namespace(case, *netns, &show)
        }
        ProgramPlace::SecurityHook { .. } => "bpftool prog list".to_owned(),
        ProgramPlace::Cgroup { .. } => "bpftool cgroup tree".to_owned(),
    }
}

/// Says which programs can have done it: by name where it is one, else as a list without a claim.
pub(super) fn suspected(finding: Finding, case: &Case, programs: &[&AttachedProgram]) -> Finding {
    let named = programs.iter().take(MOST_NAMED);
    let finding = match programs {
        [] => {
            finding.missing("which program it was: none could be found attached there afterwards")
        }
        [one] => finding.because(format!("the only one attached there is {}", words(one))),
        several => finding
            .because(format!(
                "{} are attached there: {}",
                several.len(),
                named
                    .clone()
                    .map(|it| words(it))
                    .collect::<Vec<_>>()
                    .join("; ")
            ))
            .missing("which of them it was: the kernel does not tell"),
    };
    let mut commands: Vec<String> = Vec::new();
    for program in named {
        let show = Some(program.id)
            .filter(|id| *id != 0)
            .map(|id| format!("bpftool prog show id {id}"));
        for line in [Some(command(case, program)), show].into_iter().flatten() {
            if !commands.contains(&line) {
                commands.push(line);
            }
        }
    }
    commands.into_iter().fold(finding, Finding::fix)
}

/// Programs that are named in one verdict.
const MOST_NAMED: usize = 8;

/// Who rewrote the destination inside `connect()`, in words.
pub(super) fn rewriter(case: &Case) -> String {
    match at_connect(case)[..] {
        [] => "a cgroup program".to_owned(),
        [one] => format!("the {}", words(one)),
        ref several => format!(
            "a cgroup program ({})",
            several
                .iter()
                .take(MOST_NAMED)
                .map(|it| words(it))
                .collect::<Vec<_>>()
                .join(", or ")
        ),
    }
}
