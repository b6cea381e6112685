//! The program that runs over every open file of the host when somebody reads it.

use std::borrow::Cow;

use aya::programs::{Iter, Program};

use super::{Candidate, Hook, Observation, Probes};

const FILES: Hook = Hook::Iterator("task_file");

/// No observation that is always made: it is asked for where `sock_diag` lists no such sockets.
pub const BOUND_SOCKETS: Observation = Observation {
    name: "bound-sockets",
    cost: "a port that is bound but not listened on is not told from one that nobody has",
    essential: false,
    candidates: &[Candidate(&[FILES])],
};

impl Probes {
    /// A handle of its own on the program that tells of bound sockets among all open files;
    /// `None` where the kernel did not take it.
    pub fn open_files(&self) -> Option<Iter> {
        match self.ebpf.program(&FILES.program())? {
            Program::Iter(program) => {
                let info = program.info().ok()?;
                Iter::from_program_info(info, Cow::Borrowed(BOUND_SOCKETS.name)).ok()
            }
            _ => None,
        }
    }
}
