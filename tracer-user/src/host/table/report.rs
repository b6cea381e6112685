//! The kernel's reports of listeners, and what can be said of the processes behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::case::{Death, KernelTime, Netns, Process};
use crate::host::owners;

/// The kernel's report that a socket began to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeganListening {
    pub netns: Netns,
    /// Zero where it could not be read.
    pub inode: u64,
    /// The address of the kernel's socket.
    pub sk: u64,
    pub address: SocketAddr,
    pub v6only: bool,
    /// The interface it is bound to, by name.
    pub device: Option<String>,
    pub pid: u32,
    pub comm: String,
    pub at: KernelTime,
}

/// The kernel's report that a socket ended to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedListening {
    pub netns: Netns,
    /// Zero where it could not be read.
    pub inode: u64,
    pub sk: u64,
    pub address: SocketAddr,
    pub at: KernelTime,
    pub death: Death,
    /// The process in whose context it ended: of all that held the socket, the last.
    pub pid: u32,
    pub comm: String,
}

/// The process that ended the socket first, the others behind it.
pub(super) fn owners_at_the_end(report: &EndedListening, known: &[Arc<Process>]) -> Vec<Process> {
    let mut owners = vec![described(report.pid, &report.comm, known)];
    owners.extend(
        known
            .iter()
            .filter(|process| process.pid != report.pid)
            .map(|process| (**process).clone()),
    );
    owners
}

/// A process as it is known, as it is, or, where it has ended unseen, as what its kernel name and
/// its fellow owners tell: who inherits a socket mostly runs in the same unit and container.
pub(super) fn described(pid: u32, comm: &str, fellows: &[Arc<Process>]) -> Process {
    if let Some(known) = fellows.iter().find(|process| process.pid == pid) {
        return (**known).clone();
    }
    if let Some(process) = owners::describe(pid) {
        return process;
    }
    let namesake = fellows.iter().find(|process| process.comm == comm);
    let fellow = namesake.or_else(|| fellows.first());
    Process {
        pid,
        comm: comm.to_owned(),
        exe: namesake.and_then(|process| process.exe.clone()),
        unit: fellow.and_then(|process| process.unit.clone()),
        container: fellow.and_then(|process| process.container.clone()),
        nginx: namesake.is_some_and(|process| process.nginx),
    }
}
