//! Denials that the kernel audited before the call that they ended has returned.

use std::collections::VecDeque;

use crate::case::{Attempt, Denial, Ending, Fact, KernelTime, Observed};

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

    /// What was denied to the process right before `now` and can have ended the attempt, of which
    /// `timeline` is known.
    pub fn take(
        &mut self,
        now: KernelTime,
        pid: u32,
        attempt: &Attempt,
        timeline: &[Observed],
    ) -> Vec<Observed> {
        let mut taken: Vec<Observed> = Vec::new();
        self.early.retain(|(at, whose, denial)| {
            let mine = whose.is_none_or(|whose| whose == pid)
                && at + EARLIER >= now
                && denial.is_about(attempt, timeline)
                && !taken.iter().any(is_enforced);
            if mine {
                let denial = denial.clone();
                let fact = Fact::Audited { denial };
                taken.push(Observed { at: *at, fact });
            }
            !mine
        });
        taken
    }
}

/// Whether it tells of the denial that ended the call: what was only logged did not.
pub fn is_enforced(observed: &Observed) -> bool {
    matches!(&observed.fact, Fact::Audited { denial } if !denial.permissive)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Module;
    use crate::diagnose::example::case;

    const PID: u32 = 42;

    fn denial(port: u16, permissive: bool) -> Denial {
        Denial {
            module: Module::Selinux,
            request: Some("name_connect".to_owned()),
            subject: None,
            object: None,
            class: Some("tcp_socket".to_owned()),
            permissive,
            text: format!("avc:  denied  {{ name_connect }} for  pid={PID} dest={port}"),
        }
    }

    fn attempt(address: &str) -> Attempt {
        let ending = Ending::ConnectFailed {
            errno: libc::EACCES,
            reached_syn_sent: false,
        };
        case(address, ending).attempt
    }

    #[test]
    fn each_of_two_attempts_gets_its_own_denial() {
        let mut denials = Denials::default();
        for (at, port) in [(1, 9101), (2, 9102), (3, 9102)] {
            denials.keep(at, Some(PID), denial(port, false));
        }
        let mut taken = |address: &str| -> Vec<KernelTime> {
            let taken = denials.take(10, PID, &attempt(address), &[]);
            taken.iter().map(|observed| observed.at).collect()
        };
        assert_eq!(taken("127.0.0.1:9102"), [2]);
        assert_eq!(taken("127.0.0.1:9101"), [1]);
        assert_eq!(taken("127.0.0.1:9102"), [3]);
        assert_eq!(taken("127.0.0.1:9102"), [] as [KernelTime; 0]);
    }

    #[test]
    fn what_was_only_logged_leaves_room_for_the_denial() {
        let mut denials = Denials::default();
        denials.keep(1, Some(PID), denial(9101, true));
        denials.keep(2, Some(PID), denial(9101, false));
        let taken = denials.take(10, PID, &attempt("127.0.0.1:9101"), &[]);
        assert_eq!(taken.len(), 2);
    }
}
