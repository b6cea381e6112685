//! The census: every namespace is asked for its listeners, every process for its sockets.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Entry, Key, ListenerTable, SocketKey};
use crate::case::{Netns, Process};
use crate::clock;
use crate::host::listeners::{self, ListeningSocket};
use crate::host::netns::{Namespaces, across};
use crate::host::owners;
use crate::host::visit::Visit;

/// So many owners of one listener are kept.
const OWNERS: usize = 8;

/// What a census could not see.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Namespaces that exist and could not be read, with the reason. Those that vanished are
    /// not among them.
    pub unread: Vec<(Netns, String)>,
    /// Every visible process was looked at for the sockets it holds.
    pub owners_complete: bool,
}

impl ListenerTable {
    /// Lists the listeners of all `namespaces` anew, at the start and after reports were lost,
    /// then looks for their owners for `budget` at most.
    pub fn rescan(&mut self, namespaces: &Namespaces, budget: Duration) -> io::Result<Census> {
        let mut unread = Vec::new();
        across(namespaces.iter(), |namespace, entered| {
            let now = clock::monotonic();
            match entered
                .map_err(|error| error.to_string())
                .and_then(|()| listening_here(namespace.inode))
            {
                Ok(sockets) => self.listed(namespace.inode, 0, sockets, now),
                Err(reason) => unread.push((namespace.inode, reason)),
            }
        });
        self.retain_namespaces(|netns| namespaces.get(netns).is_some());
        Ok(Census {
            unread,
            owners_complete: self.refresh_owners(budget)?,
        })
    }

    /// Looks for the owners of all live listeners, for `budget` at most; returns whether all
    /// processes were looked at. Worth its while some seconds after listeners began: a daemon
    /// may listen in one process and serve in another.
    pub fn refresh_owners(&mut self, budget: Duration) -> io::Result<bool> {
        let inodes: HashSet<u64> = self.live.keys().filter_map(inode).collect();
        let holders = owners::holders(&inodes, &[], budget)?;
        let mut described: HashMap<u32, Option<Arc<Process>>> = HashMap::new();
        for (key, entry) in &mut self.live {
            let pids = inode(key).map_or(&[][..], |inode| holders.of(inode));
            let found: Vec<Arc<Process>> = pids
                .iter()
                .take(OWNERS)
                .filter_map(|pid| {
                    described
                        .entry(*pid)
                        .or_insert_with(|| owners::describe(*pid).map(Arc::new))
                        .clone()
                })
                .collect();
            replace_owners(entry, found);
        }
        Ok(holders.complete)
    }
}

fn listening_here(netns: Netns) -> Result<Vec<ListeningSocket>, String> {
    let mut visit = Visit::here(netns).map_err(|error| error.to_string())?;
    listeners::listening(&mut visit).map_err(|error| error.to_string())
}

/// Those known before stay where none was found: a scan may have run out of time.
fn replace_owners(entry: &mut Entry, found: Vec<Arc<Process>>) {
    if !found.is_empty() {
        entry.owners = found;
    }
}

fn inode(key: &Key) -> Option<u64> {
    match key.socket {
        SocketKey::Inode(inode) => Some(inode),
        SocketKey::Sk(_) => None,
    }
}
