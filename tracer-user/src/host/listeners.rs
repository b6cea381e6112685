//! The listening TCP sockets of one namespace.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::case::Queue;
use netlink_packet_sock_diag::inet::ExtensionFlags;

use crate::host::diag::{self, Wanted};
use crate::host::links;
use crate::host::netlink::NetlinkError;
use crate::host::visit::Visit;

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: u32 = 10;

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListeningSocket {
    pub address: SocketAddr,
    /// For a socket on `::`: it takes no IPv4.
    pub v6only: bool,
    /// The interface that it is bound to.
    pub device: Option<String>,
    pub inode: u64,
    pub uid: u32,
    pub queue: Queue,
    pub cookie: u64,
}

/// Lists them all.
pub fn listening(visit: &mut Visit) -> Result<Vec<ListeningSocket>, NetlinkError> {
    listening_on(visit, 0)
}

/// Lists those on `port`; zero stands for any.
pub fn listening_on(visit: &mut Visit, port: u16) -> Result<Vec<ListeningSocket>, NetlinkError> {
    let wanted = Wanted {
        protocol: libc::IPPROTO_TCP as u8,
        states: 1 << LISTEN,
        local_port: port,
        remote_port: 0,
        extensions: ExtensionFlags::empty(),
    };
    let mut sockets = Vec::new();
    diag::list(visit, wanted, |socket| sockets.push(socket))?;
    let mut names = HashMap::new();
    let mut listening = Vec::with_capacity(sockets.len());
    for socket in sockets {
        listening.push(ListeningSocket {
            address: socket.local,
            v6only: socket.v6only,
            device: device_name(visit, socket.device_index, &mut names)?,
            inode: socket.inode,
            uid: socket.uid,
            queue: Queue {
                length: socket.receive_queue,
                limit: socket.send_queue,
            },
            cookie: socket.cookie,
        });
    }
    Ok(listening)
}

/// The name of the interface with this index; null for index 0. An interface that is gone is
/// shown by its number, as `ss` does.
pub fn device_name(
    visit: &mut Visit,
    index: u32,
    known: &mut HashMap<u32, String>,
) -> Result<Option<String>, NetlinkError> {
    if index == 0 {
        return Ok(None);
    }
    if let Some(name) = known.get(&index) {
        return Ok(Some(name.clone()));
    }
    let name = links::by_index(visit, index)?.map_or_else(|| format!("if{index}"), |l| l.name);
    known.insert(index, name.clone());
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream};

    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, setsockopt, socket,
        sockopt,
    };

    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    #[test]
    fn listeners_of_both_families_are_listed_with_their_queues() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let _held = sandbox.run(|| {
            let four = TcpListener::bind("127.0.0.1:9101").unwrap();
            let dual = TcpListener::bind("[::]:9102").unwrap();
            let waiting = TcpStream::connect("127.0.0.1:9101").unwrap();
            (four, dual, waiting)
        });
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        let mut found = listening(&mut visit).unwrap();
        found.sort_by_key(|listener| listener.address.port());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].address, "127.0.0.1:9101".parse().unwrap());
        assert_eq!(found[0].queue.length, 1);
        assert!(found[0].queue.limit >= 128);
        assert_ne!(found[0].inode, 0);
        assert_eq!(found[1].address, "[::]:9102".parse().unwrap());
        assert!(!found[1].v6only);
        assert_eq!(listening_on(&mut visit, 9102).unwrap(), found[1..]);
    }

    #[test]
    fn v6only_and_the_bound_device_are_told() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let _held = sandbox.run(|| -> io::Result<_> {
            let fd = socket(
                AddressFamily::Inet6,
                SockType::Stream,
                SockFlag::empty(),
                None,
            )?;
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
            setsockopt(&fd, sockopt::BindToDevice, &"lo".into())?;
            let address: std::net::SocketAddrV6 = "[::]:9103".parse().unwrap();
            bind(
                std::os::fd::AsRawFd::as_raw_fd(&fd),
                &SockaddrIn6::from(address),
            )?;
            listen(&fd, Backlog::new(7)?)?;
            Ok(fd)
        });
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        let found = listening(&mut visit).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].v6only);
        assert_eq!(found[0].device.as_deref(), Some("lo"));
        assert_eq!(found[0].queue.limit, 7);
    }

    #[test]
    fn thousands_of_listeners_are_listed_completely() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let held = sandbox.run(|| {
            let address = |i: u16| format!("127.0.{}.1:{}", i / 500, 10_000 + i % 500);
            (0..3000)
                .map_while(|i| TcpListener::bind(address(i)).ok())
                .collect::<Vec<_>>()
        });
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        assert_eq!(listening(&mut visit).unwrap().len(), held.len());
        assert!(held.len() > 500, "only {} listeners", held.len());
    }
}
