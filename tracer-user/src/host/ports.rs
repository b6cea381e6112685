//! How the local ports towards one destination are used up.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::bounded;
use crate::case::{LocalPorts, Process};
use netlink_packet_sock_diag::inet::ExtensionFlags;

use crate::host::diag::{self, Wanted};
use crate::host::netlink::NetlinkError;
use crate::host::owners;
use crate::host::visit::Visit;

/// The ports that a socket may be given by itself, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// `/proc/sys/net` shows the namespace of the thread that looks (`net_ctl_root_lookup` takes
/// `current->nsproxy`): there is no path through `/proc/PID` to another namespace's. IPv6 goes
/// by the same setting.
pub(super) fn range_here() -> Option<PortRange> {
    let text = bounded::read("/proc/sys/net/ipv4/ip_local_port_range", 64).ok()?;
    let text = String::from_utf8(text).ok()?;
    let mut ends = text.split_whitespace().map(str::parse);
    Some(PortRange {
        first: ends.next()?.ok()?,
        last: ends.next()?.ok()?,
    })
}

/// Counts the sockets towards `destination` and finds who holds them, for `budget` at most.
/// Null where the port range is not known.
pub fn towards(
    visit: &mut Visit,
    destination: SocketAddr,
    budget: Duration,
) -> Result<Option<LocalPorts>, NetlinkError> {
    let Some(range) = visit.port_range else {
        return Ok(None);
    };
    let wanted = Wanted {
        protocol: libc::IPPROTO_TCP as u8,
        states: !0,
        local_port: 0,
        remote_port: destination.port(),
        extensions: ExtensionFlags::empty(),
    };
    let mut states: HashMap<u8, u32> = HashMap::new();
    let mut inodes = HashSet::new();
    diag::list(visit, wanted, |socket| {
        if socket.remote.ip() == destination.ip().to_canonical() {
            *states.entry(socket.state).or_default() += 1;
            inodes.insert(socket.inode);
        }
    })?;
    // TIME_WAIT has no process and no inode.
    inodes.remove(&0);
    Ok(Some(LocalPorts {
        first: range.first,
        last: range.last,
        by_state: most_first(states.into_iter().map(|(state, n)| (name(state), n))),
        holders: holders(&inodes, budget),
    }))
}

fn holders(inodes: &HashSet<u64>, budget: Duration) -> Vec<(Process, u32)> {
    let mut counts: HashMap<u32, u32> = HashMap::new();
    let found = owners::holders(inodes, &[], budget).unwrap_or_default();
    for pid in found.by_inode.values().flatten() {
        *counts.entry(*pid).or_default() += 1;
    }
    most_first(
        counts
            .into_iter()
            .filter_map(|(pid, count)| Some((owners::describe(pid)?, count))),
    )
}

fn most_first<T>(counted: impl Iterator<Item = (T, u32)>) -> Vec<(T, u32)> {
    let mut counted: Vec<_> = counted.collect();
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counted
}

/// The names of `include/net/tcp_states.h` without their prefix.
pub(super) fn name(state: u8) -> String {
    const NAMES: [&str; 13] = [
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
        "BOUND_INACTIVE",
    ];
    state
        .checked_sub(1)
        .and_then(|index| NAMES.get(usize::from(index)))
        .map_or_else(|| format!("state {state}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    #[test]
    fn an_unknown_state_keeps_its_number() {
        assert_eq!(name(6), "TIME_WAIT");
        assert_eq!(name(0), "state 0");
        assert_eq!(name(200), "state 200");
    }

    #[test]
    fn sockets_towards_a_destination_are_counted_and_their_holder_named() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let _held = sandbox.run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 20010").unwrap();
            let other = TcpListener::bind("127.0.0.2:9101").unwrap();
            let listener = TcpListener::bind("127.0.0.1:9101").unwrap();
            let mut held: Vec<_> = (0..3)
                .map(|_| TcpStream::connect("127.0.0.1:9101").unwrap())
                .collect();
            held.push(TcpStream::connect("127.0.0.2:9101").unwrap());
            // Whoever closes first stays in TIME_WAIT.
            drop(TcpStream::connect("127.0.0.1:9101").unwrap());
            let accepted: Vec<_> = (0..4).map(|_| listener.accept().unwrap().0).collect();
            drop(accepted);
            (other, listener, held)
        });
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        let destination = "127.0.0.1:9101".parse().unwrap();
        let ports = towards(&mut visit, destination, Duration::from_secs(10))
            .unwrap()
            .unwrap();
        assert_eq!((ports.first, ports.last), (20000, 20010));
        let total: u32 = ports.by_state.iter().map(|(_, count)| count).sum();
        assert_eq!(total, 4, "{:?}", ports.by_state);
        assert!(ports.by_state.contains(&("TIME_WAIT".into(), 1)));
        assert_eq!(ports.holders[0].0.pid, std::process::id());
        assert_eq!(ports.holders[0].1, 3);
    }
}
