//! Small cases for tests, to be varied.

use std::net::SocketAddr;

use crate::case::*;

/// nginx's network namespace in every example.
pub(crate) const OWN: Netns = 100;
/// Another namespace of the host.
pub(crate) const OTHER: Netns = 200;
/// When every example calls `connect()`.
pub(crate) const START: KernelTime = 10_000_000_000;
pub(crate) const MILLISECOND: KernelTime = 1_000_000;
pub(crate) const SECOND: KernelTime = 1_000_000_000;

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

/// An attempt that ended after 0.1 ms, about which nothing else is known.
pub(crate) fn case(dialled: &str, ending: Ending) -> Case {
    let dialled = address(dialled);
    Case {
        worker: Worker {
            pid: 4242,
            master_pid: Some(4200),
            exe: Some("/usr/sbin/nginx".to_owned()),
            config: Some("/etc/nginx/nginx.conf".to_owned()),
            netns: OWN,
            container: None,
            uid: Some(33),
        },
        attempt: Attempt {
            family: if dialled.is_ipv4() {
                Family::Ipv4
            } else {
                Family::Ipv6
            },
            dialled: Some(Endpoint::Inet(dialled)),
            local: None,
            remote: Some(dialled),
            bound: None,
            started: START,
            ended: START + MILLISECOND / 10,
            ending,
            upstream_name: None,
            upstream_server: None,
            connect_timeout_ms: Some(60_000),
        },
        timeline: Vec::new(),
        host: HostFacts::default(),
        log: None,
        connection: None,
        earlier: Vec::new(),
        coverage: Coverage::default(),
    }
}

/// An attempt that nginx gave up after this many milliseconds, which is its connect timeout.
pub(crate) fn silent(dialled: &str, milliseconds: u64) -> Case {
    let mut case = case(dialled, Ending::GaveUp);
    case.attempt.ended = START + milliseconds * MILLISECOND;
    case.attempt.connect_timeout_ms = Some(milliseconds);
    case
}

/// What nginx met 50 ms after `connect()` on a connection to this host that stood since 1 ms after
/// it, and over which its request went at once.
pub(crate) fn after_connect(phase: Phase, met: Met, errno: Option<i32>) -> Case {
    let mut case = case("127.0.0.1:9101", Ending::AfterConnect { phase, met, errno });
    case.attempt.local = Some(address("127.0.0.1:40112"));
    case.attempt.ended = START + 50 * MILLISECOND;
    case.host.owners = vec![OWN];
    case.host.listeners = vec![listener("127.0.0.1:9101", OWN, "app")];
    case.connection = Some(Connection {
        established: START + MILLISECOND,
        broken: None,
        error: errno,
        bytes_sent: Some(80),
        bytes_received: Some(0),
        last_sent: Some(START + MILLISECOND),
        last_received: Some(START),
        tick: 4 * MILLISECOND,
        unacknowledged: Some(0),
        unsent: Some(0),
        retransmissions: Some(0),
        round_trip_us: Some(50),
    });
    case
}

/// The same where nginx said so.
pub(crate) fn complained(phase: Phase, met: Met, message: &str) -> Case {
    let text = format!("2026/11/22 06:10:00 [error] 1#1: *1 {message}, client: 10.0.0.9");
    let mut case = after_connect(phase, met, None);
    case.log = crate::nginx::error_log::parse(text.as_bytes());
    case
}

/// The same on a connection that had carried a request five seconds earlier.
pub(crate) fn after_reuse(phase: Phase, met: Met, errno: Option<i32>) -> Case {
    let mut case = after_connect(phase, met, errno);
    case.attempt.ended = START + 5 * SECOND + 50 * MILLISECOND;
    if let Some(connection) = &mut case.connection {
        connection.bytes_received = Some(120);
        connection.last_received = Some(START + 2 * MILLISECOND);
        connection.last_sent = Some(START + 5 * SECOND);
    }
    case
}

/// How the backend of [`after_connect`] ended the connection.
pub(crate) fn peer_ended(how: PeerEnd, reason: &str) -> Fact {
    Fact::PeerEnded(PeerEnded {
        how,
        netns: OWN,
        reason: Some(reason.to_owned()),
        pid: 977,
        comm: "app".to_owned(),
        accepted: true,
        listening: false,
        exit_code: None,
        death: None,
    })
}

