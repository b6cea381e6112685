//! Who listens on the Unix sockets that nginx is configured to dial, and who did.
//!
//! The kernel tells of no Unix listener that begins or ends. Those that matter are looked for
//! when the trace begins, when a process calls `listen()`, and now and then; the ends of the
//! processes that were found to hold them are told by evidence.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use crate::case::{Credentials, Death, EndedUnixListener, KernelTime, UnixSocket};
use crate::host::netns::Namespaces;
use crate::host::owners::{self, Holders};
use crate::host::unix;
use crate::host::unix_path::{RootId, View, root_of};
use crate::host::unix_sockets::{self, Listed};
use crate::host::visit::Visit;

/// So many paths are watched; more than any configuration is seen to have.
const MOST: usize = 4096;

/// How long the holders of new listeners may be looked for at a time.
const BUDGET: Duration = Duration::from_millis(250);

/// So many processes that called `listen()` are remembered between two looks.
const CALLERS: usize = 256;

/// See the module's description.
#[derive(Debug, Default)]
pub struct UnixListeners {
    watched: HashMap<(RootId, Vec<u8>), Watched>,
    /// Processes that called `listen()` since the last look.
    callers: Vec<u32>,
}

#[derive(Debug)]
struct Watched {
    /// A process that has that root.
    viewer: u32,
    seen: Option<Seen>,
}

/// The listener that was seen last.
#[derive(Debug)]
struct Seen {
    inode: u64,
    socket: UnixSocket,
    at: KernelTime,
    /// Those of its owners that ended.
    deaths: HashMap<u32, (KernelTime, Death)>,
}

