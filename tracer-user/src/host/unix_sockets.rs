//! The Unix sockets of one network namespace, as `sock_diag` lists them.

use netlink_packet_core::Emitable;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::unix::nlas::{Nla, UnixDiagName, Vfs};
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse};

use crate::case::{Netns, Queue, SocketKind};
use crate::host::netlink::{More, NetlinkError};
use crate::host::unix_path::Place;
use crate::host::visit::Visit;

/// `TCP_CLOSE` and `TCP_LISTEN` of `include/net/tcp_states.h`, which Unix sockets use as well.
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;

/// `RCV_SHUTDOWN` of `include/net/sock.h`.
const RECEIVE_SHUT: u8 = 1;

/// So many sockets are taken from one namespace.
const MOST: usize = 65_536;

/// A socket with a name that is not connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The inode of the socket itself, as `/proc/PID/fd` shows it.
    pub inode: u64,
    /// The name as it was bound; abstract ones start with a NUL.
    pub name: Vec<u8>,
    /// Device and inode of the file it was bound to, the inode cut to 32 bits.
    pub file: Option<((u32, u32), u32)>,
    pub kind: SocketKind,
    pub listening: bool,
    pub shut: bool,
    pub queue: Option<Queue>,
    pub netns: Netns,
}

impl Listed {
    /// Whether it was bound to the file at `place` (`unix_find_socket_byinode`).
    pub fn is_at(&self, place: &Place) -> bool {
        self.file.is_some_and(|(device, inode)| {
            inode == place.inode as u32 && place.devices.contains(&device)
        })
    }

    /// Whether a stream that dials it finds somebody who listens.
    pub fn serves(&self) -> bool {
        self.listening && !self.shut && self.kind == SocketKind::Stream
    }
}

/// Sockets that are bound and not connected, those that listen among them.
pub fn bound(visit: &mut Visit) -> Result<Vec<Listed>, NetlinkError> {
    list(visit, 1 << CLOSE | 1 << LISTEN)
}

/// Sockets that listen.
pub fn listening(visit: &mut Visit) -> Result<Vec<Listed>, NetlinkError> {
    list(visit, 1 << LISTEN)
}

fn list(visit: &mut Visit, states: u32) -> Result<Vec<Listed>, NetlinkError> {
    let request = UnixRequest {
        state_flags: StateFlags::from_bits_retain(states),
        inode: 0,
        show_flags: ShowFlags::NAME | ShowFlags::VFS | ShowFlags::RQLEN,
        cookie: [0xff; 8],
    };
    let mut found = Vec::new();
    let netns = visit.netns;
    visit
        .diag
        .dump(SockDiagMessage::UnixRequest(request), |message| {
            if let SockDiagMessage::UnixResponse(answer) = message {
                found.extend(listed(&answer, netns));
            }
            if found.len() < MOST {
                More::Yes
            } else {
                More::No
            }
        })?;
    Ok(found)
}

/// Nothing for a socket without a name: nobody can dial it.
fn listed(answer: &UnixResponse, netns: Netns) -> Option<Listed> {
    let header = &answer.header;
    let listening = u32::from(header.state) == LISTEN;
    let mut listed = Listed {
        inode: header.inode.into(),
        name: Vec::new(),
        file: None,
        kind: kind(header.kind),
        listening,
        shut: false,
        queue: None,
        netns,
    };
    for attribute in &answer.nlas {
        match attribute {
            Nla::Name(UnixDiagName::Pathname(path)) => {
                listed.name = path.as_encoded_bytes().to_vec();
            }
            Nla::Name(UnixDiagName::Abstract(name)) => {
                listed.name = [b"\0", name.as_slice()].concat();
            }
            Nla::Vfs(vfs) => listed.file = Some(file(vfs)),
            Nla::ReceiveQueueLength(length, limit) if listening => {
                listed.queue = Some(Queue {
                    length: *length,
                    limit: *limit,
                });
            }
            Nla::Shutdown(how) => listed.shut = how & RECEIVE_SHUT != 0,
            _ => {}
        }
    }
    (!listed.name.is_empty()).then_some(listed)
}

/// The kernel writes its own device number here: 12 bits of major, 20 bits of minor.
fn file(vfs: &Vfs) -> ((u32, u32), u32) {
    let mut bytes = [0; 8];
    vfs.emit(&mut bytes);
    let [inode, device] = [0, 4]
        .map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    ((device >> 20, device & 0xf_ffff), inode)
}

fn kind(number: u8) -> SocketKind {
    match i32::from(number) {
        libc::SOCK_STREAM => SocketKind::Stream,
        libc::SOCK_DGRAM => SocketKind::Datagram,
        libc::SOCK_SEQPACKET => SocketKind::Seqpacket,
        _ => SocketKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

    use super::*;
    use crate::case::Credentials;
    use crate::host::testing::{Sandbox, root_or_skip};
    use crate::host::unix_path::View;

    #[test]
    fn sockets_are_found_by_the_file_they_are_bound_to() {
        if !root_or_skip() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (stream, datagram) = (directory.path().join("s"), directory.path().join("d"));
        let sandbox = Sandbox::new();
        let (at, beside) = (stream.clone(), datagram.clone());
        let _held = sandbox.run(move || {
            let listener = UnixListener::bind(&at).unwrap();
            let waiting = UnixStream::connect(&at).unwrap();
            let name = SocketAddr::from_abstract_name(b"whyrefused").unwrap();
            let hidden = UnixListener::bind_addr(&name).unwrap();
            (
                listener,
                waiting,
                hidden,
                UnixDatagram::bind(beside).unwrap(),
            )
        });
        let mut visit = Visit::to(&sandbox.namespace()).unwrap();
        let found = bound(&mut visit).unwrap();
        let view = View::of_process(std::process::id()).unwrap();
        let at = |path: &std::path::Path| {
            let walked = view.walk(path.as_os_str().as_encoded_bytes(), &Credentials::default());
            let place = walked.place.unwrap();
            found.iter().find(|socket| socket.is_at(&place)).unwrap()
        };
        let listener = at(&stream);
        assert!(listener.serves());
        assert_eq!(listener.name, stream.as_os_str().as_encoded_bytes());
        assert_eq!(listener.queue.unwrap().length, 1);
        assert_eq!(at(&datagram).kind, SocketKind::Datagram);
        assert!(
            found
                .iter()
                .any(|socket| socket.name == b"\0whyrefused" && socket.serves())
        );
        assert_eq!(listening(&mut visit).unwrap().len(), 2);
    }
}
