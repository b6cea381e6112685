//! How the tasks that held listening sockets died.

use std::collections::{HashMap, VecDeque};

use crate::{
    case::{Death, KernelTime, Sender},
    evidence::Thread,
};

/// So many processes are remembered of each kind.
const REMEMBERED: usize = 4096;

/// What is this much older than an event, in nanoseconds, is about an earlier process of that pid.
const RECENT: KernelTime = 10_000_000_000;

/// Remembers fatal signals, OOM victims and exits, and tells from them how a task died.
#[derive(Debug, Default)]
pub struct Deaths {
    signals: Recent<(i32, Thread)>,
    victims: Recent<()>,
    exits: Recent<u32>,
}

impl Deaths {
    /// A signal that may be fatal was sent to `target`.
    pub fn signalled(&mut self, target: u32, signal: i32, sender: Thread, at: KernelTime) {
        // The kernel itself kills the threads of a dying process in the name of the first one.
        let own = sender.pid == target;
        if !own || self.signals.near(target, at).is_none() {
            self.signals.insert(target, (signal, sender), at);
        }
    }

    /// The OOM killer chose `pid`.
    pub fn chosen_by_oom(&mut self, pid: u32, at: KernelTime) {
        self.victims.insert(pid, (), at);
    }

    /// `pid` ended with an exit code as `wait()` encodes it.
    pub fn exited(&mut self, pid: u32, exit_code: u32, at: KernelTime) {
        self.exits.insert(pid, exit_code, at);
    }

    /// Forgets what befell earlier processes of `pid`, which is seen alive at `at`.
    pub fn forget(&mut self, pid: u32, at: KernelTime) {
        self.signals.forget(pid, at);
        self.victims.forget(pid, at);
        self.exits.forget(pid, at);
    }

    /// How the listener of `pid` ended at `at`, where the task that closed it was dying with that
    /// code; without a code the process closed it and lived on, unless it is known to have ended
    /// about then.
    pub fn of(&self, pid: u32, dying: Option<u32>, at: KernelTime) -> Death {
        let ended = || self.exits.near(pid, at).map(|(_, exit_code)| *exit_code);
        match dying.or_else(ended) {
            Some(exit_code) => self.by_exit_code(pid, exit_code, at),
            None => Death::Closed,
        }
    }

    /// When the signal was sent that ended `pid` with this code at `at`; null where it exited by
    /// itself and where no such signal was seen.
    pub fn fatal_signal(&self, pid: u32, exit_code: u32, at: KernelTime) -> Option<KernelTime> {
        let signal = signal(exit_code)?;
        let sent = self
            .signals
            .near(pid, at)
            .filter(|(_, (sent, _))| *sent == signal)
            .map(|(sent, _)| sent);
        sent.or_else(|| self.victims.near(pid, at).map(|(chosen, ())| chosen))
    }

    fn by_exit_code(&self, pid: u32, exit_code: u32, at: KernelTime) -> Death {
        let Some(signal) = signal(exit_code) else {
            return Death::Exited {
                status: (exit_code >> 8 & 0xff) as i32,
            };
        };
        if signal == libc::SIGKILL && self.victims.near(pid, at).is_some() {
            return Death::OomKilled;
        }
        let sender = self
            .signals
            .near(pid, at)
            .filter(|(_, (sent, sender))| *sent == signal && sender.pid != pid && sender.pid != 0)
            .map(|(_, (_, sender))| Sender {
                pid: sender.pid,
                comm: sender.comm.clone(),
            });
        Death::Killed {
            signal,
            core: exit_code & 0x80 != 0,
            sender,
        }
    }
}

/// The signal in an exit code as `wait()` encodes it; null for an exit.
fn signal(exit_code: u32) -> Option<i32> {
    Some((exit_code & 0x7f) as i32).filter(|signal| *signal != 0)
}

