//! Events that the kernel ran no program for.

use std::os::fd::{AsFd, AsRawFd};

use super::{OBSERVATIONS, Observation, Probes};
use crate::bounded;

/// Bytes of what the kernel says of a program.
const MOST_FDINFO: u64 = 4096;

/// Events that an observation has missed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The name of the observation.
    pub observation: &'static str,
    pub count: u64,
}

impl Probes {
    /// How often, since all was attached, the kernel ran no program because one was running on
    /// that processor already (`bpf_prog_inc_misses_counter`), and refused the event to the
    /// stand-in as well, by observation. 0 on kernels that do not count it.
    pub fn missed(&self) -> Vec<Missed> {
        OBSERVATIONS
            .iter()
            .map(|observation| Missed {
                observation: observation.name,
                count: self
                    .missed_by(observation)
                    .saturating_sub(self.missed_before(observation)),
            })
            .collect()
    }

    fn missed_before(&self, observation: &Observation) -> u64 {
        let before = self.missed_before.iter();
        before
            .filter(|missed| missed.observation == observation.name)
            .map(|missed| missed.count)
            .sum()
    }

    fn missed_by(&self, observation: &Observation) -> u64 {
        let candidates = observation.candidates.iter();
        candidates
            .flat_map(|candidate| candidate.0)
            .map(|hook| {
                let program = hook.program();
                match self.refused_runs(&program).unwrap_or(0) {
                    // The map is not looked at in vain (`LOSSES` of the programs says why).
                    0 => 0,
                    refused => self
                        .refused_to_both(&program)
                        .map_or(refused, |both| both.min(refused)),
                }
            })
            .sum()
    }

    /// `recursion_misses` of a program (`bpf_prog_show_fdinfo`), 0 on kernels that do not count them;
    /// `None` where it is not loaded.
    pub(super) fn refused_runs(&self, program: &str) -> Option<u64> {
        let fd = self.ebpf.program(program)?.fd().ok()?;
        let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
        let text = bounded::read(path, MOST_FDINFO).ok()?;
        let text = String::from_utf8_lossy(&text);
        Some(recursion_misses(&text).unwrap_or(0))
    }
}

fn recursion_misses(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::recursion_misses;

    #[test]
    fn refused_runs_are_read_where_the_kernel_counts_them() {
        let text = "prog_type:\t17\nrun_cnt:\t0\nrecursion_misses:\t7\nverified_insns:\t9\n";
        assert_eq!(recursion_misses(text), Some(7));
        assert_eq!(recursion_misses("prog_type:\t17\n"), None);
    }
}
