//! From records of the kernel's side to facts.

mod rule;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tracer_common::{
    decode::Record,
    layout::NONE,
    record::{self, Address, Beside, INET, INET6, Outcome, Task},
};

use super::{Evidence, Fate, Listening, Thread, UpstreamClosed, What};
use crate::{
    case::{
        Circumstances, Connection, Endpoint, Family, Icmp, KernelTime, PeerEnd, PeerEnded, Segment,
    },
    clock,
    probes::Names,
};

/// What newer kernels say of a segment for which there is no socket, when they answer it as when
/// they free it.
const NO_SOCKET: &str = "NO_SOCKET";
/// What they say where they have no reason.
const NOT_SPECIFIED: &str = "NOT_SPECIFIED";

impl Evidence {
    /// What a record says; `None` for one that lacks what it is about.
    pub fn from_record(record: &Record<'_>, names: &Names) -> Option<Self> {
        let what = match record {
            Record::ConnectFailed(record) if !is_stream(record) => return None,
            Record::ConnectFailed(record) => connect_failed(record),
            Record::AttemptEnded(record) => attempt_ended(record, names),
            Record::Connected(record) => connected(record),
            Record::ResetSent(record) => What::ResetSent {
                netns: record.segment.netns.into(),
                reason: Some(reset_reason(record, names)),
                segment: segment(&record.segment)?,
            },
            Record::PacketDropped(record) => What::Dropped {
                netns: record.segment.netns.into(),
                reason: (record.reason != NONE).then(|| names.drop_reason(record.reason)),
                answer: record.answer != 0,
                location: record.location,
                frames: record.frames,
                segment: segment(&record.segment)?,
                circumstances: of_segment(&record.segment, &record.beside),
            },
            Record::IcmpSent(record) => What::IcmpSent {
                netns: record.segment.netns.into(),
                icmp: Icmp {
                    kind: record.kind as u8,
                    code: record.code as u8,
                    v6: record.segment.from.family == INET6,
                },
                frames: record.frames,
                segment: segment(&record.segment)?,
                circumstances: of_segment(&record.segment, &record.beside),
            },
            Record::NeighbourDropped(record) => What::NeighbourPacketDropped {
                netns: record.netns.into(),
                wanted: socket_address(&record.wanted)?.ip(),
                asker: socket_address(&record.asker)
                    .map(|asker| asker.ip())
                    .filter(|asker| !asker.is_unspecified()),
                answer: record.answer != 0,
                frames: record.frames,
                circumstances: circumstances(0, record.ifindex, &record.beside),
            },
            Record::Retransmitted(record) => What::Retransmitted {
                socket: record.socket,
                error: (record.error != i32::MIN).then_some(record.error),
            },
            Record::ListenStarted(record) => What::ListenStarted(listening(record)?),
            Record::ListenEnded(record) => What::ListenEnded(listening(record)?),
            Record::ProcessExited(record) => What::ProcessExited {
                pid: record.task.tgid,
                exit_code: record.exit_code,
            },
            Record::SignalSent(record) => What::SignalSent {
                sender: thread(&record.sender),
                target: record.target,
                signal: record.signal as i32,
            },
            Record::OomVictim(record) => What::OomVictim { pid: record.pid },
            Record::Forked(record) => What::Forked {
                parent: record.parent,
                child: record.child,
            },
            Record::Executed(record) => What::Executed {
                pid: record.task.tgid,
            },
            Record::ListenCalled(record) => What::ListenCalled {
                pid: record.task.tgid,
            },
            Record::SocketFailed(record) => What::SocketFailed {
                thread: thread(&record.task),
                errno: record.errno as i32,
            },
            Record::BindFailed(record) => What::BindFailed {
                thread: thread(&record.task),
                address: socket_address(&record.address),
                errno: record.errno as i32,
            },
            Record::ClientClosed(record) => What::ClientClosed {
                thread: thread(&record.task),
                client: socket_address(&record.client),
            },
            Record::SocketClosed(record) => What::SocketClosed {
                socket: record.socket,
            },
            Record::UpstreamClosed(record) => {
                What::UpstreamClosed(Box::new(upstream_closed(record)?))
            }
            Record::PeerEnded(record) => peer_ended(record, names)?,
            Record::RuleMet(record) => rule::met(record)?,
            Record::RuleBytes(head, memory) => What::RuleBytes(Box::new(rule::bytes(head, memory))),
            Record::LogLine(head, text) => What::LogLine {
                thread: thread(&head.task),
                descriptor: head.descriptor,
                text: String::from_utf8_lossy(text).trim_end().to_owned(),
            },
        };
        Some(Self {
            at: record.header().at,
            what,
        })
    }
}

