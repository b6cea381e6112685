//! Loads and attaches: for each observation the first means that works.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd},
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, PerCpuArray, RingBuf},
};
use tracer_common::record::kind;
use zerocopy::IntoBytes;

use super::{
    BOUND_SOCKETS, Candidate, Hook, OBSERVATIONS, Observation, Wishes, calls,
    hook::{self, Attached},
    layout,
    tracing::Tracing,
};
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
    /// By the name of the observation.
    pub(super) attached: HashMap<&'static str, Vec<Attached>>,
    pub(super) reports: Vec<ProbeReport>,
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
            attached: HashMap::new(),
            reports: Vec::new(),
        })
    }

    /// Attaches every observation by the first of its means that works.
    pub fn attach(&mut self, btf: &Btf) -> Result<(), ProbesError> {
        let mut tracing = Tracing::Unread(btf);
        for observation in OBSERVATIONS {
            self.attach_one(observation, btf, &mut tracing)?;
        }
        for candidate in BOUND_SOCKETS.candidates {
            // That it was loaded is all: it is attached for each look.
            let _ = self.try_candidate(*candidate, btf, &mut tracing);
        }
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

    fn attach_one(
        &mut self,
        observation: &'static Observation,
        btf: &Btf,
        tracing: &mut Tracing<'_>,
    ) -> Result<(), ProbesError> {
        let mut report = ProbeReport {
            observation: observation.name.to_owned(),
            via: None,
            unavailable: Vec::new(),
        };
        for candidate in observation.candidates {
            match self.try_candidate(*candidate, btf, tracing) {
                Ok(attached) => {
                    self.attached.insert(observation.name, attached);
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

    /// Attaches all of the candidate, or nothing.
    pub(super) fn try_candidate(
        &mut self,
        candidate: Candidate,
        btf: &Btf,
        tracing: &mut Tracing<'_>,
    ) -> Result<Vec<Attached>, String> {
        let mut attached = Vec::new();
        for hook in candidate.0 {
            if let Hook::RawWith { name, argument } = hook
                && !layout::has_argument(btf, name, argument)
            {
                return Err(format!("it has no argument of type {argument}"));
            }
            attached.push(hook::attach(&mut self.ebpf, *hook, tracing)?);
        }
        if let Some(call) = candidate.0.iter().find_map(|hook| calls::of(*hook)) {
            self.hears(call)?;
        }
        Ok(attached)
    }
}

/// A loader that has not read the kernel's types. `EbpfLoader::new` of aya 0.14 parses all of
/// `/sys/kernel/btf/vmlinux`, for relocations that these programs do not have: tens of
/// milliseconds and megabytes. A thread whose root is an empty folder finds no such file.
fn loader() -> EbpfLoader<'static> {
    rootless(EbpfLoader::new).unwrap_or_default()
}

/// Runs `work` on a thread whose root is an empty folder; `None` where it panics.
pub(super) fn rootless<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    let rootless = || {
        let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
            .and_then(|()| nix::unistd::chroot("/proc/self/fdinfo"));
        work()
    };
    std::thread::scope(|scope| scope.spawn(rootless).join()).ok()
}
