//! The listening TCP sockets of all network namespaces, and those that ended while we watched.
//!
//! The census fills the table from `sock_diag`; the kernel's reports of listeners that begin and
//! end keep it current. The two may tell of the same socket in either order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::case::{Death, EndedListener, KernelTime, Listener, Netns, Process, Queue};
use crate::host::listeners::ListeningSocket;

mod census;
mod report;

pub use census::Census;
pub use report::{BeganListening, EndedListening};

/// So many ended listeners are remembered, the newest.
const ENDED: usize = 1024;

/// A server that is told to end closes its listeners and is gone within this time, in
/// nanoseconds.
const FAREWELL: KernelTime = 5_000_000_000;

/// So many sockets that a census missed wait for the report of their end.
const MISSED: usize = 256;

/// See the module's description.
#[derive(Debug, Default)]
pub struct ListenerTable {
    live: HashMap<Key, Entry>,
    by_sk: HashMap<u64, Key>,
    missed: VecDeque<Missed>,
    ended: VecDeque<Ended>,
    /// Ports on which a listener ended of whose end nothing is remembered any more.
    forgotten: HashSet<u16>,
    /// Namespaces whose listeners have all been listed once.
    listed: HashSet<Netns>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    netns: Netns,
    socket: SocketKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SocketKey {
    Inode(u64),
    Sk(u64),
}

#[derive(Debug, Clone)]
struct Entry {
    address: SocketAddr,
    v6only: bool,
    device: Option<String>,
    queue: Option<Queue>,
    since: Option<KernelTime>,
    sk: Option<u64>,
    /// Shared, as one process may hold thousands of listeners.
    owners: Vec<Arc<Process>>,
}

/// A socket that a census found gone: the report of its end is late, or was lost.
#[derive(Debug)]
struct Missed {
    key: Key,
    entry: Entry,
    /// Another socket listens in its place, or did.
    replaced: bool,
}

#[derive(Debug)]
struct Ended {
    listener: EndedListener,
    /// When another socket began to listen in its place.
    replaced: Option<KernelTime>,
}

impl ListenerTable {
    /// Every listening socket on `port`, in all namespaces.
    pub fn on_port(&self, port: u16) -> Vec<Listener> {
        self.select(|_, entry| entry.address.port() == port)
    }

    /// Every listening socket of one namespace.
    pub fn in_namespace(&self, netns: Netns) -> Vec<Listener> {
        self.select(|key, _| key.netns == netns)
    }

    /// Listeners of `netns` that would have taken a connection to `target` and had ended by
    /// `at`, the newest last. None where, at that time, one stood in their place or another took
    /// such connections.
    pub fn ended_on(&self, netns: Netns, target: SocketAddr, at: KernelTime) -> Vec<EndedListener> {
        let taken = self.live.iter().any(|(key, entry)| {
            key.netns == netns
                && entry.since.is_none_or(|since| since <= at)
                && listens_for(entry.address, entry.v6only, target)
        });
        if taken {
            return Vec::new();
        }
        self.ended_by(at)
            .filter(|ended| ended.listener.netns == netns)
            .filter(|ended| listens_for(ended.listener.address, ended.listener.v6only, target))
            .cloned()
            .collect()
    }

    /// Listeners on `port`, in any namespace, that had ended by `at` and that none had replaced
    /// by then, the newest last.
    pub fn ended_on_port(&self, port: u16, at: KernelTime) -> Vec<EndedListener> {
        self.ended_by(at)
            .filter(|ended| ended.listener.address.port() == port)
            .cloned()
            .collect()
    }

    /// Whether a listener that would have taken a connection to `target` may have ended in a way
    /// that nobody told or that is forgotten, where none took such connections since.
    pub fn lost_one_on(&self, netns: Netns, target: SocketAddr) -> bool {
        let lost = self.missed.iter().any(|missed| {
            let entry = &missed.entry;
            missed.key.netns == netns
                && !missed.replaced
                && listens_for(entry.address, entry.v6only, target)
        });
        lost || self.forgotten.contains(&target.port())
    }

    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Takes in a listener that began.
    pub fn began(&mut self, report: BeganListening) {
        let key = key(report.netns, report.inode, report.sk);
        let known = self.live.remove(&key);
        let owners = match known {
            Some(ref entry) if !entry.owners.is_empty() => entry.owners.clone(),
            _ => vec![Arc::new(report::described(report.pid, &report.comm, &[]))],
        };
        let entry = Entry {
            address: report.address,
            v6only: report.v6only,
            device: report.device,
            queue: known.and_then(|entry| entry.queue),
            since: Some(report.at),
            sk: Some(report.sk),
            owners,
        };
        self.stand(key, entry, report.at);
    }

