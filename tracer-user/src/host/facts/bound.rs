//! Who has bound the port without listening on it.

use std::time::Duration;

use super::{Gathered, OWNERS_BUDGET};
use crate::case::{Attempt, BoundSocket, Ending};
use crate::host::open_files::{Found, OpenFiles};
use crate::host::sockets;
use crate::host::visit::Visit;

/// How long a look through the open files of all processes may take.
const FILES_BUDGET: Duration = Duration::from_millis(200);

impl Gathered {
    /// Asks `sock_diag`, and where the kernel does not list such sockets, or nobody is found who
    /// holds them, the open files, if these can be looked at.
    pub(super) fn bound_to(
        &mut self,
        visit: &mut Visit,
        port: u16,
        attempt: &Attempt,
        files: Option<&mut OpenFiles>,
    ) {
        let listed = sockets::bound(visit, port, OWNERS_BUDGET);
        match self.noted("bound sockets", listed) {
            Some(Some(mut bound)) => {
                if bound.iter().any(|socket| socket.owners.is_empty()) {
                    let found = among(files, visit, port, attempt);
                    name_owners(&mut bound, &found.sockets);
                }
                self.facts.bound.extend(bound);
            }
            Some(None) if may_meet_nobody(attempt.ending) => {
                let found = among(files, visit, port, attempt);
                self.facts.bound.extend(found.sockets);
                self.facts.bound_unlisted |= !found.complete;
            }
            Some(None) | None => {}
        }
    }
}

/// Nothing, and that incompletely, where open files cannot be looked at.
fn among(files: Option<&mut OpenFiles>, visit: &Visit, port: u16, attempt: &Attempt) -> Found {
    let look = |files: &mut OpenFiles| {
        files
            .bound(visit.netns, port, attempt.ended, FILES_BUDGET)
            .inspect_err(|error| log::debug!("{error}"))
            .ok()
    };
    files.and_then(look).unwrap_or_default()
}

/// The search for holders through `/proc` asks about every descriptor by itself, and may have
/// found none in its time.
fn name_owners(listed: &mut [BoundSocket], found: &[BoundSocket]) {
    for socket in listed.iter_mut().filter(|socket| socket.owners.is_empty()) {
        socket.owners = found
            .iter()
            .filter(|other| other.address == socket.address)
            .flat_map(|other| other.owners.iter().cloned())
            .collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::owners;

    #[test]
    fn owners_that_were_not_found_are_taken_from_the_same_address() {
        let bound = |address: &str, pid| BoundSocket {
            address: address.parse().unwrap(),
            netns: 1,
            owners: Option::into_iter(pid)
                .filter_map(owners::describe)
                .collect(),
        };
        let own = std::process::id();
        let mut listed = [bound("127.0.0.1:9101", None), bound("[::1]:9101", None)];
        name_owners(&mut listed, &[bound("127.0.0.1:9101", Some(own))]);
        assert_eq!(listed[0].owners[0].pid, own);
        assert!(listed[1].owners.is_empty());
    }
}
