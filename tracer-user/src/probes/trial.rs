//! Every means tried, and not only the first that works.

use super::{Candidate, OBSERVATIONS, Observation, Probes};

/// What became of one means of an observation on this kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    pub observation: &'static Observation,
    pub candidate: Candidate,
    /// Why it could not be loaded and attached; `None` where it was.
    pub refused: Option<String>,
}

impl Probes {
    /// Loads and attaches every candidate of every observation. What attaches stays so until
    /// this is dropped: several means of one observation tell their facts twice, so that nothing
    /// can be traced with it.
    pub fn try_every_candidate(mut self) -> Vec<Trial> {
        let candidates = OBSERVATIONS.iter().flat_map(|observation| {
            let candidates = observation.candidates.iter();
            candidates.map(move |candidate| (observation, *candidate))
        });
        candidates
            .map(|(observation, candidate)| Trial {
                observation,
                candidate,
                refused: self.try_candidate(candidate).err(),
            })
            .collect()
    }
}