    /// Takes in a listener that ended. Of several sockets at one address (`SO_REUSEPORT`) only
    /// the end of the last one is remembered.
    pub fn ended(&mut self, report: EndedListening) {
        let entry = self.take(&report).unwrap_or_else(|| Entry {
            address: report.address,
            v6only: false,
            device: None,
            queue: None,
            since: None,
            sk: None,
            owners: Vec::new(),
        });
        if self.stands_at(report.netns, &entry) {
            return;
        }
        let ended = Ended {
            listener: EndedListener {
                listener: Listener {
                    owners: report::owners_at_the_end(&report, &entry.owners),
                    ..listener(report.netns, &entry)
                },
                at: report.at,
                death: report.death,
            },
            replaced: None,
        };
        if self.ended.len() == ENDED
            && let Some(oldest) = self.ended.pop_front()
            && oldest.replaced.is_none()
        {
            let port = oldest.listener.listener.address.port();
            self.forgotten.insert(port);
        }
        self.ended.push_back(ended);
    }

    /// Takes in that a process ended: a listener that it closed shortly before ended with it,
    /// where it exited by itself or had been sent the signal that ended it (`signalled`) by then.
    pub fn process_exited(
        &mut self,
        pid: u32,
        death: &Death,
        signalled: Option<KernelTime>,
        at: KernelTime,
    ) {
        let by_itself = matches!(death, Death::Exited { .. });
        for ended in &mut self.ended {
            let closed = ended.listener.at;
            let owner = ended.listener.listener.owners.first();
            let its = owner.is_some_and(|owner| owner.pid == pid);
            let shortly = at.saturating_sub(closed) < FAREWELL;
            let told_before = by_itself || signalled.is_some_and(|sent| sent <= closed);
            if its && shortly && told_before && ended.listener.death == Death::Closed {
                ended.listener.death = death.clone();
            }
        }
    }

    /// Takes in what `sock_diag` lists in `netns` on `port` (zero: on all) at `now`. Sockets that
    /// it does not list are no longer live. They keep waiting for the report of their end: it
    /// alone knows how they ended. One that an earlier list lacked has begun since, whether its
    /// report is late or lost.
    pub fn listed(
        &mut self,
        netns: Netns,
        port: u16,
        sockets: Vec<ListeningSocket>,
        now: KernelTime,
    ) {
        let of_scope = |key: &Key, entry: &Entry| {
            key.netns == netns && (port == 0 || entry.address.port() == port)
        };
        let mut before: HashMap<Key, Entry> = self.take_where(of_scope).into_iter().collect();
        let since = self.listed.contains(&netns).then_some(now);
        if port == 0 {
            self.listed.insert(netns);
        }
        for socket in sockets {
            let key = key(netns, socket.inode, 0);
            let known = before.remove(&key);
            self.stand(key, merged(socket, known, since), now);
        }
        for (key, entry) in before {
            self.miss(key, entry);
        }
    }

    /// Drops what is live in namespaces for which `exists` is false.
    pub fn retain_namespaces(&mut self, exists: impl Fn(Netns) -> bool) {
        self.listed.retain(|netns| exists(*netns));
        for (key, entry) in self.take_where(|key, _| !exists(key.netns)) {
            self.miss(key, entry);
        }
    }

    fn take_where(&mut self, wanted: impl Fn(&Key, &Entry) -> bool) -> Vec<(Key, Entry)> {
        let keys: Vec<Key> = self
            .live
            .iter()
            .filter(|(key, entry)| wanted(key, entry))
            .map(|(key, _)| *key)
            .collect();
        keys.into_iter()
            .filter_map(|key| self.live.remove_entry(&key))
            .collect()
    }

