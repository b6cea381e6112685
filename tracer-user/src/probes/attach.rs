//! Loads and attaches: for each observation the first means that works.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{ProgramError, RawTracePoint, TracePoint},
};
use tracer_common::record::kind;
use zerocopy::IntoBytes;

use super::{Candidate, OBSERVATIONS, Observation, Wishes, layout, perf_event, rules::RuleProbes};
use crate::{
    btf::Btf,
    event::{ProbeReport, RefusedCandidate},
};

/// What the verifier writes of a program that it refuses: why, and no instruction. Only then
/// does aya give it room to write to, and without a level the kernel refuses that room with
/// EINVAL (`bpf_verifier_log_attr_valid`) in place of the reason.
const COMPLAINTS: VerifierLogLevel = VerifierLogLevel::STATS;

/// Why nothing can be observed.
#[derive(Debug, thiserror::Error)]
pub enum ProbesError {
    #[error("loading the eBPF maps: {0}")]
    Object(#[source] Box<aya::EbpfError>),
    #[error("the eBPF object has no map called {0}: the build is broken")]
    NoMap(&'static str),
    #[error("opening the eBPF map {0}: {1}")]
    Map(&'static str, #[source] aya::maps::MapError),
    #[error("{name} could not be observed by any means: {reasons}; `whyrefused doctor` tells more")]
    Essential { name: &'static str, reasons: String },
}

/// The attached programs and their maps. Dropping it detaches everything: nothing is pinned.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    perf_events: Vec<OwnedFd>,
    pub(super) reports: Vec<ProbeReport>,
    pub(super) rules: RuleProbes,
}

impl Probes {
    /// Creates the maps and prepares the programs for this kernel; attaches nothing yet.
    pub fn load(btf: &Btf, wishes: Wishes) -> Result<Self, ProbesError> {
        let layout = layout::resolve(btf, wishes);
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer"));
        let ebpf = loader()
            .btf(None)
            .verifier_log_level(COMPLAINTS)
            .override_global("LAYOUT", layout.as_bytes(), true)
            .load(object)
            .map_err(|error| ProbesError::Object(Box::new(error)))?;
        Ok(Self {
            ebpf,
            perf_events: Vec::new(),
            reports: Vec::new(),
            rules: RuleProbes::default(),
        })
    }

    /// Attaches every observation by the first of its means that works.
    pub fn attach(&mut self) -> Result<(), ProbesError> {
        for observation in OBSERVATIONS {
            self.attach_one(observation)?;
        }
        self.watch_rules();
        Ok(())
    }

    /// By what means each observation is made.
    pub fn reports(&self) -> &[ProbeReport] {
        &self.reports
    }

    /// Takes the ring buffer; it can be taken once.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, ProbesError> {
        let map = self
            .ebpf
            .take_map("EVENTS")
            .ok_or(ProbesError::NoMap("EVENTS"))?;
        RingBuf::try_from(map).map_err(|error| ProbesError::Map("EVENTS", error))
    }

    /// Names of the observations that nothing could be attached for.
    pub fn unavailable(&self) -> Vec<String> {
        self.reports
            .iter()
            .filter(|report| report.via.is_none())
            .map(|report| report.observation.clone())
            .collect()
    }

    /// Records that found no room so far, by kind; index 0 counts map entries.
    pub fn losses(&self) -> Result<Vec<u64>, ProbesError> {
        let map = self
            .ebpf
            .map("LOSSES")
            .ok_or(ProbesError::NoMap("LOSSES"))?;
        let losses: PerCpuArray<_, u64> =
            PerCpuArray::try_from(map).map_err(|error| ProbesError::Map("LOSSES", error))?;
        (0..u32::from(kind::COUNT))
            .map(|index| {
                let counts = losses
                    .get(&index, 0)
                    .map_err(|error| ProbesError::Map("LOSSES", error))?;
                Ok(counts.iter().sum())
            })
            .collect()
    }

    /// How often the kernel ran no program because one was running on that processor already
    /// (`bpf_prog_inc_misses_counter`). 0 on kernels that do not count it.
    pub fn misses(&self) -> u64 {
        self.ebpf
            .programs()
            .filter_map(|(_, program)| program.fd().ok())
            .filter_map(|fd| {
                let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
                std::fs::read_to_string(path).ok()
            })
            .filter_map(|text| {
                let line = text
                    .lines()
                    .find_map(|l| l.strip_prefix("recursion_misses:"))?;
                line.trim().parse::<u64>().ok()
            })
            .sum()
    }

    fn attach_one(&mut self, observation: &'static Observation) -> Result<(), ProbesError> {
        let mut report = ProbeReport {
            observation: observation.name.to_owned(),
            via: None,
            unavailable: Vec::new(),
        };
        for candidate in observation.candidates {
            match self.try_candidate(*candidate) {
                Ok(()) => {
                    report.via = Some(candidate.to_string());
                    break;
                }
                Err(reason) => report.unavailable.push(RefusedCandidate {
                    candidate: candidate.to_string(),
                    reason,
                }),
            }
        }
        let failed = report.via.is_none() && observation.essential;
        let reasons: Vec<_> = report
            .unavailable
            .iter()
            .map(|refused| format!("{}: {}", refused.candidate, refused.reason))
            .collect();
        self.reports.push(report);
        match failed {
            true => Err(ProbesError::Essential {
                name: observation.name,
                reasons: reasons.join("; "),
            }),
            false => Ok(()),
        }
    }

    pub(super) fn try_candidate(&mut self, candidate: Candidate) -> Result<(), String> {
        let program = self
            .ebpf
            .program_mut(candidate.program())
            .ok_or("the eBPF object has no such program")?;
        match candidate {
            Candidate::Raw(name) => {
                let program: &mut RawTracePoint = program.try_into().map_err(words)?;
                program.load().map_err(words)?;
                program.attach(name).map_err(words)?;
            }
            Candidate::Perf { category, name } => {
                let program: &mut TracePoint = program.try_into().map_err(words)?;
                program.load().map_err(words)?;
                let program = program.fd().map_err(words)?;
                let event = perf_event::run_at(category, name, program.as_fd())?;
                self.perf_events.push(event);
            }
        }
        Ok(())
    }
}

/// A loader that has not read the kernel's types. `EbpfLoader::new` of aya 0.14 parses all of
/// `/sys/kernel/btf/vmlinux`, for relocations that these programs do not have: tens of
/// milliseconds and megabytes. A thread whose root is an empty folder finds no such file.
fn loader() -> EbpfLoader<'static> {
    let rootless = || {
        let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
            .and_then(|()| nix::unistd::chroot("/proc/self/fdinfo"));
        EbpfLoader::new()
    };
    std::thread::scope(|scope| scope.spawn(rootless).join()).unwrap_or_default()
}

/// The innermost error is the kernel's, and the only one worth a line; behind it what the verifier
/// said last.
pub(super) fn words(error: ProgramError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        words = error.to_string();
        source = error.source();
    }
    if let ProgramError::LoadError { verifier_log, .. } = &error {
        words.extend(last_complaint(&verifier_log.to_string()).map(|line| format!(": {line}")));
    }
    words
}

/// The line that says why a program was refused: the last one before the statistics.
fn last_complaint(log: &str) -> Option<String> {
    const STATISTICS: [&str; 4] = [
        "processed ",
        "verification time",
        "stack depth",
        "peak_states",
    ];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|word| line.starts_with(word)))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::last_complaint;

    #[test]
    fn the_complaint_is_what_the_verifier_says_before_its_statistics() {
        let log = "0: (b7) r0 = 0\nR1 invalid mem access 'scalar'\nverification time 12 usec\n\
            stack depth 8\nprocessed 3 insns (limit 1000000)\n\n";
        assert_eq!(
            last_complaint(log).as_deref(),
            Some("R1 invalid mem access 'scalar'")
        );
        assert_eq!(last_complaint(""), None);
    }
}