/// The newest entries by process; a pid that comes again replaces the old one.
#[derive(Debug)]
struct Recent<T> {
    entries: HashMap<u32, (KernelTime, T)>,
    order: VecDeque<(KernelTime, u32)>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Recent<T> {
    fn insert(&mut self, pid: u32, value: T, at: KernelTime) {
        self.entries.insert(pid, (at, value));
        self.order.push_back((at, pid));
        while self.order.len() > REMEMBERED {
            if let Some((at, pid)) = self.order.pop_front()
                && self.entries.get(&pid).is_some_and(|entry| entry.0 == at)
            {
                self.entries.remove(&pid);
            }
        }
    }

    /// What befell `pid` about `at`, and when.
    fn near(&self, pid: u32, at: KernelTime) -> Option<(KernelTime, &T)> {
        self.entries
            .get(&pid)
            .filter(|entry| entry.0.abs_diff(at) < RECENT)
            .map(|entry| (entry.0, &entry.1))
    }

    fn forget(&mut self, pid: u32, at: KernelTime) {
        if self.entries.get(&pid).is_some_and(|entry| entry.0 < at) {
            self.entries.remove(&pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(pid: u32, comm: &str) -> Thread {
        Thread {
            pid,
            tid: pid,
            comm: comm.to_owned(),
        }
    }

    #[test]
    fn a_status_is_told_from_a_signal() {
        let deaths = Deaths::default();
        assert_eq!(deaths.of(7, Some(3 << 8), 5), Death::Exited { status: 3 });
        assert_eq!(
            deaths.of(7, Some(11 | 0x80), 5),
            Death::Killed {
                signal: 11,
                core: true,
                sender: None
            }
        );
    }

    #[test]
    fn the_sender_of_the_signal_that_killed_is_named() {
        let mut deaths = Deaths::default();
        deaths.signalled(7, 9, thread(3, "bash"), 1);
        let Death::Killed { sender, .. } = deaths.of(7, Some(9), 5) else {
            panic!("killed");
        };
        assert_eq!(
            sender,
            Some(Sender {
                pid: 3,
                comm: "bash".to_owned()
            })
        );
    }

    #[test]
    fn only_the_victim_of_the_oom_killer_is_oom_killed() {
        let mut deaths = Deaths::default();
        deaths.chosen_by_oom(7, 1);
        assert_eq!(deaths.of(7, Some(9), 5), Death::OomKilled);
        assert_ne!(deaths.of(8, Some(9), 5), Death::OomKilled);
        assert_eq!(deaths.of(7, Some(0), 5), Death::Exited { status: 0 });
    }

    #[test]
    fn a_close_by_a_process_that_ended_meanwhile_is_its_end() {
        let mut deaths = Deaths::default();
        assert_eq!(deaths.of(7, None, 5), Death::Closed);
        deaths.exited(7, 0, 5);
        assert_eq!(deaths.of(7, None, 5), Death::Exited { status: 0 });
    }

    #[test]
    fn an_earlier_process_of_the_same_pid_has_no_say() {
        let mut deaths = Deaths::default();
        deaths.exited(7, 9, 5);
        deaths.chosen_by_oom(7, 5);
        deaths.signalled(7, 9, thread(3, "bash"), 5);
        assert_eq!(deaths.of(7, None, 5 + RECENT - 1), Death::OomKilled);
        assert_eq!(deaths.of(7, None, 5 + RECENT), Death::Closed);
        let unseen = Death::Killed {
            signal: 9,
            core: false,
            sender: None,
        };
        assert_eq!(deaths.of(7, Some(9), 5 + RECENT), unseen);
        deaths.forget(7, 5);
        assert_eq!(deaths.of(7, None, 6), Death::OomKilled);
        deaths.forget(7, 6);
        assert_eq!(deaths.of(7, None, 7), Death::Closed);
        assert_eq!(deaths.of(7, Some(9), 7), unseen);
    }

    #[test]
    fn the_time_is_that_of_the_signal_that_ended_the_process() {
        let mut deaths = Deaths::default();
        deaths.signalled(7, 15, thread(1, "systemd"), 3);
        assert_eq!(deaths.fatal_signal(7, 15, 6), Some(3));
        assert_eq!(deaths.fatal_signal(7, 9, 6), None);
        assert_eq!(deaths.fatal_signal(7, 0, 6), None);
        deaths.chosen_by_oom(7, 4);
        assert_eq!(deaths.fatal_signal(7, 9, 6), Some(4));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut deaths = Deaths::default();
        for pid in 0..3 * REMEMBERED as u32 {
            deaths.exited(pid, 0, u64::from(pid));
        }
        assert_eq!(deaths.exits.entries.len(), REMEMBERED);
    }
}