    fn stand(&mut self, key: Key, entry: Entry, at: KernelTime) {
        for ended in &mut self.ended {
            let old = &ended.listener.listener;
            let same = old.netns == key.netns
                && old.address == entry.address
                && old.device == entry.device
                && ended.listener.at <= at;
            if same && ended.replaced.is_none() {
                ended.replaced = Some(at);
            }
        }
        for missed in &mut self.missed {
            let old = &missed.entry;
            missed.replaced |= missed.key.netns == key.netns
                && old.address == entry.address
                && old.device == entry.device;
        }
        if let Some(sk) = entry.sk {
            self.by_sk.insert(sk, key);
        }
        self.live.insert(key, entry);
    }

    fn miss(&mut self, key: Key, entry: Entry) {
        if let Some(sk) = entry.sk {
            self.by_sk.remove(&sk);
        }
        // The others of a group (`SO_REUSEPORT`) listen on.
        let replaced = self.stands_at(key.netns, &entry);
        if self.missed.len() == MISSED
            && let Some(oldest) = self.missed.pop_front()
            && !oldest.replaced
        {
            self.forgotten.insert(oldest.entry.address.port());
        }
        self.missed.push_back(Missed {
            key,
            entry,
            replaced,
        });
    }

    /// Takes out the socket that a report of an end means.
    fn take(&mut self, report: &EndedListening) -> Option<Entry> {
        let by_inode = key(report.netns, report.inode, report.sk);
        let by_sk = self.by_sk.remove(&report.sk);
        let live = [Some(by_inode), by_sk]
            .into_iter()
            .flatten()
            .find(|key| key.netns == report.netns && self.live.contains_key(key));
        if let Some(key) = live {
            return self.live.remove(&key);
        }
        let missed = self.missed.iter().position(|Missed { key, entry, .. }| {
            *key == by_inode || (key.netns == report.netns && entry.sk == Some(report.sk))
        })?;
        self.missed.remove(missed).map(|missed| missed.entry)
    }

    fn stands_at(&self, netns: Netns, place: &Entry) -> bool {
        self.live.iter().any(|(key, entry)| {
            key.netns == netns && entry.address == place.address && entry.device == place.device
        })
    }

    fn ended_by(&self, at: KernelTime) -> impl Iterator<Item = &EndedListener> {
        self.ended
            .iter()
            .filter(move |ended| ended.listener.at <= at)
            .filter(move |ended| ended.replaced.is_none_or(|replaced| replaced > at))
            .map(|ended| &ended.listener)
    }

    fn select(&self, wanted: impl Fn(&Key, &Entry) -> bool) -> Vec<Listener> {
        let mut found: Vec<Listener> = self
            .live
            .iter()
            .filter(|(key, entry)| wanted(key, entry))
            .map(|(key, entry)| listener(key.netns, entry))
            .collect();
        found.sort_by_key(|listener| (listener.netns, listener.address));
        found
    }
}

/// Whether a socket bound to `bound` takes connections to `target`, interfaces aside.
pub fn listens_for(bound: SocketAddr, v6only: bool, target: SocketAddr) -> bool {
    let (ip, asked) = (bound.ip().to_canonical(), target.ip().to_canonical());
    let covered = ip == asked
        || (ip.is_unspecified() && ip.is_ipv4() == asked.is_ipv4())
        || (ip.is_unspecified() && ip.is_ipv6() && !v6only);
    bound.port() == target.port() && covered
}

fn key(netns: Netns, inode: u64, sk: u64) -> Key {
    let socket = match inode {
        0 => SocketKey::Sk(sk),
        inode => SocketKey::Inode(inode),
    };
    Key { netns, socket }
}

fn merged(socket: ListeningSocket, known: Option<Entry>, since: Option<KernelTime>) -> Entry {
    let (since, sk, owners) = known.map_or((since, None, Vec::new()), |entry| {
        (entry.since, entry.sk, entry.owners)
    });
    Entry {
        address: socket.address,
        v6only: socket.v6only,
        device: socket.device,
        queue: Some(socket.queue),
        since,
        sk,
        owners,
    }
}

fn listener(netns: Netns, entry: &Entry) -> Listener {
    Listener {
        address: entry.address,
        v6only: entry.v6only,
        device: entry.device.clone(),
        netns,
        queue: entry.queue,
        since: entry.since,
        owners: entry.owners.iter().map(|p| (**p).clone()).collect(),
    }
}

#[cfg(test)]
mod tests;
