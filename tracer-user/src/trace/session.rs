//! What stands around the failures: the conditions of a trace, its beginning and its losses.

use std::os::unix::fs::MetadataExt;

use nix::unistd::{Uid, gethostname};

use super::{audit::Audit, icmp::IcmpSockets};
use crate::{
    case::Coverage,
    clock,
    event::{Loss, Lost, SCHEMA, Session},
    host::sockets,
    probes::{BOUND_SOCKETS, OBSERVATIONS, Probes},
    report,
    survey::Survey,
};

/// ICMP errors are not observed by a probe but by sockets.
const ICMP_RECEIVED: &str = "icmp-received";
const AUDIT_LOG: &str = "audit-log";

/// Only root may look into the kernel and into other users' processes.
pub fn check_privileges() -> anyhow::Result<()> {
    if !Uid::effective().is_root() {
        anyhow::bail!(
            "this needs root, to attach to the kernel and to see every process: run it with sudo"
        );
    }
    if !in_first_pid_namespace() {
        anyhow::bail!(
            "this runs in a pid namespace of its own and would take other processes for nginx: \
             run it on the host, or in a container with the host's pid namespace (--pid=host)"
        );
    }
    Ok(())
}

/// What `--pid` names must be there to be watched.
pub fn check_pids(pids: &[u32], survey: &Survey) -> anyhow::Result<()> {
    if pids.is_empty() || !survey.observed().is_empty() {
        return Ok(());
    }
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    anyhow::bail!(
        "no nginx master or worker has the pid {}; `whyrefused doctor` lists those that run",
        pids.join(" or ")
    )
}

/// The kernel numbers processes as the first pid namespace does, and so must we
/// (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
pub fn in_first_pid_namespace() -> bool {
    const FIRST: u64 = 0xefff_fffc;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST)
}

/// The host's name, as events carry it.
pub fn host_name() -> String {
    gethostname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The kernel's release.
pub fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

/// What this host cannot show, in words.
pub fn limits(probes: &Probes) -> Vec<String> {
    probes
        .reports()
        .iter()
        .zip(OBSERVATIONS)
        .filter(|(report, _)| report.via.is_none())
        .map(|(_, observation)| observation)
        .chain(lists_no_bound_sockets(probes).then_some(&BOUND_SOCKETS))
        .map(|observation| (observation.name, observation.cost))
        .chain(probes.weaknesses())
        .map(|(name, cost)| format!("{name}: {cost}"))
        .collect()
}

/// Neither by a program nor by `sock_diag`.
fn lists_no_bound_sockets(probes: &Probes) -> bool {
    probes.open_files().is_none() && !sockets::bound_are_listed()
}

/// Names of the observations that are not made, for the verdicts that they weaken.
pub fn unavailable(probes: &Probes, icmp: &IcmpSockets, audit: &Audit) -> Vec<String> {
    let audit_log = audit.refused.as_ref().map(|_| AUDIT_LOG.to_owned());
    let icmp_received = (!icmp.refused.is_empty()).then(|| ICMP_RECEIVED.to_owned());
    probes
        .unavailable()
        .into_iter()
        .chain(icmp_received)
        .chain(audit_log)
        .collect()
}

/// The event that says that failures are told from now on.
pub fn event(
    probes: &Probes,
    survey: &Survey,
    icmp: &IcmpSockets,
    audit: &Audit,
    doubt: Option<String>,
    host: &str,
) -> Session {
    let unaudited = audit.refused.iter().map(|reason| {
        format!("{AUDIT_LOG}: which security module denied a call is inferred: {reason}")
    });
    let refused = icmp.refused.iter().map(|(netns, reason)| {
        format!("ICMP errors that arrive in network namespace {netns} are not seen: {reason}")
    });
    let coverage = Coverage {
        wall_offset_ns: clock::wall_offset(),
        ..Coverage::default()
    };
    Session {
        schema: SCHEMA.to_owned(),
        time: report::time_text(clock::monotonic(), &coverage),
        host: host.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel(),
        probes: probes.reports().to_vec(),
        nginx: survey.instances(),
        limits: doubt
            .into_iter()
            .chain(limits(probes))
            .chain(survey.limits.iter().cloned())
            .chain(refused)
            .chain(unaudited)
            .collect(),
    }
}

/// The event about a loss.
pub fn loss(lost: Lost, coverage: &Coverage, host: &str) -> Loss {
    Loss {
        schema: SCHEMA.to_owned(),
        time: report::time_text(clock::monotonic(), coverage),
        host: host.to_owned(),
        place: lost.place,
        what: lost.what,
        count: lost.count,
    }
}
