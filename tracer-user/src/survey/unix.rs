//! When to look at the listeners on Unix sockets.

use std::time::{Duration, Instant};

use super::{Answer, Survey};
use crate::case::{Relation, UnixFacts};
use crate::clock;
use crate::nginx::config::upstreams::Upstreams;

/// How long after a sign of change the look is taken: a server that starts makes several.
const SETTLED: Duration = Duration::from_millis(20);

/// How long nothing is looked at while there is no sign.
const IDLE: Duration = Duration::from_secs(3600);

/// Remembers that there is something to look at.
#[derive(Debug, Default)]
pub(super) struct UnixWatch {
    since: Option<Instant>,
    /// Owners whose ends the kernel is to report.
    announced: Vec<u32>,
}

impl UnixWatch {
    /// Something changed.
    pub fn stir(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// There is something to look at.
    pub fn is_stirred(&self) -> bool {
        self.since.is_some()
    }

    /// How long to wait before the next look.
    pub fn due(&self) -> Duration {
        self.since
            .map_or(IDLE, |since| SETTLED.saturating_sub(since.elapsed()))
    }
}

impl Survey {
    /// Looks who listens on the Unix sockets that are dialled.
    pub(super) fn look_at_unix(&mut self) -> Vec<Answer> {
        self.watch_unix();
        let owners = self.host.unix_listeners.owners();
        let before = std::mem::replace(&mut self.unix.announced, owners);
        let mut new = self.unix.announced.clone();
        new.retain(|pid| !before.contains(pid));
        if new.is_empty() {
            return Vec::new();
        }
        vec![Answer::WatchOwners(new)]
    }

    pub(super) fn watch_unix(&mut self) {
        self.unix.since = None;
        for (pid, paths) in self.nginxes.unix_paths() {
            if let Err(error) = self.host.unix_listeners.watch(pid, paths.into_iter()) {
                log::debug!("cannot watch the Unix sockets that nginx {pid} dials: {error}");
            }
        }
        let _ = self.host.freshen(Duration::from_secs(2));
        let now = clock::monotonic();
        self.host.unix_listeners.look(&self.host.namespaces, now);
    }
}

/// Takes those candidates away that the configuration has other uses for.
pub(super) fn leave_out_configured(facts: &mut UnixFacts, dialled: &[u8], known: &Upstreams) {
    let paths = known.unix_paths();
    facts.candidates.retain(|candidate| {
        let guessed = matches!(
            candidate.relation,
            Relation::SameName | Relation::SimilarName
        );
        let name = &candidate.socket.name;
        !guessed || name == dialled || !paths.contains(name)
    });
}
