//! Loads and attaches: for each observation the first means that works.

use std::collections::HashMap;

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
    misses::Missed,
    observations::{Weakness, weakness_of},
    rules::{self, RuleProbes},
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

/// Why a program at a function behind a system call does not do.
const WITHOUT_STAND_IN: &str =
    "this kernel preempts tasks inside of programs, and this one has no stand-in meanwhile";

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
    preemptible: bool,
    /// What was missed before all was attached: the host is looked at only then.
    pub(super) missed_before: Vec<Missed>,
    /// Of the means in use, by the name of the observation.
    weaknesses: Vec<(&'static str, Weakness)>,
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
            attached: HashMap::new(),
            preemptible: layout.preemptible == 1,
            reports: Vec::new(),
            weaknesses: Vec::new(),
            missed_before: Vec::new(),
            rules: RuleProbes::default(),
        })
    }

    /// Attaches every observation by the first of its means that works.
    pub fn attach(&mut self, btf: &Btf) -> Result<(), ProbesError> {
        let mut tracing = Tracing::Unread(btf);
        for observation in OBSERVATIONS {
            self.attach_one(observation, btf, &mut tracing)?;
        }
        self.watch_rules(btf);
        for candidate in BOUND_SOCKETS.candidates {
            // That it was loaded is all: it is attached for each look.
            let _ = self.try_candidate(*candidate, btf, &mut tracing);
        }
        self.missed_before = self.missed();
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

    /// Names of the observations that are not made, or whose silence proves nothing.
    pub fn unavailable(&self) -> Vec<String> {
        let missing = self
            .reports
            .iter()
            .filter(|report| report.via.is_none())
            .map(|report| report.observation.clone());
        let lacking = self.weaknesses.iter().filter_map(|(_, it)| it.lacks);
        missing.chain(lacking.map(str::to_owned)).collect()
    }

    /// The silence of that observation proves nothing.
    pub(super) fn become_blind(&mut self, observation: &'static str) {
        for (name, weakness) in &mut self.weaknesses {
            if *name == observation {
                weakness.lacks = Some(observation);
            }
        }
    }

    /// What the means in use cannot tell: the name of the observation, and words.
    pub fn weaknesses(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.weaknesses.iter().map(|(name, it)| (*name, it.cost))
    }

    /// Records that found no room so far, by kind; index 0 counts map entries.
    pub fn losses(&self) -> Result<Vec<u64>, ProbesError> {
        let map = self
            .ebpf
            .map("LOSSES")
            .ok_or(ProbesError::NoMap("LOSSES"))?;
        let losses: PerCpuArray<_, [u64; kind::COUNT as usize]> =
            PerCpuArray::try_from(map).map_err(|error| ProbesError::Map("LOSSES", error))?;
        let counts = losses
            .get(&0, 0)
            .map_err(|error| ProbesError::Map("LOSSES", error))?;
        Ok((0..usize::from(kind::COUNT))
            .map(|index| counts.iter().map(|counts| counts[index]).sum())
            .collect())
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
        // Those of rules are attached each at its time.
        let at_once = observation.candidates.iter();
        for candidate in at_once.filter(|_| observation.name != rules::OBSERVATION) {
            match self.fitting(*candidate, btf, tracing) {
                Ok(attached) => {
                    self.attached.insert(observation.name, attached);
                    if self.preemptible {
                        self.attach_stand_ins(observation.name, *candidate);
                    }
                    report.via = Some(candidate.to_string());
                    let weakness = weakness_of(*candidate);
                    self.weaknesses
                        .extend(weakness.map(|weakness| (observation.name, weakness)));
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

    /// Attaches the candidate where it is as good as those behind it.
    fn fitting(
        &mut self,
        candidate: Candidate,
        btf: &Btf,
        tracing: &mut Tracing<'_>,
    ) -> Result<Vec<Attached>, String> {
        let at_a_call = candidate.0.iter().any(|hook| calls::of(*hook).is_some());
        if self.preemptible && at_a_call {
            return Err(WITHOUT_STAND_IN.to_owned());
        }
        self.try_candidate(candidate, btf, tracing)
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
/// `/sys/kernel/btf/vmlinux`, for relocations that these programs do not have, which takes
/// long and megabytes. A thread whose root is an empty folder finds no such file.
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
