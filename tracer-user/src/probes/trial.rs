//! Every means tried, and not only the first that works.

use super::{
    BOUND_SOCKETS, Candidate, OBSERVATIONS, Observation, Probes, ProbesError, Wishes,
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
        let observations = OBSERVATIONS.iter().chain([&BOUND_SOCKETS]);
        let candidates = observations.flat_map(|observation| {
            let candidates = observation.candidates.iter();
            candidates.map(move |candidate| (observation, *candidate))
        });
        let mut attached = Vec::new();
        let mut trials = Vec::new();
        for (observation, candidate) in candidates {
            let refused = match probes.try_candidate(candidate, btf, &mut tracing) {
                Ok(all) => {
                    attached.push(all);
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
}
