//! Finds out by trying: every probe is attached, and detached again.

use std::path::Path;

use nix::unistd::Uid;

use super::{Examination, Probe};
use crate::host::{audit::AuditLog, packet_filter::text};
use crate::{
    bounded,
    btf::Btf,
    event::ProbeReport,
    probes::{OBSERVATIONS, Probes, Wishes},
    requirements::{Obstacle, obstacle},
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

/// Examines this host; the kernel's types come from the file, if there is one. It attaches every
/// probe for a moment and leaves nothing behind.
pub fn examine(btf_file: Option<&Path>) -> Examination {
    let privileges = session::check_privileges();
    let root = Uid::effective().is_root();
    let btf = Btf::of(btf_file);
    let mut trial = match &btf {
        Ok(btf) if root => attach(btf),
        Ok(_) => Trial::default(),
        Err(error) => Trial::without(obstacle(error)),
    };
    if let Err(error) = privileges {
        trial.obstacle = Some(error.to_string());
    }
    let Trial {
        probes,
        mut limits,
        obstacle,
    } = trial;
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
    if root {
        let refused = AuditLog::open().err();
        limits.extend(refused.map(|error| session::unaudited(&error.to_string())));
    }
    limits.extend(wording_limit());
    Examination {
        kernel: session::kernel(),
        root,
        missing_capabilities: missing_capabilities(),
        btf: btf.is_ok(),
        btf_file: btf_file.map(|path| path.display().to_string()),
        lockdown: lockdown(),
        obstacle,
        probes,
        nginx,
        limits,
    }
}

/// What came of trying.
#[derive(Default)]
struct Trial {
    probes: Vec<Probe>,
    limits: Vec<String>,
    /// Why nothing can be observed.
    obstacle: Option<String>,
}

impl Trial {
    fn without(obstacle: Obstacle) -> Self {
        Self {
            obstacle: Some(obstacle.to_string()),
            ..Self::default()
        }
    }
}

fn attach(btf: &Btf) -> Trial {
    let wishes = Wishes {
        follow_new: true,
        fold: true,
    };
    let mut probes = match Probes::load(btf, wishes) {
        Ok(probes) => probes,
        Err(error) => return Trial::without(obstacle(&error)),
    };
    // What could not be attached stands in the reports.
    let refused = probes.attach(btf).err();
    Trial {
        probes: probes.reports().iter().cloned().map(probe).collect(),
        limits: btf
            .doubt()
            .into_iter()
            .chain(session::limits(&probes))
            .collect(),
        obstacle: refused.map(|error| obstacle(&error).to_string()),
    }
}

fn wording_limit() -> Option<String> {
    let tools = text::missing_tools();
    (!tools.is_empty()).then(|| {
        format!(
            "rules of the packet filter are worded by this program where its own tool is missing: {}",
            tools.join(", ")
        )
    })
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