/// A refusal by the TCP stack of a namespace: reset sent, SYN freed, reset received.
pub(crate) fn refused(dialled: &str, netns: Netns) -> Case {
    let mut case = refused_from_afar(dialled);
    case.host.owners = vec![netns];
    let segment = syn(dialled);
    case.timeline.splice(
        0..0,
        [
            observed(
                10,
                Fact::ResetSent {
                    netns,
                    reason: Some("NO_SOCKET".to_owned()),
                    segment,
                },
            ),
            observed(11, drop_of(dialled, netns, "NO_SOCKET", None)),
        ],
    );
    case
}

/// A reset whose origin no record shows, from an address that this host does not own.
pub(crate) fn refused_from_afar(dialled: &str) -> Case {
    let mut case = case(
        dialled,
        Ending::SocketError {
            errno: libc::ECONNREFUSED,
        },
    );
    case.timeline = vec![observed(20, Fact::ResetReceived)];
    case
}

/// A fact, this many microseconds after `connect()`.
pub(crate) fn observed(microseconds: u64, fact: Fact) -> Observed {
    Observed {
        at: START + microseconds * 1_000,
        fact,
    }
}

pub(crate) fn syn(to: &str) -> Segment {
    let to = address(to);
    let from = if to.is_ipv4() {
        "127.0.0.1:40112"
    } else {
        "[::1]:40112"
    };
    Segment {
        from: address(from),
        to,
        sequence: 1,
        flags: 0x02,
    }
}

/// nginx's own packet, freed for a reason.
pub(crate) fn drop_of(to: &str, netns: Netns, reason: &str, hook: Option<Hook>) -> Fact {
    Fact::Dropped {
        netns,
        reason: reason.to_owned(),
        location: None,
        hook,
        answer: false,
        segment: syn(to),
        circumstances: None,
    }
}

/// The answer to nginx, freed for a reason.
pub(crate) fn answer_drop(from: &str, netns: Netns, reason: &str, hook: Option<Hook>) -> Fact {
    let sent = syn(from);
    Fact::Dropped {
        netns,
        reason: reason.to_owned(),
        location: None,
        hook,
        answer: true,
        segment: Segment {
            from: sent.to,
            to: sent.from,
            sequence: 7,
            flags: 0x12,
        },
        circumstances: None,
    }
}

pub(crate) fn icmp_sent(to: &str, netns: Netns, kind: u8, code: u8, hook: Option<Hook>) -> Fact {
    let segment = syn(to);
    let icmp = Icmp {
        kind,
        code,
        v6: segment.to.is_ipv6(),
    };
    Fact::IcmpSent {
        netns,
        icmp,
        hook,
        segment,
        circumstances: None,
    }
}

pub(crate) fn icmp_received(from: &str, kind: u8, code: u8) -> Fact {
    let from: std::net::IpAddr = from.parse().expect("an address");
    Fact::IcmpReceived {
        from,
        icmp: Icmp {
            kind,
            code,
            v6: from.is_ipv6(),
        },
    }
}

pub(crate) fn process(pid: u32, comm: &str) -> Process {
    Process {
        pid,
        comm: comm.to_owned(),
        exe: None,
        unit: None,
        container: None,
        nginx: false,
    }
}

pub(crate) fn listener(at: &str, netns: Netns, comm: &str) -> Listener {
    Listener {
        address: address(at),
        v6only: false,
        device: None,
        netns,
        queue: None,
        since: None,
        owners: vec![process(977, comm)],
    }
}

/// A listener that ended one second before `connect()`.
pub(crate) fn ended(at: &str, netns: Netns, death: Death) -> EndedListener {
    EndedListener {
        listener: listener(at, netns, "python3"),
        at: START - SECOND,
        death,
    }
}

pub(crate) fn route(error: Option<i32>, kind: &str, line: Option<&str>) -> Route {
    Route {
        error,
        kind: Some(kind.to_owned()),
        gateway: None,
        device: None,
        link_up: None,
        source: None,
        table: None,
        line: line.map(str::to_owned),
        by_rule: false,
    }
}

pub(crate) fn neighbour(address: &str, state: &str) -> Neighbour {
    Neighbour {
        address: address.parse().expect("an address"),
        device: "eth0".to_owned(),
        state: state.to_owned(),
        netns: OWN,
    }
}