/// nginx connects UDP sockets too, to resolvers and log servers.
fn is_stream(record: &record::ConnectFailed) -> bool {
    const UNKNOWN: u32 = 0;
    const STREAMS: [u32; 3] = [
        UNKNOWN,
        libc::IPPROTO_TCP as u32,
        libc::IPPROTO_MPTCP as u32,
    ];
    record.family == record::UNIX || STREAMS.contains(&record.protocol)
}

fn connect_failed(record: &record::ConnectFailed) -> What {
    let path = &record.path[..usize::from(record.path_length).min(record.path.len())];
    let (family, dialled) = match record.family {
        INET => (
            Some(Family::Ipv4),
            handed_over(&record.dialled).map(Endpoint::Inet),
        ),
        INET6 => (
            Some(Family::Ipv6),
            handed_over(&record.dialled).map(Endpoint::Inet),
        ),
        record::UNIX => (Some(Family::Unix), Some(Endpoint::Unix(unix_path(path)))),
        _ => (None, None),
    };
    What::ConnectFailed {
        thread: thread(&record.task),
        // A call that was never entered began when it returned.
        started: match record.started {
            0 => record.header.at,
            started => started,
        },
        family,
        dialled,
        local: socket_address(&record.local),
        remote: socket_address(&record.remote),
        errno: record.errno as i32,
        reached_syn_sent: record.reached_syn_sent != 0,
        netns: (record.netns != 0).then_some(record.netns.into()),
        intercepted: record.unentered != 0,
        denied: (record.denied != 0).then_some(record.denied as i32),
    }
}

fn attempt_ended(record: &record::AttemptEnded, names: &Names) -> What {
    What::AttemptEnded {
        thread: thread(&record.task),
        socket: record.socket,
        started: record.started,
        reset_at: (record.reset_at != 0).then_some(record.reset_at),
        reset_sent: fate(&record.reset_sent, |reason| names.reset_reason(reason)),
        no_socket: fate(&record.no_socket, |reason| names.drop_reason(reason)),
        dialled: handed_over(&record.dialled),
        local: socket_address(&record.local),
        remote: socket_address(&record.remote),
        error: record.error as i32,
        initial_sequence: record.initial_sequence,
        netns: record.netns.into(),
        outcome: Outcome {
            to: record.dialled.key(),
            reset_to: record.reset_sent.to.key(),
            tgid: record.task.tgid,
            error: record.error,
            netns: record.reset_sent.netns,
            reason: record.reset_sent.reason,
        },
    }
}

/// `None` where it did not happen.
fn fate(fate: &record::Fate, name: impl Fn(u32) -> String) -> Option<Fate> {
    if fate.at == 0 {
        return None;
    }
    Some(Fate {
        at: fate.at,
        to: socket_address(&fate.to)?,
        netns: fate.netns.into(),
        // Without a reason there is a fate only for want of a socket.
        reason: if fate.reason == NONE {
            NO_SOCKET.to_owned()
        } else {
            name(fate.reason)
        },
    })
}

/// A kernel that gives no reason tells by its calls whether there was a socket.
fn reset_reason(record: &record::ResetSent, names: &Names) -> String {
    match (record.reason, record.by_socket) {
        (NONE, 0) => NO_SOCKET.to_owned(),
        (NONE, _) => NOT_SPECIFIED.to_owned(),
        (reason, _) => names.reset_reason(reason),
    }
}

fn connected(record: &record::Connected) -> What {
    What::Connected {
        thread: thread(&record.task),
        socket: record.socket,
        started: record.started,
        dialled: handed_over(&record.dialled),
        local: socket_address(&record.local),
        remote: socket_address(&record.remote),
        netns: record.netns.into(),
        self_connected: record.self_connected != 0,
    }
}

fn upstream_closed(record: &record::UpstreamClosed) -> Option<UpstreamClosed> {
    let when = |at: KernelTime| (at != 0).then_some(at);
    let known = |number: u32| (number != NONE).then_some(number);
    let bytes = |number: u64| (number != u64::MAX).then_some(number);
    let tick = clock::tick();
    let ago = |jiffies: u32| {
        let ago = u64::from(record.jiffies.wrapping_sub(jiffies)).saturating_mul(tick);
        known(jiffies).map(|_| record.header.at.saturating_sub(ago))
    };
    Some(UpstreamClosed {
        thread: thread(&record.task),
        started: record.started,
        reset_at: when(record.reset_at),
        fin_at: when(record.fin_at),
        dialled: handed_over(&record.dialled).or(socket_address(&record.remote))?,
        local: socket_address(&record.local),
        remote: socket_address(&record.remote),
        netns: record.netns.into(),
        connection: Connection {
            established: record.established,
            broken: when(record.broken_at),
            error: (record.error != 0).then_some(record.error as i32),
            bytes_sent: bytes(record.bytes_sent),
            // The kernel counts a FIN as a byte (`tcp_fin`, `tcp_rcv_nxt_update`).
            bytes_received: bytes(record.bytes_received)
                .map(|bytes| bytes.saturating_sub(u64::from(record.fin_at != 0))),
            last_sent: ago(record.last_sent),
            last_received: ago(record.last_received),
            tick,
            unacknowledged: known(record.unacknowledged),
            unsent: known(record.unsent),
            retransmissions: known(record.retransmissions),
            round_trip_us: known(record.round_trip),
        },
    })
}

