//! Sockets that stand on a port without listening there.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

use crate::case::BoundSocket;
use netlink_packet_sock_diag::inet::ExtensionFlags;

use crate::host::diag::{self, Socket, Wanted};
use crate::host::netlink::NetlinkError;
use crate::host::owners;
use crate::host::visit::Visit;

/// `TCP_BOUND_INACTIVE` of `include/net/tcp_states.h`, a state that only `sock_diag` knows.
const BOUND_INACTIVE: u32 = 13;

/// TCP sockets bound to `port` that neither listen nor are connected, with those who hold them
/// as far as `budget` allows to look. Null on kernels before 6.8, which list no such socket.
pub fn bound(
    visit: &mut Visit,
    port: u16,
    budget: Duration,
) -> Result<Option<Vec<BoundSocket>>, NetlinkError> {
    if !bound_are_listed() {
        return Ok(None);
    }
    let sockets = bound_sockets(visit, port)?;
    let inodes: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let holders = owners::holders(&inodes, &[], budget).unwrap_or_default();
    let netns = visit.netns;
    Ok(Some(
        sockets
            .into_iter()
            .map(|socket| BoundSocket {
                address: socket.local,
                netns,
                owners: holders
                    .of(socket.inode)
                    .iter()
                    .filter_map(|pid| owners::describe(*pid))
                    .collect(),
            })
            .collect(),
    ))
}

/// Whether a UDP socket is bound to `port`. False also where the kernel's `udp_diag` is missing.
pub fn udp_on_port(visit: &mut Visit, port: u16) -> Result<bool, NetlinkError> {
    let wanted = Wanted {
        protocol: libc::IPPROTO_UDP as u8,
        states: !0,
        local_port: port,
        remote_port: 0,
        extensions: ExtensionFlags::empty(),
    };
    let mut found = false;
    match diag::list(visit, wanted, |_| found = true) {
        Err(NetlinkError::Refused {
            errno: libc::ENOENT,
        }) => Ok(false),
        Err(error) => Err(error),
        Ok(()) => Ok(found),
    }
}

/// The dump may list a socket once for each hash table that it stands in.
fn bound_sockets(visit: &mut Visit, port: u16) -> Result<Vec<Socket>, NetlinkError> {
    let wanted = Wanted {
        protocol: libc::IPPROTO_TCP as u8,
        states: 1 << BOUND_INACTIVE,
        local_port: port,
        remote_port: 0,
        extensions: ExtensionFlags::empty(),
    };
    let mut by_cookie = HashMap::new();
    diag::list(visit, wanted, |socket| {
        by_cookie.insert(socket.cookie, socket);
    })?;
    Ok(by_cookie.into_values().collect())
}

/// Whether the kernel lists sockets that are bound and do not listen. Older ones answer with an
/// empty list, as if there were no such sockets. The one way to tell is a socket that must be
/// listed; it stands in a network namespace of its own that ends with it.
pub fn bound_are_listed() -> bool {
    static LISTED: OnceLock<bool> = OnceLock::new();
    *LISTED.get_or_init(|| {
        std::thread::scope(|scope| scope.spawn(try_bound).join())
            .is_ok_and(|tried| tried.unwrap_or(false))
    })
}

fn try_bound() -> Option<bool> {
    unshare(CloneFlags::CLONE_NEWNET).ok()?;
    let probe = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
    bind(probe.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 0)).ok()?;
    let name: SockaddrIn = getsockname(probe.as_raw_fd()).ok()?;
    let address = SocketAddr::V4(name.into());
    let found = bound_sockets(&mut Visit::here(0).ok()?, address.port()).ok()?;
    Some(!found.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    fn bound_to(port: u16) -> OwnedFd {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
        fd
    }

    #[test]
    fn a_bound_socket_is_told_from_a_listening_one() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let _held = sandbox.run(|| {
            let listening = TcpListener::bind("127.0.0.2:9101").unwrap();
            (bound_to(9101), bound_to(9102), listening)
        });
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        let Some(found) = bound(&mut visit, 9101, Duration::from_secs(10)).unwrap() else {
            println!("skipped: this kernel lists no bound sockets");
            return;
        };
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].address, "127.0.0.1:9101".parse().unwrap());
        assert_eq!(found[0].netns, sandbox.inode());
        assert_eq!(found[0].owners[0].pid, std::process::id());
    }

    #[test]
    fn a_udp_socket_is_found_by_its_port_in_either_family() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let _held = sandbox.run(|| {
            let four = UdpSocket::bind("127.0.0.1:9101").unwrap();
            (four, UdpSocket::bind("[::1]:9102").unwrap())
        });
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        assert!(udp_on_port(&mut visit, 9101).unwrap());
        assert!(udp_on_port(&mut visit, 9102).unwrap());
        assert!(!udp_on_port(&mut visit, 9103).unwrap());
    }
}
