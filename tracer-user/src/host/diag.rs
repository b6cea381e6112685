//! Internet sockets of one namespace, as `sock_diag` lists them.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla,
};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, SockDiagMessage};

use crate::host::netlink::{More, NetlinkError};
use crate::host::visit::Visit;

/// Which sockets to list. Zero ports stand for any.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub protocol: u8,
    /// Bits by TCP state number.
    pub states: u32,
    pub local_port: u16,
    pub remote_port: u16,
    /// What is told beyond the head of the answer.
    pub extensions: ExtensionFlags,
}

impl Wanted {
    fn admits(&self, socket: &Socket) -> bool {
        let admits = |wanted: u16, port: u16| wanted == 0 || wanted == port;
        admits(self.local_port, socket.local.port())
            && admits(self.remote_port, socket.remote.port())
    }
}

/// A socket as `sock_diag` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub v6only: bool,
    /// Zero where it is bound to no interface.
    pub device_index: u32,
    /// Zero where no descriptor refers to it.
    pub inode: u64,
    pub uid: u32,
    pub state: u8,
    pub receive_queue: u32,
    pub send_queue: u32,
    pub cookie: u64,
    /// Null where [`Wanted::extensions`] did not ask for [`ExtensionFlags::INFO`].
    pub last_data_received_ms: Option<u32>,
}

/// Hands the sockets of both families to `each`. The kernel filters by port before it copies
/// (`inet_diag_dump_icsk`, `udp_dump`), except those that are merely bound: 6.18 lists them all.
pub(super) fn list(
    visit: &mut Visit,
    wanted: Wanted,
    mut each: impl FnMut(Socket),
) -> Result<(), NetlinkError> {
    for family in [AF_INET, AF_INET6] {
        let mut socket_id = match family {
            AF_INET => SocketId::new_v4(),
            _ => SocketId::new_v6(),
        };
        socket_id.source_port = wanted.local_port;
        socket_id.destination_port = wanted.remote_port;
        let request = InetRequest {
            family,
            protocol: wanted.protocol,
            extensions: wanted.extensions.clone(),
            states: StateFlags::from_bits_retain(wanted.states),
            socket_id,
        };
        let listed = visit
            .diag
            .dump(SockDiagMessage::InetRequest(request), |message| {
                if let SockDiagMessage::InetResponse(answer) = message {
                    Some(socket(&answer))
                        .filter(|socket| wanted.admits(socket))
                        .map(&mut each);
                }
                More::Yes
            });
        match listed {
            // A kernel without IPv6 knows no such family; one whose `tcp_diag` or `udp_diag`
            // cannot be loaded says the same of IPv4, and that is an error.
            Err(NetlinkError::Refused {
                errno: libc::ENOENT,
            }) if family == AF_INET6 => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

fn socket(answer: &InetResponse) -> Socket {
    let header = &answer.header;
    let id = &header.socket_id;
    Socket {
        local: SocketAddr::new(unmapped(id.source_address), id.source_port),
        remote: SocketAddr::new(unmapped(id.destination_address), id.destination_port),
        v6only: answer.nlas.contains(&Nla::SkV6Only(true)),
        device_index: id.interface_id,
        inode: header.inode.into(),
        uid: header.uid,
        state: header.state,
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        cookie: u64::from_ne_bytes(id.cookie),
        last_data_received_ms: answer.nlas.iter().find_map(last_data_received_ms),
    }
}

/// `tcpi_last_data_recv` of `struct tcp_info`, which only ever grows at its end.
fn last_data_received_ms(attribute: &Nla) -> Option<u32> {
    const AT: usize = 52;
    let Nla::TcpInfo(bytes) = attribute else {
        return None;
    };
    let bytes = bytes.get(AT..AT + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// An IPv6 socket that speaks IPv4 stands in the kernel's IPv4 tables.
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
