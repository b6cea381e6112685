//! Every means tried, and not only the first that works.

use tracer_common::stand_in::PROGRAMS;

use super::{
    Candidate, OBSERVATIONS, Observation, Probes, ProbesError, Wishes, hook::Attached,
    tracing::Tracing,
};
use crate::btf::Btf;

/// What became of one means of an observation on this kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    pub observation: &'static Observation,
    pub candidate: Candidate,
    /// Why it could not be loaded and attached; `None` where it was.
    pub refused: Option<String>,
}

impl Probes {
    /// Loads every candidate of every observation, attaches it, and detaches all at the end.
    ///
    /// # Errors
    ///
    /// The maps cannot be created.
    pub fn try_every_candidate(btf: &Btf, wishes: Wishes) -> Result<Vec<Trial>, ProbesError> {
        let mut probes = Self::load(btf, wishes)?;
        let mut tracing = Tracing::Unread(btf);
        let candidates = OBSERVATIONS.iter().flat_map(|observation| {
            let candidates = observation.candidates.iter();
            candidates.map(move |candidate| (observation, *candidate))
        });
        let mut attached: Vec<(Candidate, Vec<Attached>)> = Vec::new();
        let mut trials = Vec::new();
        for (observation, candidate) in candidates {
            // A raw tracepoint takes a program once.
            attached.retain(|(other, _)| !share_a_program(*other, candidate));
            let refused = match probes.try_with_stand_in(candidate, btf, &mut tracing) {
                Ok(all) => {
                    attached.push((candidate, all));
                    None
                }
                Err(reason) => Some(reason),
            };
            trials.push(Trial {
                observation,
                candidate,
                refused,
            });
        }
        Ok(trials)
    }

    /// Stand-ins must load on every kernel, also where they are not needed.
    fn try_with_stand_in(
        &mut self,
        candidate: Candidate,
        btf: &Btf,
        tracing: &mut Tracing<'_>,
    ) -> Result<Vec<Attached>, String> {
        let mut attached = self.try_candidate(candidate, btf, tracing)?;
        for hook in candidate.0 {
            let first = hook.program();
            if let Some((first, stand_in)) = PROGRAMS.iter().find(|(name, _)| *name == first) {
                let behind = self.attach_stand_in(first, stand_in);
                attached.push(behind.map_err(|reason| format!("{stand_in}: {reason}"))?);
            }
        }
        Ok(attached)
    }
}

fn share_a_program(one: Candidate, other: Candidate) -> bool {
    let mut hooks = one.0.iter();
    hooks.any(|hook| other.0.iter().any(|it| it.program() == hook.program()))
}
