//! Connections that wait in front of a listener.

use netlink_packet_sock_diag::inet::ExtensionFlags;

use crate::bounded;
use crate::case::Waiting;
use crate::host::diag::{self, Wanted};
use crate::host::netlink::NetlinkError;
use crate::host::netns::{Namespace, within};
use crate::host::visit::Visit;

/// States of `include/net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const SYN_RECV: u8 = 3;
const CLOSE_WAIT: u8 = 8;

/// What waits on `port`, and the limits of the namespace.
pub fn on_port(
    visit: &mut Visit,
    namespace: &Namespace,
    port: u16,
) -> Result<Waiting, NetlinkError> {
    let limits = within(namespace, Limits::here).unwrap_or_default();
    let mut waiting = Waiting {
        netns: visit.netns,
        port,
        half_open: 0,
        unaccepted: 0,
        longest_ms: None,
        somaxconn: limits.somaxconn,
        max_syn_backlog: limits.max_syn_backlog,
        syncookies: limits.syncookies,
        abort_on_overflow: limits.abort_on_overflow.map(|value| value != 0),
    };
    let wanted = Wanted {
        protocol: libc::IPPROTO_TCP as u8,
        states: 1 << ESTABLISHED | 1 << SYN_RECV | 1 << CLOSE_WAIT,
        local_port: port,
        remote_port: 0,
        extensions: ExtensionFlags::INFO,
    };
    diag::list(visit, wanted, |socket| match socket.state {
        SYN_RECV => waiting.half_open += 1,
        // A connection gets its inode when a process accepts it.
        _ if socket.inode == 0 => {
            waiting.unaccepted += 1;
            let age = socket.last_data_received_ms.map(u64::from);
            waiting.longest_ms = waiting.longest_ms.max(age);
        }
        _ => {}
    })?;
    Ok(waiting)
}

#[derive(Debug, Default)]
struct Limits {
    somaxconn: Option<u32>,
    max_syn_backlog: Option<u32>,
    syncookies: Option<u32>,
    abort_on_overflow: Option<u32>,
}

impl Limits {
    /// Those of the calling thread's namespace.
    fn here() -> Self {
        Self {
            somaxconn: number("core/somaxconn"),
            max_syn_backlog: number("ipv4/tcp_max_syn_backlog"),
            syncookies: number("ipv4/tcp_syncookies"),
            abort_on_overflow: number("ipv4/tcp_abort_on_overflow"),
        }
    }
}

fn number(name: &str) -> Option<u32> {
    let text = bounded::read(format!("/proc/sys/net/{name}"), 64).ok()?;
    String::from_utf8_lossy(&text).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    #[test]
    fn connections_that_nobody_accepted_are_counted() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let (listener, held, accepted) = sandbox.run(|| {
            let listener = TcpListener::bind("127.0.0.1:9101").unwrap();
            let accepted = TcpStream::connect("127.0.0.1:9101").unwrap();
            let taken = listener.accept().unwrap();
            let held: Vec<TcpStream> = (0..2)
                .map(|_| TcpStream::connect("127.0.0.1:9101").unwrap())
                .collect();
            (listener, held, (accepted, taken))
        });
        let namespace = sandbox.namespace();
        let mut visit = Visit::to(&namespace).unwrap();
        let waiting = on_port(&mut visit, &namespace, 9101).unwrap();
        assert_eq!((waiting.unaccepted, waiting.half_open), (2, 0));
        assert!(waiting.somaxconn.is_some() && waiting.longest_ms.is_some());
        drop((listener, held, accepted));
    }
}