fn peer_ended(record: &record::PeerEnded, names: &Names) -> Option<What> {
    let task = thread(&record.task);
    Some(What::PeerEnded {
        nginx: socket_address(&record.remote)?,
        target: socket_address(&record.local)?,
        callers: record.callers,
        ended: PeerEnded {
            how: match record.how {
                record::peer_end::CLOSED => PeerEnd::Closed,
                record::peer_end::RESET => PeerEnd::Reset,
                record::peer_end::REQUEST_FILTERED => PeerEnd::RequestFiltered,
                record::peer_end::RESPONSE_FILTERED => PeerEnd::ResponseFiltered,
                _ => PeerEnd::ResetInAnswer,
            },
            netns: record.netns.into(),
            reason: if record.reason != NONE {
                Some(names.reset_reason(record.reason))
            } else {
                (record.without_socket != 0).then(|| NO_SOCKET.to_owned())
            },
            pid: task.pid,
            comm: task.comm,
            accepted: record.accepted != 0,
            listening: record.listening != 0,
            exit_code: (record.exiting != 0).then_some(record.exit_code),
            death: None,
        },
    })
}

fn listening(record: &record::Listening) -> Option<Listening> {
    Some(Listening {
        socket: record.socket,
        inode: record.inode,
        address: socket_address(&record.address)?,
        netns: record.netns.into(),
        ifindex: record.ifindex,
        v6only: record.v6only != 0,
        thread: thread(&record.task),
        dying: (record.exiting != 0).then_some(record.exit_code),
    })
}

fn of_segment(segment: &record::Segment, beside: &Beside) -> Circumstances {
    circumstances(segment.ttl, segment.ifindex, beside)
}

fn circumstances(ttl: u8, device: u32, beside: &Beside) -> Circumstances {
    Circumstances {
        ttl,
        mark: beside.mark,
        device,
        input: beside.input,
        output: beside.output,
        generation: (beside.generation != NONE).then_some(beside.generation),
        functions: Vec::new(),
        rule: None,
        rules_watched: false,
    }
}

fn segment(segment: &record::Segment) -> Option<Segment> {
    Some(Segment {
        from: socket_address(&segment.from)?,
        to: socket_address(&segment.to)?,
        sequence: segment.sequence,
        flags: segment.flags,
    })
}

/// An abstract path begins with a NUL and has no end but its length; any other ends at a NUL.
fn unix_path(path: &[u8]) -> Vec<u8> {
    match path.first() {
        Some(0) => path.to_vec(),
        _ => path
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
            .to_vec(),
    }
}

fn thread(task: &Task) -> Thread {
    let name = task
        .comm
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    Thread {
        pid: task.tgid,
        tid: task.tid,
        comm: String::from_utf8_lossy(name).into_owned(),
    }
}

/// The address as it was handed to `connect()`: a v4-mapped one stays in its IPv6 form.
fn handed_over(address: &Address) -> Option<SocketAddr> {
    let canonical = socket_address(address)?;
    match (address.family, canonical) {
        (INET6, SocketAddr::V4(v4)) => {
            let ip = v4.ip().to_ipv6_mapped();
            Some(SocketAddr::new(IpAddr::V6(ip), v4.port()))
        }
        _ => Some(canonical),
    }
}

/// A v4-mapped address is IPv4, whatever the socket's family: that is what crosses the wire.
/// Null for what is no internet address.
pub fn socket_address(address: &Address) -> Option<SocketAddr> {
    if address.family != INET && address.family != INET6 {
        return None;
    }
    let ip = Ipv6Addr::from(address.ip);
    Some(match ip.to_ipv4_mapped() {
        Some(ip) => SocketAddr::new(IpAddr::V4(ip), address.port),
        None => SocketAddr::V6(std::net::SocketAddrV6::new(
            ip,
            address.port,
            0,
            address.scope,
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_ipv4_and_an_empty_one_is_none() {
        assert_eq!(
            socket_address(&Address::v4([127, 0, 0, 1], 80)),
            Some("127.0.0.1:80".parse().expect("address"))
        );
        assert_eq!(
            socket_address(&Address::v6(Ipv6Addr::LOCALHOST.octets(), 80, 0)),
            Some("[::1]:80".parse().expect("address"))
        );
        assert_eq!(socket_address(&Address::NONE), None);
    }

    #[test]
    fn a_path_ends_at_its_nul_unless_it_is_abstract() {
        assert_eq!(unix_path(b"/run/app.sock\0\0x"), b"/run/app.sock");
        assert_eq!(unix_path(b"\0app\0x"), b"\0app\0x");
    }
}
