//! Who has bound the port without listening on it.

use std::time::Duration;

use super::{Gathered, OWNERS_BUDGET};
use crate::case::{Attempt, Ending};
use crate::host::open_files::OpenFiles;
use crate::host::sockets;
use crate::host::visit::Visit;

/// How long a look through the open files of all processes may take.
const FILES_BUDGET: Duration = Duration::from_millis(200);

impl Gathered {
    /// Asks `sock_diag`, and where the kernel does not list such sockets the open files, if these
    /// can be looked at.
    pub(super) fn bound_to(
        &mut self,
        visit: &mut Visit,
        port: u16,
        attempt: &Attempt,
        files: Option<&mut OpenFiles>,
    ) {
        let listed = sockets::bound(visit, port, OWNERS_BUDGET);
        match self.noted("bound sockets", listed) {
            Some(Some(bound)) => self.facts.bound.extend(bound),
            Some(None) if may_meet_nobody(attempt.ending) => {
                self.bound_among(files, visit, port, attempt);
            }
            Some(None) | None => {}
        }
    }

    fn bound_among(
        &mut self,
        files: Option<&mut OpenFiles>,
        visit: &Visit,
        port: u16,
        attempt: &Attempt,
    ) {
        let found = files.map(|files| files.bound(visit.netns, port, attempt.ended, FILES_BUDGET));
        let complete = match found {
            Some(Ok(found)) => {
                self.facts.bound.extend(found.sockets);
                found.complete
            }
            Some(Err(error)) => {
                log::debug!("{error}");
                false
            }
            None => false,
        };
        self.facts.bound_unlisted |= !complete;
    }
}

/// Whether it may come down to nobody having listened there.
fn may_meet_nobody(ending: Ending) -> bool {
    match ending {
        Ending::GaveUp | Ending::SocketError { .. } => true,
        Ending::ConnectFailed { errno, .. } => errno == libc::ECONNREFUSED,
        _ => false,
    }
}
