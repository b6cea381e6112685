//! The other end of a connection that stands.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use netlink_packet_sock_diag::inet::ExtensionFlags;

use crate::bounded;
use crate::case::{Listener, Netns, Peer};
use crate::host::diag::{self, Wanted};
use crate::host::netlink::NetlinkError;
use crate::host::visit::Visit;
use crate::host::{owners, ports};

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: u32 = 10;
/// `/proc/PID/stat` begins with the process's number, its name and its state.
const STAT_LIMIT: u64 = 512;

/// The socket at `target` that is connected to `nginx`, with those who hold it as far as `budget`
/// allows to look; null where there is none. One that nobody holds waits in the queue of a
/// listener: its holders stand in.
pub fn peer(
    visit: &mut Visit,
    (nginx, target): (SocketAddr, SocketAddr),
    listeners: &[Listener],
    budget: Duration,
) -> Result<Option<Peer>, NetlinkError> {
    let wanted = Wanted {
        protocol: libc::IPPROTO_TCP as u8,
        states: !(1 << LISTEN),
        local_port: target.port(),
        remote_port: nginx.port(),
        extensions: ExtensionFlags::empty(),
    };
    let mut found = None;
    diag::list(visit, wanted, |socket| {
        let ends = socket.local.ip() == target.ip().to_canonical()
            && socket.remote.ip() == nginx.ip().to_canonical();
        found = found.take().or_else(|| ends.then_some(socket));
    })?;
    let netns = visit.netns;
    Ok(found.map(|socket| {
        let accepted = socket.inode != 0;
        let likely = likely(listeners, netns, target, accepted);
        let likely = likely
            .into_iter()
            .flat_map(|listener| listener.owners.clone());
        let owners = if accepted {
            let first: Vec<u32> = likely.map(|owner| owner.pid).collect();
            let wanted = HashSet::from([socket.inode]);
            let holders = owners::holders(&wanted, &first, budget).unwrap_or_default();
            let pids = holders.of(socket.inode).iter();
            pids.filter_map(|pid| owners::describe(*pid)).collect()
        } else {
            likely.collect::<Vec<_>>()
        };
        Peer {
            netns,
            state: ports::name(socket.state),
            accepted,
            // nginx's FIN stands in the queue as a byte.
            unread: match ports::name(socket.state).as_str() {
                "CLOSE_WAIT" => socket.receive_queue.saturating_sub(1),
                _ => socket.receive_queue,
            },
            activity: owners.first().and_then(|owner| activity(owner.pid)),
            owners,
        }
    }))
}

/// The listeners that may have taken a connection to `target`. Of a group (SO_REUSEPORT) one has,
/// and the queue in which a connection waits is not empty.
fn likely(
    listeners: &[Listener],
    netns: Netns,
    target: SocketAddr,
    accepted: bool,
) -> Vec<&Listener> {
    let mut likely: Vec<&Listener> = listeners
        .iter()
        .filter(|listener| listener.netns == netns && listener.address.port() == target.port())
        .filter(|listener| {
            let ip = listener.address.ip().to_canonical();
            ip.is_unspecified() || ip == target.ip().to_canonical()
        })
        .collect();
    let holds = |listener: &&Listener| listener.queue.is_some_and(|queue| queue.length > 0);
    if !accepted && likely.iter().any(holds) {
        likely.retain(holds);
    }
    likely
}

/// What the process's first thread is doing: `R`, `S`, `D`, `T`, …
fn activity(pid: u32) -> Option<char> {
    let stat = bounded::read(format!("/proc/{pid}/stat"), STAT_LIMIT).ok()?;
    state_in(&stat)
}

/// The name may hold anything, brackets too: the last one ends it.
fn state_in(stat: &[u8]) -> Option<char> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let state = stat.get(end + 2)?;
    state.is_ascii_alphabetic().then(|| char::from(*state))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    #[test]
    fn a_name_with_brackets_hides_no_state() {
        assert_eq!(state_in(b"7 (a) R (b) T 1 7"), Some('T'));
        assert_eq!(state_in(b"7 (a"), None);
        assert_eq!(state_in(b"7 (a)"), None);
    }

    #[test]
    fn a_connection_in_the_queue_is_told_from_an_accepted_one() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let (listener, stream) = sandbox.run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (listener, stream)
        });
        let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        let mut look = || {
            peer(&mut visit, ends, &[], Duration::from_secs(10))
                .unwrap()
                .unwrap()
        };
        let queued = look();
        assert!(!queued.accepted && queued.owners.is_empty(), "{queued:?}");
        let _accepted = listener.accept().unwrap();
        let held = look();
        assert!(held.accepted, "{held:?}");
        assert_eq!(held.state, "ESTABLISHED");
        assert_eq!(held.owners[0].pid, std::process::id());
    }
}
