//! Every means tried, and not only the first that works.

use tracer_common::stand_in::PROGRAMS;

use super::{Candidate, OBSERVATIONS, Observation, Probes, ProbesError, Wishes};
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
        let candidates = OBSERVATIONS.iter().flat_map(|observation| {
            let candidates = observation.candidates.iter();
            candidates.map(move |candidate| (observation, *candidate))
        });
        Ok(candidates
            .map(|(observation, candidate)| Trial {
                observation,
                candidate,
                refused: probes.try_with_stand_in(candidate).err(),
            })
            .collect())
    }

    /// Stand-ins must load on every kernel, also where they are not needed.
    fn try_with_stand_in(&mut self, candidate: Candidate) -> Result<(), String> {
        self.try_candidate(candidate)?;
        let first = candidate.program();
        match PROGRAMS.iter().find(|(name, _)| *name == first) {
            Some((_, stand_in)) => self
                .attach_stand_in(first, stand_in)
                .map_err(|reason| format!("{stand_in}: {reason}")),
            None => Ok(()),
        }
    }
}
