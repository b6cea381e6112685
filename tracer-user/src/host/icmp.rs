//! ICMP errors about TCP that arrive in a network namespace: who answered a SYN, and how.
//!
//! What a netfilter rule drops on its way in is not seen. The sockets only listen; they keep
//! their namespace alive: drop them with its last worker.

use std::io::{self, IoSliceMut};
use std::net::SocketAddrV6;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrStorage, recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::host::netns::{Namespace, NetnsError, within};

mod filter;
mod packet;

pub use packet::{IcmpError, parse_v4, parse_v6};

/// A raw socket that receives ICMP errors of one family, without blocking.
#[derive(Debug)]
pub struct IcmpSocket {
    fd: OwnedFd,
    v6: bool,
    lost: u32,
}

/// An error and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub error: IcmpError,
    /// `CLOCK_REALTIME` in nanoseconds; null where the kernel gave no time.
    pub wall_ns: Option<i64>,
}

impl IcmpSocket {
    /// Opens a socket for IPv4 and, where the host has it, one for IPv6 inside the namespace.
    pub fn open(namespace: &Namespace) -> Result<io::Result<Vec<Self>>, NetnsError> {
        within(namespace, || {
            let mut sockets = vec![Self::open_here(false)?];
            match Self::open_here(true) {
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                socket => sockets.push(socket?),
            }
            Ok(sockets)
        })
    }

    /// The next error. Null where a packet was none about TCP; `WouldBlock` where there is none.
    pub fn receive(&mut self) -> io::Result<Option<Received>> {
        let mut bytes = [0; 1024];
        let mut control = nix::cmsg_space!(TimeSpec, u32);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<SockaddrStorage>(
            self.fd.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let mut wall_ns = None;
        for item in message.cmsgs()? {
            match item {
                ControlMessageOwned::RxqOvfl(lost) => self.lost = lost,
                ControlMessageOwned::ScmTimestampns(time) => {
                    wall_ns = Some(time.tv_sec() * 1_000_000_000 + time.tv_nsec());
                }
                _ => {}
            }
        }
        let from = message.address;
        let packet = message.iovs().next().unwrap_or_default();
        let error = match from.as_ref().and_then(SockaddrStorage::as_sockaddr_in6) {
            Some(from) if self.v6 => parse_v6(SocketAddrV6::from(*from).ip().to_owned(), packet),
            _ => parse_v4(packet),
        };
        Ok(error.map(|error| Received { error, wall_ns }))
    }

    /// How many packets found no room since the socket was opened, as of the last one received
    /// (`SO_RXQ_OVFL`).
    pub fn lost(&self) -> u32 {
        self.lost
    }

    fn open_here(v6: bool) -> io::Result<Self> {
        let (family, protocol) = match v6 {
            false => (AddressFamily::Inet, SockProtocol::Icmp),
            true => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Raw, flags, protocol)?;
        match v6 {
            false => filter::errors_about_tcp_v4(fd.as_fd())?,
            true => filter::errors_about_tcp_v6(fd.as_fd())?,
        }
        setsockopt(&fd, sockopt::RxqOvfl, &1)?;
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self { fd, v6, lost: 0 })
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for IcmpSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::process::{Command, Stdio};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    /// Rejects TCP to port 9101 by ICMP.
    fn reject(sandbox: &Sandbox) -> bool {
        sandbox.run(|| {
            let rules = b"table inet t { chain i { type filter hook input priority 0; \
                          tcp dport 9101 reject with icmpx type admin-prohibited; }; }";
            let Ok(mut nft) = Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .spawn()
            else {
                return false;
            };
            nft.stdin.take().unwrap().write_all(rules).unwrap();
            nft.wait().unwrap().success()
        })
    }

    #[test]
    fn a_syn_rejected_by_icmp_is_told_in_both_families() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        if !reject(&sandbox) {
            println!("skipped: nft cannot reject here");
            return;
        }
        let mut sockets = IcmpSocket::open(&sandbox.namespace()).unwrap().unwrap();
        assert_eq!(sockets.len(), 2);
        for (socket, target, kind, code) in [(0, "127.0.0.1:9101", 3, 13), (1, "[::1]:9101", 1, 1)]
        {
            let target: SocketAddr = target.parse().unwrap();
            let _listener = sandbox.run(move || {
                // An error about UDP must not come through.
                let udp = UdpSocket::bind(SocketAddr::new(target.ip(), 0)).unwrap();
                udp.send_to(b"?", SocketAddr::new(target.ip(), 9)).unwrap();
                let listener = TcpListener::bind(target).unwrap();
                let _ = TcpStream::connect_timeout(&target, Duration::from_millis(50));
                listener
            });
            let received = sockets[socket].receive().unwrap().unwrap();
            assert_eq!(received.error.from, target.ip());
            assert_eq!((received.error.kind, received.error.code), (kind, code));
            assert_eq!(received.error.inner_to, target);
            assert!(received.error.sequence.is_some());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let age = now.as_nanos() as i64 - received.wall_ns.unwrap();
            assert!((0..5_000_000_000).contains(&age), "{age} ns");
            let none = sockets[socket].receive().unwrap_err();
            assert_eq!(none.kind(), ErrorKind::WouldBlock);
            assert_eq!(sockets[socket].lost(), 0);
        }
    }
}
