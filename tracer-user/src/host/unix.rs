//! What the host has to say about a Unix socket that was dialled.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::bounded;
use crate::case::{Credentials, Netns, UnixCandidate, UnixFacts, UnixSocket, Walk, Worker};
use crate::host::netns::{self, Namespace, Namespaces, NetnsError};
use crate::host::owners::{self, Holders};
use crate::host::unix_path::names::Names;
use crate::host::unix_path::{Place, View};
use crate::host::unix_sockets::{self, Listed};
use crate::host::visit::{Visit, VisitError};

mod candidates;

/// How long sockets may be looked for in the network namespaces of the host.
const BUDGET: Duration = Duration::from_millis(100);

/// How long those may be looked for who hold them.
const HOLDERS_BUDGET: Duration = Duration::from_millis(250);

/// So many processes are named for one socket.
const OWNERS: usize = 16;

/// Gathers what bears on a dialled path or abstract name. Those in `known` are the first to be
/// searched for the sockets that they hold.
pub fn facts(namespaces: &Namespaces, worker: &Worker, path: &[u8], known: &[u32]) -> UnixFacts {
    let mut facts = UnixFacts::default();
    let view = View::of_process(worker.pid)
        .map_err(|error| {
            let what = format!("the files as process {} sees them: {error}", worker.pid);
            facts.unread.push(what);
        })
        .ok();
    let names = Names::of_process(worker.pid);
    match Credentials::of_process(worker.pid) {
        Ok(mut credentials) => {
            credentials.user = names.user(credentials.uid);
            facts.credentials = Some(credentials);
        }
        Err(error) => facts.unread.push(format!(
            "the credentials of process {}: {error}",
            worker.pid
        )),
    }
    let mut place = None;
    if let Some(view) = view.as_ref().filter(|_| !is_abstract(path)) {
        let nobody = Credentials::default();
        let walked = view.walk(path, facts.credentials.as_ref().unwrap_or(&nobody));
        place = walked.place;
        facts.walk = Some(named(walked.walk, &names));
    }
    let mut search = Search {
        namespaces,
        own: worker.netns,
        listed: Vec::new(),
        unread: Vec::new(),
    };
    search.run(|socket| belongs(socket, path, place.as_ref(), worker.netns) && socket.serves());
    let (bound, others): (Vec<Listed>, Vec<Listed>) = search
        .listed
        .into_iter()
        .partition(|socket| belongs(socket, path, place.as_ref(), worker.netns));
    facts.unread.append(&mut search.unread);
    let meant = if bound.iter().any(Listed::serves) {
        Vec::new()
    } else {
        candidates::like(path, worker.netns, others, place.is_some())
    };
    let inodes: HashSet<u64> = bound.iter().chain(&meant).map(|s| s.inode).collect();
    let holders = owners::holders(&inodes, known, HOLDERS_BUDGET).unwrap_or_default();
    describe(&mut facts, namespaces, &holders, bound);
    facts.candidates = meant
        .into_iter()
        .filter_map(|listed| {
            let relation = candidates::relation(&listed, path, view.as_ref(), &holders)?;
            let socket = described(listed, &holders);
            Some(UnixCandidate { socket, relation })
        })
        .collect();
    facts
}

/// The walk with the names of owners and groups.
fn named(mut walk: Walk, names: &Names) -> Walk {
    for step in &mut walk.steps {
        step.owner = names.user(step.uid);
        step.group = names.group(step.gid);
    }
    walk
}

/// An abstract name begins with a NUL.
pub fn is_abstract(path: &[u8]) -> bool {
    path.first() == Some(&0)
}

fn belongs(socket: &Listed, path: &[u8], place: Option<&Place>, netns: Netns) -> bool {
    match place {
        Some(place) => socket.is_at(place),
        None => is_abstract(path) && socket.netns == netns && socket.name == path,
    }
}

fn describe(facts: &mut UnixFacts, namespaces: &Namespaces, holders: &Holders, bound: Vec<Listed>) {
    facts.somaxconn = bound
        .iter()
        .find(|socket| socket.listening)
        .and_then(|socket| somaxconn(namespaces, socket.netns));
    facts.bound = bound
        .into_iter()
        .map(|socket| described(socket, holders))
        .collect();
}

/// A socket with those who hold it.
pub(super) fn described(listed: Listed, holders: &Holders) -> UnixSocket {
    let owners: Vec<_> = holders
        .of(listed.inode)
        .iter()
        .take(OWNERS)
        .filter_map(|pid| owners::describe(*pid))
        .collect();
    UnixSocket {
        name: listed.name,
        kind: listed.kind,
        listening: listed.listening,
        shut: listed.shut,
        queue: listed.queue,
        netns: listed.netns,
        owner_state: owners.first().and_then(|owner| state(owner.pid)),
        owners,
    }
}

/// The letter behind the name in `/proc/PID/stat`.
fn state(pid: u32) -> Option<char> {
    let stat = bounded::read(format!("/proc/{pid}/stat"), 4096).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).map(|byte| char::from(*byte))
}

/// The limit that `listen()` cuts a backlog to (`__sys_listen_socket`).
fn somaxconn(namespaces: &Namespaces, netns: Netns) -> Option<u32> {
    // The file is that of the reading thread's namespace.
    let read = || bounded::read("/proc/sys/net/core/somaxconn", 64);
    let text = netns::within(namespaces.get(netns)?, read).ok()?.ok()?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok()
}

/// One that has vanished since it was found has no sockets any more.
fn read(namespace: &Namespace) -> Result<Vec<Listed>, String> {
    let mut visit = match Visit::to(namespace) {
        Err(VisitError::Namespace(NetnsError::Vanished(_))) => return Ok(Vec::new()),
        visit => visit.map_err(|error| error.to_string())?,
    };
    unix_sockets::bound(&mut visit).map_err(|error| error.to_string())
}

/// Sockets with a path are found from every network namespace (`unix_find_socket_byinode`), and
/// listed in that of their making alone.
struct Search<'a> {
    namespaces: &'a Namespaces,
    own: Netns,
    listed: Vec<Listed>,
    unread: Vec<String>,
}

impl Search<'_> {
    /// Lists one namespace after the other, the worker's first, until `found` is among them.
    fn run(&mut self, found: impl Fn(&Listed) -> bool) {
        let deadline = Instant::now() + BUDGET;
        let own = self.namespaces.get(self.own);
        let others = self.namespaces.iter();
        let others = others.filter(|namespace| namespace.inode != self.own);
        if own.is_none() {
            self.unread
                .push(format!("network namespace {} is not known", self.own));
        }
        for namespace in own.into_iter().chain(others) {
            match read(namespace) {
                Ok(listed) => self.listed.extend(listed),
                Err(error) => self.unread.push(format!("Unix sockets: {error}")),
            }
            if self.listed.iter().any(&found) {
                return;
            }
            if Instant::now() > deadline {
                let what = "Unix sockets: not all network namespaces could be searched";
                self.unread.push(what.to_owned());
                return;
            }
        }
    }
}
