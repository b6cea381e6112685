//! Second programs of tracepoints, for what the kernel refuses to the first.
//!
//! Why and how is told in `stand_in.rs` of the programs. They are attached where a task can be
//! preempted inside a program (7.0 and later, by the kernel's types), and cost nothing elsewhere.
//! The tracepoints of `PROGRAMS` have one; other programs have none. What both miss is a `loss` by observation, and an attempt
//! that was missed is told by its log line (`correlate/unseen.rs`).

use std::os::fd::AsFd;

use aya::{maps::PerCpuArray, programs::Program};
use tracer_common::stand_in::{PROGRAMS, turn};

use super::{
    Candidate, Probes,
    hook::{Attached, words},
    perf_event,
};

impl Probes {
    /// Attaches the stand-in of each program that is attached, where there is one. Without it the
    /// observation misses more, which is told; so a refusal is a warning.
    pub(super) fn attach_stand_ins(&mut self, observation: &'static str, candidate: Candidate) {
        for hook in candidate.0 {
            let first = hook.program();
            let Some((first, stand_in)) = PROGRAMS.iter().find(|(name, _)| *name == first) else {
                continue;
            };
            match self.attach_stand_in(first, stand_in) {
                Ok(attached) => self.attached.entry(observation).or_default().push(attached),
                Err(reason) => {
                    log::warn!("{stand_in}: {reason}");
                    self.unload(stand_in);
                }
            }
        }
    }

    /// Loads a stand-in and attaches it behind the first program.
    pub(super) fn attach_stand_in(
        &mut self,
        first: &str,
        stand_in: &str,
    ) -> Result<Attached, String> {
        let program = self
            .ebpf
            .program_mut(stand_in)
            .ok_or("the eBPF object has no such program")?;
        match program {
            Program::RawTracePoint(program) => {
                if program.fd().is_err() {
                    program.load().map_err(words)?;
                }
                let link = program.attach(first).map_err(words)?;
                Ok(Attached::Raw(program.take_link(link).map_err(words)?))
            }
            Program::TracePoint(program) => {
                if program.fd().is_err() {
                    program.load().map_err(words)?;
                }
                let program = program.fd().map_err(words)?;
                let event = perf_event::run_at("syscalls", first, program.as_fd())?;
                Ok(Attached::Perf(event))
            }
            _ => Err("it is of no kind that has stand-ins".to_owned()),
        }
    }

    /// What is loaded is attached.
    fn unload(&mut self, stand_in: &str) {
        // Fails where it is not loaded.
        let _ = match self.ebpf.program_mut(stand_in) {
            Some(Program::RawTracePoint(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            _ => Ok(()),
        };
    }

    /// How many events the kernel refused both to that program and to its stand-in; `None` where no
    /// stand-in is attached.
    pub(super) fn refused_to_both(&self, first: &str) -> Option<u64> {
        let index = PROGRAMS.iter().position(|(name, _)| *name == first)?;
        let refused = self.refused_runs(PROGRAMS[index].1)?;
        if refused == 0 {
            return Some(0);
        }
        let map = self.ebpf.map("TURNS");
        let turns: Option<PerCpuArray<_, [u64; turn::COUNT]>> =
            map.and_then(|map| map.try_into().ok());
        // Read later: what was spared was refused before.
        let spared: u64 = turns
            .and_then(|turns| turns.get(&u32::try_from(index).ok()?, 0).ok())
            .map_or(0, |turns| turns.iter().map(turn::spared).sum());
        Some(refused.saturating_sub(spared))
    }
}
