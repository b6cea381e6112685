//! One attempt of one nginx worker, with everything that was observed and read about it.
//!
//! A case is plain data: it is recorded as JSON, replayed without root, and is all that
//! diagnosis may look at. Times are kernel time, see [`KernelTime`].

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

mod connection;
mod denial;
mod names;
mod packet_filter;
mod policy;
mod programs;
mod queues;
mod rule_met;
mod unix;

pub use connection::{Connection, Earlier, Met, Peer, PeerEnd, PeerEnded, Phase, Undialled};
pub use names::{ConfiguredName, NameSource, Names, Resolution, Resolved};
pub use packet_filter::{
    Action, Backend, Circumstances, Family as FilterFamily, Filtering, Fitting, KnownBy, Purpose,
};
pub use policy::{Denial, Module, Policies};
pub use programs::{AttachedProgram, ProgramPlace};
pub use queues::Waiting;
pub use rule_met::{Memory, RuleEnd, RuleMet, RuleOwner};
pub use unix::{
    Access, Credentials, EndedUnixListener, FileKind, Mapped, Refusal, RefusedBy, Relation,
    SocketKind, Step, UnixCandidate, UnixFacts, UnixSocket, Walk, WalkEnd,
};

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns`.
pub type KernelTime = u64;

/// The inode number of a network namespace, as `/proc/PID/ns/net` shows it.
pub type Netns = u64;

/// A failed attempt and the evidence about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub worker: Worker,
    pub attempt: Attempt,
    /// What the kernel reported about this attempt, in time order.
    pub timeline: Vec<Observed>,
    /// What was read from the host about the dialled address, at the time of the failure.
    pub host: HostFacts,
    /// The line that the worker wrote to its error log about this attempt.
    pub log: Option<LogLine>,
    /// The connection, where it stood and nginx closed it right after complaining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// What led to the failure, in time order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Earlier>,
    pub coverage: Coverage,
}

/// The nginx worker that made the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Worker {
    /// In the pid namespace of this tool.
    pub pid: u32,
    pub master_pid: Option<u32>,
    pub exe: Option<String>,
    pub config: Option<String>,
    pub netns: Netns,
    pub container: Option<String>,
    /// Effective user id; null where the worker was gone before it could be read.
    pub uid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub family: Family,
    /// What nginx handed to `connect()`; null where it never got that far.
    pub dialled: Option<Endpoint>,
    /// The socket's own address, as far as it was chosen.
    pub local: Option<SocketAddr>,
    /// The socket's destination; differs from `dialled` where a cgroup program rewrote it.
    pub remote: Option<SocketAddr>,
    /// What nginx tried to bind before dialling (`proxy_bind`).
    pub bound: Option<SocketAddr>,
    pub started: KernelTime,
    pub ended: KernelTime,
    pub ending: Ending,
    /// The upstream's name in the configuration and the place of its `server` line.
    pub upstream_name: Option<String>,
    pub upstream_server: Option<String>,
    /// The `*_connect_timeout` that applies to this upstream, in milliseconds, where the
    /// configuration leaves one answer.
    pub connect_timeout_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
    Unix,
}

/// An address as a program hands it to `connect()`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    Inet(SocketAddr),
    /// The bytes of the path, without the terminating NUL; abstract ones start with a NUL.
    Unix(Vec<u8>),
}

/// How the attempt ended. Error numbers are positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Ending {
    /// `socket()` failed.
    SocketFailed { errno: i32 },
    /// `bind()` failed.
    BindFailed { errno: i32 },
    /// `connect()` itself returned an error. `reached_syn_sent` tells whether the socket had
    /// entered SYN_SENT before: routing and policies refuse before that, the search for a free
    /// port after it (`tcp_v4_connect`).
    ConnectFailed { errno: i32, reached_syn_sent: bool },
    /// SYN_SENT ended with an error in `sk_err`, which nginx reads by `SO_ERROR`.
    SocketError { errno: i32 },
    /// nginx closed the socket in SYN_SENT without a hard error.
    GaveUp,
    /// The connection stood, yet the attempt is a failure all the same (self-connect).
    Established,
    /// The connection stood, and nginx complained of it afterwards. `errno` is what it logged.
    AfterConnect {
        phase: Phase,
        met: Met,
        errno: Option<i32>,
    },
    /// nginx dialled nobody.
    Undialled { cause: Undialled },
}

/// A fact with the time at which the kernel met it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub at: KernelTime,
    #[serde(flatten)]
    pub fact: Fact,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fact")]
pub enum Fact {
    /// nginx's socket received a reset (`tcp_reset`).
    ResetReceived,
    /// This host's TCP answered a segment of the attempt with a reset.
    ResetSent {
        netns: Netns,
        /// Name of the `sk_rst_reason` without its prefix, such as `NO_SOCKET`.
        reason: Option<String>,
        /// The segment that was answered: from nginx's side to the target.
        segment: Segment,
    },
    /// The kernel freed a packet of the attempt with a drop reason.
    Dropped {
        netns: Netns,
        /// Name of the `skb_drop_reason` without its prefix, such as `NO_SOCKET`.
        reason: String,
        /// The function that freed it, where its symbol is known.
        location: Option<String>,
        /// The hook that was being run, where the kernel's stack tells.
        hook: Option<Hook>,
        /// The packet is an answer to nginx (a SYN-ACK or a reset), not nginx's own.
        answer: bool,
        segment: Segment,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        circumstances: Option<Circumstances>,
    },
    /// A packet filter of this host freed a packet of ARP or IPv6 neighbour discovery that was
    /// about the attempt's next hop.
    NeighbourPacketDropped {
        netns: Netns,
        hook: Option<Hook>,
        /// Whose link-layer address is asked for or told.
        wanted: IpAddr,
        /// Who asks or is told; null where the packet does not say.
        asker: Option<IpAddr>,
        /// An ARP reply or a neighbour advertisement, not a question.
        answer: bool,
        circumstances: Circumstances,
    },
    /// This host sent an ICMP error about a packet of the attempt.
    IcmpSent {
        netns: Netns,
        icmp: Icmp,
        hook: Option<Hook>,
        segment: Segment,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        circumstances: Option<Circumstances>,
    },
    /// An ICMP error about the attempt arrived in nginx's network namespace.
    IcmpReceived { from: IpAddr, icmp: Icmp },
    /// The SYN was sent again. `error` is what sending it returned: 0 it left, -1 dropped on the
    /// way out, 1 dropped by the queueing discipline, -16 the previous one still waits in the
    /// neighbour queue; null where the tracepoint does not carry it.
    Retransmitted { error: Option<i32> },
    /// A client connection of the same worker that its client had already closed was closed in
    /// the same turn of its event loop.
    ClientClosed { client: Option<SocketAddr> },
    /// `connect()` returned without having been entered: a seccomp filter answered in its place.
    CallIntercepted,
    /// The kernel's security modules answered the call with that error
    /// (`security_socket_connect`, `security_unix_stream_connect`).
    SecurityDenied { errno: i32 },
    /// The kernel audited that a security module denied this process something.
    Audited { denial: Denial },
    /// The peer's FIN arrived.
    FinReceived,
    /// The other end of the connection, on this host, ended it.
    PeerEnded(PeerEnded),
}

/// A TCP segment's header, the side that nginx is on first where it is nginx's own packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub sequence: u32,
    /// The flag byte of the TCP header.
    pub flags: u8,
}

/// An ICMP or ICMPv6 error, the family as in the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub v6: bool,
}

/// A netfilter hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
}

/// What was read from the host, as far as the case asked for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Network namespaces that own the dialled address, or the one that it was translated to as
    /// far as that is known, nginx's own first. Loopback addresses belong to nginx's namespace
    /// alone.
    pub owners: Vec<Netns>,
    /// The namespace at which the way to that address ends, followed from nginx's own by
    /// routes and neighbour entries. Null where only nginx's namespace, if any, owns the address,
    /// and where the way leads off this host or cannot be followed.
    #[serde(default)]
    pub far_end: Option<Netns>,
    /// The network namespace that this tool runs in: commands for another one need `nsenter`.
    #[serde(default)]
    pub tool_netns: Option<Netns>,
    /// Paths that lead to the network namespaces in which packets were stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrances: Vec<(Netns, String)>,
    /// Listening sockets on the dialled port in any namespace, and every listening socket of the
    /// namespaces in `owners` and of the one in which the SYN arrived.
    pub listeners: Vec<Listener>,
    /// Sockets that listened on the dialled port and ended while we watched, the newest last.
    pub ended: Vec<EndedListener>,
    /// Whether a socket that would have taken the connection may have ended unnoticed: the report
    /// of its end was lost, or is forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end_lost: bool,
    /// TCP sockets bound to the dialled port that do not listen.
    pub bound: Vec<BoundSocket>,
    /// Whether nothing on this host lists such sockets, so that `bound` being empty says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bound_unlisted: bool,
    /// Whether a UDP socket is bound to the dialled port where the SYN arrived.
    pub udp_on_port: bool,
    /// The kernel's answer to "how do I reach this address", asked as that worker.
    pub route: Option<Route>,
    pub neighbour: Option<Neighbour>,
    pub ports: Option<LocalPorts>,
    pub descriptors: Option<Descriptors>,
    /// Ports that the nginx of this case is configured to dial or listen on elsewhere: a listener
    /// there serves somebody else.
    pub ports_spoken_for: Vec<u16>,
    /// Filter mode of the worker's seccomp state (`Seccomp:` of `/proc/PID/status` is 2).
    pub seccomp_filter: Option<bool>,
    /// What the packet filters that packets of the attempt met make of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filterings: Vec<Filtering>,
    /// Whose rules the command `iptables` shows here, where it is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iptables: Option<Backend>,
    /// The destination to which connection tracking translates this connection, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracked_to: Option<SocketAddr>,
    /// Programs attached where a packet was dropped or a call was refused or rewritten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<AttachedProgram>,
    /// What waits in front of the listeners that the SYN may have been for, where nobody answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
    /// What can have denied a call of the worker, where one was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Policies>,
    /// Names of the interfaces on which packets of the attempt were dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Namespaces that dropped a packet from an address that is their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources_at_home: Vec<Netns>,
    /// About a Unix socket that was dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix: Option<UnixFacts>,
    /// The other end of the connection, where it is on this host and was still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// The names behind the dialled address, where one may no longer have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// What could not be read, and why, in words.
    #[serde(default)]
    pub unread: Vec<String>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    pub netns: Netns,
    pub index: u32,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub address: SocketAddr,
    /// For a socket on `::`: it takes no IPv4.
    pub v6only: bool,
    /// Name of the interface that `SO_BINDTODEVICE` ties it to.
    pub device: Option<String>,
    pub netns: Netns,
    /// Connections that wait to be accepted, and the limit, where read.
    pub queue: Option<Queue>,
    /// When it began to listen; null where that was before the trace.
    pub since: Option<KernelTime>,
    /// Who holds it, the likeliest to serve it first.
    pub owners: Vec<Process>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    pub length: u32,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub comm: String,
    pub exe: Option<String>,
    /// The systemd unit by its cgroup.
    pub unit: Option<String>,
    /// The container's id by its cgroup, twelve characters.
    pub container: Option<String>,
    /// It is a process of an nginx.
    pub nginx: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedListener {
    pub listener: Listener,
    pub at: KernelTime,
    pub death: Death,
}

/// How a listening socket ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Death {
    /// The process closed it and lives on.
    Closed,
    /// The process ended by itself.
    Exited { status: i32 },
    /// A signal ended the process.
    Killed {
        signal: i32,
        core: bool,
        /// Who sent it, where it was another process and was seen.
        sender: Option<Sender>,
    },
    /// The OOM killer chose the process.
    OomKilled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub pid: u32,
    pub comm: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSocket {
    pub address: SocketAddr,
    pub netns: Netns,
    pub owners: Vec<Process>,
}

/// The answer to a route request (`RTM_GETROUTE`) for the dialled address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The error number of the answer, positive; null where a route was found.
    pub error: Option<i32>,
    /// `unicast`, `local`, `broadcast`, `multicast`, `unreachable`, `prohibit`, `blackhole`,
    /// `throw`.
    pub kind: Option<String>,
    pub gateway: Option<IpAddr>,
    pub device: Option<String>,
    /// The device has its link up; null where there is no device.
    pub link_up: Option<bool>,
    pub source: Option<IpAddr>,
    pub table: Option<u32>,
    /// The line of `ip route` or `ip rule` that answers so, as these print it, where found.
    pub line: Option<String>,
    /// `line` is a policy rule, not a route.
    pub by_rule: bool,
}

/// The entry of the next hop in the neighbour table (`RTM_GETNEIGH`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    pub address: IpAddr,
    pub device: String,
    /// `incomplete`, `reachable`, `stale`, `delay`, `probe`, `failed`, `noarp`, `permanent`,
    /// `none`.
    pub state: String,
    pub netns: Netns,
}

/// How the local ports towards one destination are used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPorts {
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub first: u16,
    pub last: u16,
    /// Sockets towards this destination by state, such as `TIME_WAIT`, most first.
    pub by_state: Vec<(String, u32)>,
    /// Processes that hold them, most first.
    pub holders: Vec<(Process, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// The soft `RLIMIT_NOFILE` of the worker.
    pub limit: u64,
    pub open: u64,
}

/// A line of nginx's error log about an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct LogLine {
    pub text: String,
    pub level: Option<String>,
    /// The part between the connection number and ` while `.
    pub message: Option<String>,
    /// What stands behind `while`.
    pub action: Option<String>,
    pub connection: Option<u64>,
    pub client: Option<String>,
    pub server: Option<String>,
    pub request: Option<String>,
    pub upstream: Option<String>,
    pub host: Option<String>,
    pub referrer: Option<String>,
    /// nginx cut it off: fields that are missing may have been there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// What could be observed while the attempt was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Observations that nothing could be attached for, by name.
    pub unavailable: Vec<String>,
    /// Records were lost while the attempt was made: evidence may be incomplete.
    pub lost_records: bool,
    /// Packets of ARP or neighbour discovery that a packet filter dropped were more than are told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost_neighbours: bool,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, in nanoseconds: turns kernel time into dates.
    pub wall_offset_ns: i64,
    /// When the trace began.
    pub traced_since: KernelTime,
}
