//! Second programs of tracepoints, for what the kernel refuses to the first.
//!
//! Why and how is told in `stand_in.rs` of the programs. They are attached where a task can be
//! preempted inside a program (7.0 and later, by the kernel's types), and cost nothing elsewhere.
//! The tracepoints of `PROGRAMS` have one; other programs have none. What both miss is a `loss` by observation, and an attempt
//! that was missed is told by its log line (`correlate/unseen.rs`).

use std::os::fd::AsFd;

use aya::{maps::PerCpuArray, programs::Program};
use tracer_common::stand_in::{COUNT, PROGRAMS};

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
                Err(reason) => log::warn!("{stand_in}: {reason}"),
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

    /// How many events the stand-in of that program took over.
    pub(super) fn taken_over(&self, first: &str) -> u64 {
        let Some(index) = PROGRAMS.iter().position(|(name, _)| *name == first) else {
            return 0;
        };
        let map = self.ebpf.map("TAKEN_OVER");
        let counts: Option<PerCpuArray<_, [u64; COUNT as usize]>> =
            map.and_then(|map| map.try_into().ok());
        counts
            .and_then(|counts| counts.get(&0, 0).ok())
            .map_or(0, |counts| counts.iter().map(|counts| counts[index]).sum())
    }
}
