//! Denials that the kernel audited before the call that they ended has returned.

use std::collections::VecDeque;

use crate::case::{Denial, Ending, Fact, KernelTime, Observed};

/// Denials that are kept; the oldest go first. Other processes are denied things too.
const KEPT: usize = 256;
/// How long before the end of the call a denial was audited at most: the log is delivered by a
/// thread of its own (`kauditd_thread`).
const EARLIER: KernelTime = 1_000_000_000;

#[derive(Debug, Default)]
pub struct Denials {
    early: VecDeque<(KernelTime, Option<u32>, Denial)>,
}

impl Denials {
    pub fn keep(&mut self, at: KernelTime, pid: Option<u32>, denial: Denial) {
        if self.early.len() == KEPT {
            self.early.pop_front();
        }
        self.early.push_back((at, pid, denial));
    }

    /// What was denied to the process right before `now`.
    pub fn take(&mut self, now: KernelTime, pid: u32) -> Vec<Observed> {
        let mut taken = Vec::new();
        self.early.retain(|(at, whose, denial)| {
            let mine = whose.is_none_or(|whose| whose == pid) && at + EARLIER >= now;
            if mine {
                taken.push(Observed {
                    at: *at,
                    fact: Fact::Audited {
                        denial: denial.clone(),
                    },
                });
            }
            !mine
        });
        taken
    }
}

/// Whether a security policy can have ended an attempt so.
pub fn may_be_denied(ending: Ending) -> bool {
    matches!(
        ending,
        Ending::SocketFailed { .. }
            | Ending::BindFailed { .. }
            | Ending::ConnectFailed {
                errno: libc::EPERM | libc::EACCES,
                ..
            }
    )
}
