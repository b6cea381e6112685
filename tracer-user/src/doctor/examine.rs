//! Finds out by trying: every probe is attached, and detached again.

use nix::unistd::Uid;

use super::{Examination, Probe};
use crate::host::packet_filter::text;
use crate::{
    bounded,
    btf::Btf,
    event::{ProbeReport, RefusedCandidate},
    probes::{OBSERVATIONS, Probes, Wishes},
    survey::Survey,
    trace::session,
};

/// The capabilities that a trace uses, with their bits (linux/capability.h). `CAP_BPF` and
/// `CAP_PERFMON` are parts of `CAP_SYS_ADMIN`, which network namespaces need besides.
const CAPABILITIES: [(&str, u32); 6] = [
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYSLOG", 34),
];
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Examines this host. It attaches every probe for a moment and leaves nothing behind.
pub fn examine() -> Examination {
    let root = Uid::effective().is_root();
    let btf = Btf::of_running_kernel();
    let (probes, mut limits) = match &btf {
        Ok(btf) => attach(btf),
        Err(error) => (unattached(&error.to_string()), vec![error.to_string()]),
    };
    if !session::in_first_pid_namespace() {
        limits.push(
            "this is a pid namespace of its own: a trace must run in the host's (--pid=host)"
                .to_owned(),
        );
    }
    let nginx = match Survey::new(Vec::new()) {
        Ok(survey) => {
            limits.extend(survey.limits.iter().cloned());
            survey.instances()
        }
        Err(error) => {
            limits.push(format!("processes cannot be listed: {error}"));
            Vec::new()
        }
    };
    let tools = text::missing_tools();
    if !tools.is_empty() {
        limits.push(format!(
            "rules of the packet filter are worded by this program where its own tool is missing: {}",
            tools.join(", ")
        ));
    }
    Examination {
        kernel: session::kernel(),
        root,
        missing_capabilities: missing_capabilities(),
        btf: btf.is_ok(),
        lockdown: lockdown(),
        probes,
        nginx,
        limits,
    }
}

fn attach(btf: &Btf) -> (Vec<Probe>, Vec<String>) {
    let mut probes = match Probes::load(
        btf,
        Wishes {
            follow_new: true,
            fold: true,
        },
    ) {
        Ok(probes) => probes,
        Err(error) => return (unattached(&error.to_string()), vec![error.to_string()]),
    };
    // What could not be attached stands in the reports.
    let refused = probes.attach(btf).err();
    let mut reports: Vec<Probe> = probes.reports().iter().cloned().map(probe).collect();
    if let Some(error) = refused {
        let rest = unattached(&error.to_string());
        reports.extend(rest.into_iter().skip(reports.len()));
    }
    let limits = session::limits(&probes);
    (reports, limits)
}

fn unattached(reason: &str) -> Vec<Probe> {
    OBSERVATIONS
        .iter()
        .map(|observation| {
            let refused = observation
                .candidates
                .iter()
                .map(|candidate| RefusedCandidate {
                    candidate: candidate.to_string(),
                    reason: reason.to_owned(),
                });
            probe(ProbeReport {
                observation: observation.name.to_owned(),
                via: None,
                unavailable: refused.collect(),
            })
        })
        .collect()
}

fn probe(report: ProbeReport) -> Probe {
    let observation = OBSERVATIONS
        .iter()
        .find(|observation| observation.name == report.observation);
    Probe {
        core: observation.is_some_and(|observation| observation.essential),
        cost: observation.map_or_else(String::new, |observation| observation.cost.to_owned()),
        report,
    }
}

fn missing_capabilities() -> Vec<String> {
    let status = bounded::read("/proc/self/status", 64 << 10).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0);
    CAPABILITIES
        .into_iter()
        .filter(|(_, bit)| held >> bit & 1 == 0)
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The mode in brackets, such as `integrity` in `none [integrity] confidentiality`.
fn lockdown() -> Option<String> {
    let text = String::from_utf8(bounded::read(LOCKDOWN, 256).ok()?).ok()?;
    let (_, rest) = text.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    Some(mode.to_owned())
}