impl UnixListeners {
    /// Watches these paths, as the process sees them. Abstract names are passed over: nginx
    /// cannot be configured to dial one.
    pub fn watch(&mut self, viewer: u32, paths: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let mut paths = paths.filter(|path| !unix::is_abstract(path)).peekable();
        if paths.peek().is_none() {
            return Ok(());
        }
        let root = root_of(viewer)?;
        for path in paths {
            let full = self.watched.len() >= MOST;
            let key = (root, path);
            if let Some(known) = self.watched.get_mut(&key) {
                known.viewer = viewer;
            } else if !full {
                self.watched.insert(key, Watched { viewer, seen: None });
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// The processes that hold a listener.
    pub fn owners(&self) -> Vec<u32> {
        let seen = self.watched.values().filter_map(|w| w.seen.as_ref());
        let mut pids: Vec<u32> = seen
            .flat_map(|seen| &seen.socket.owners)
            .map(|owner| owner.pid)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// A process called `listen()`: it is the first to be asked who holds a new listener.
    pub fn called(&mut self, pid: u32) {
        if self.callers.len() < CALLERS && !self.callers.contains(&pid) {
            self.callers.push(pid);
        }
    }

    /// Looks who listens now.
    pub fn look(&mut self, namespaces: &Namespaces, now: KernelTime) {
        let mut first = std::mem::take(&mut self.callers);
        if self.is_empty() {
            return;
        }
        first.extend(self.owners());
        let listed = listening(namespaces);
        let found = self.found(&listed);
        let unknown: HashSet<u64> = found
            .iter()
            .filter(|(key, socket)| !self.knows(key, socket))
            .map(|(_, socket)| socket.inode)
            .collect();
        let holders = owners::holders(&unknown, &first, BUDGET).unwrap_or_default();
        for (key, socket) in found {
            if let Some(watched) = self.watched.get_mut(&key) {
                watched.note(socket, &holders, now);
            }
        }
    }

    /// A process ended. Tells whether it held one of the listeners.
    pub fn process_exited(&mut self, pid: u32, death: &Death, at: KernelTime) -> bool {
        let mut held = false;
        for watched in self.watched.values_mut() {
            let seen = watched.seen.as_mut();
            let owned = seen.filter(|seen| seen.socket.owners.iter().any(|o| o.pid == pid));
            if let Some(seen) = owned {
                seen.deaths.insert(pid, (at, death.clone()));
                held = true;
            }
        }
        held
    }

    /// Who listened at `path` last, in the root of that process. The caller knows that nobody
    /// does now.
    pub fn ended(&self, viewer: u32, path: &[u8]) -> Option<EndedUnixListener> {
        let root = root_of(viewer).ok()?;
        let watched = self.watched.get(&(root, path.to_vec()))?;
        watched.seen.as_ref()?.end()
    }

    /// What listens at each watched path.
    fn found(&self, listed: &[Listed]) -> Vec<((RootId, Vec<u8>), Listed)> {
        let mut views: HashMap<u32, Option<View>> = HashMap::new();
        let nobody = Credentials::default();
        let mut found = Vec::new();
        for (key, watched) in &self.watched {
            let view = views
                .entry(watched.viewer)
                .or_insert_with(|| View::of_process(watched.viewer).ok());
            let Some(view) = view.as_ref().filter(|view| view.root_id() == key.0) else {
                continue;
            };
            let Some(place) = view.walk(&key.1, &nobody).place else {
                continue;
            };
            let socket = listed.iter().find(|socket| socket.is_at(&place));
            found.extend(socket.map(|socket| (key.clone(), socket.clone())));
        }
        found
    }

    /// Whether the owners of that socket are known, and all of them live.
    fn knows(&self, key: &(RootId, Vec<u8>), socket: &Listed) -> bool {
        let watched = self.watched.get(key);
        watched
            .and_then(|watched| watched.seen.as_ref())
            .is_some_and(|seen| {
                seen.inode == socket.inode
                    && seen.deaths.is_empty()
                    && !seen.socket.owners.is_empty()
            })
    }
}

impl Watched {
    fn note(&mut self, socket: Listed, holders: &Holders, now: KernelTime) {
        let inode = socket.inode;
        if let Some(seen) = self.seen.as_mut().filter(|seen| seen.inode == inode) {
            seen.at = now;
            // A dying process lets go of its descriptors one by one: nobody may be left.
            if !holders.of(inode).is_empty() {
                seen.socket = unix::described(socket, holders);
            }
            return;
        }
        self.seen = Some(Seen {
            inode,
            socket: unix::described(socket, holders),
            at: now,
            deaths: HashMap::new(),
        });
    }
}

impl Seen {
    fn end(&self) -> Option<EndedUnixListener> {
        let owners = &self.socket.owners;
        let died = owners.iter().find_map(|owner| self.deaths.get(&owner.pid));
        let lives = || {
            owners
                .iter()
                .any(|owner| owners::describe(owner.pid).is_some())
        };
        let (at, death, witnessed) = match died {
            Some((at, death)) => (*at, death.clone(), true),
            None if lives() => (self.at, Death::Closed, false),
            None => return None,
        };
        Some(EndedUnixListener {
            socket: self.socket.clone(),
            at,
            death,
            witnessed,
        })
    }
}

/// The sockets that listen, in every network namespace that can be read.
fn listening(namespaces: &Namespaces) -> Vec<Listed> {
    namespaces
        .iter()
        .filter_map(|namespace| Visit::to(namespace).ok())
        .filter_map(|mut visit| unix_sockets::listening(&mut visit).ok())
        .flatten()
        .filter(Listed::serves)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::host::testing::root_or_skip;

    #[test]
    fn who_listened_and_how_it_ended_is_remembered() {
        if !root_or_skip() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let bytes = path.as_os_str().as_bytes().to_vec();
        let (own, namespaces) = (std::process::id(), Namespaces::read().unwrap());
        let mut listeners = UnixListeners::default();
        listeners.watch(own, [bytes.clone()].into_iter()).unwrap();
        listeners.look(&namespaces, 1);
        assert_eq!(listeners.ended(own, &bytes), None);

        let socket = UnixListener::bind(&path).unwrap();
        listeners.look(&namespaces, 2);
        assert_eq!(listeners.owners(), [own]);
        drop(socket);
        nobody_listens_at(&path);
        listeners.look(&namespaces, 3);
        let ended = listeners.ended(own, &bytes).unwrap();
        assert_eq!((ended.at, &ended.death), (2, &Death::Closed));
        assert_eq!(ended.socket.owners[0].pid, own);
        assert!(!ended.witnessed);

        let death = Death::Exited { status: 3 };
        assert!(listeners.process_exited(own, &death, 4));
        assert!(!listeners.process_exited(1, &death, 4));
        let ended = listeners.ended(own, &bytes).unwrap();
        assert_eq!((ended.at, ended.death, ended.witnessed), (4, death, true));
    }

    /// A child that another test starts at that moment holds our descriptors until its `exec()`.
    fn nobody_listens_at(path: &Path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(path).is_ok() {
            assert!(Instant::now() < deadline, "somebody listens at {path:?}");
            thread::yield_now();
        }
    }
}
