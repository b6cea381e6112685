//! What a failed attempt is called, and how sure the evidence makes us.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The cause of a failed attempt, as users script against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The target is on this host, in any of its namespaces; no socket has listened there since
    /// before the trace, and none was seen to end.
    NoListener,
    /// As `no-listener`, and a listener stands on another port that is plausibly the one meant
    /// (`candidates`); at most `probable`.
    WrongPort,
    /// The port is listened on, but not for this address: another local address, the other family,
    /// IPv6-only, or bound to another device.
    WrongAddress,
    /// A socket is bound there that never called listen.
    BoundNotListening,
    /// It listened; its process ended by itself (status).
    ListenerExited,
    /// It listened; a signal ended its process (signal, core dump or not).
    ListenerKilled,
    /// It listened; the OOM killer (or its cgroup's limit) ended its process.
    ListenerOomKilled,
    /// It listened; its process closed the socket and lives on.
    ListenerClosed,
    /// The address and port are listened on in another network namespace of this host.
    OtherNetns,
    /// The listener's accept queue was full: SYN or last ACK dropped, or answered with a reset.
    AcceptQueueFull,
    /// The listener's SYN queue was full: half-open requests, no cookies.
    SynQueueFull,
    /// A netfilter rule or policy of this host (any of its namespaces) rejected it.
    FirewallReject,
    /// As `firewall-reject`, but dropped silently; also when the SYN-ACK on its way back was
    /// dropped.
    FirewallDrop,
    /// The kernel dropped the SYN or its answer elsewhere and says why (drop reason in `because`):
    /// an XDP, tc or cgroup program, rp_filter, MD5 or AO mismatch, checksum, queue, ….
    PacketDropped,
    /// This host's routing refused: unreachable, prohibit, blackhole, throw or no route, a policy
    /// rule, link down, broadcast.
    RouteRefused,
    /// The next hop or the host does not answer ARP or ND.
    NeighbourUnreachable,
    /// A router or the remote host answered with an ICMP error (type, code, sender in `because`).
    IcmpUnreachable,
    /// A reset came from off this host: nothing listens there, or something in between forged it.
    RemoteRefused,
    /// SYNs left this host, nothing came back, and nothing here dropped them.
    NoAnswer,
    /// The dialled port lies in the ephemeral range, nobody listens, and the socket connected to
    /// itself.
    SelfConnect,
    /// nginx dials an address that its configured name no longer has (it resolved the name when it
    /// started).
    StaleDns,
    /// No free local port for this destination.
    PortsExhausted,
    /// `proxy_bind` could not bind (address not here, or in use).
    BindFailed,
    /// The worker had no free file descriptor.
    FdLimit,
    /// A security policy denied the call: SELinux, AppArmor, another LSM, a cgroup BPF program,
    /// seccomp (`verdict.policy` says which).
    PolicyDenied,
    /// Nothing at the path as nginx sees it (dangling symlink; other mount namespace or root where
    /// that is so).
    UnixMissing,
    /// The path cannot be walked: not a directory, symlink loop, too long.
    UnixBadPath,
    /// The worker may not reach or write the socket file: which path component, which bit, for
    /// which user.
    UnixPermission,
    /// A socket file that no socket listens behind: stale, or bound only.
    UnixNoListener,
    /// The path is a file or a directory.
    UnixNotASocket,
    /// A socket of another type.
    UnixWrongType,
    /// The listener's backlog was full.
    UnixBacklogFull,
    /// The connection stood; the backend (or the kernel for it) reset it before a complete
    /// response.
    ResetByBackend,
    /// The connection stood; the backend closed it before a complete response.
    ClosedByBackend,
    /// Somebody on this host destroyed nginx's socket (`ss -K`, sock_diag).
    SocketAborted,
    /// A cached connection was reset or closed by the backend as nginx reused it.
    KeepaliveRace,
    /// The connection waited in the accept queue of a listener that closed or died.
    ResetUnaccepted,
    /// The connection stands, the request was delivered, and no response came before nginx gave up.
    BackendSilent,
    /// TCP was fine; backend and nginx speak different protocols (TLS to plain text, HTTP/2 to
    /// HTTP/1, garbage).
    ProtocolMismatch,
    /// nginx could not resolve the upstream's name: no connection was tried.
    ResolverFailed,
    /// nginx tried nobody: every server is marked down, failed out or at its limit (the failures
    /// that led there are referred to).
    NoLiveUpstreams,
    /// nginx's own limit stopped it (`worker_connections`, …).
    NginxLimit,
    /// The evidence does not decide; `missing` says what would have.
    Undetermined,
}

impl Code {
    /// Every code, in the order in which the documentation lists them.
    pub const ALL: [Code; 43] = [
        Code::NoListener,
        Code::WrongPort,
        Code::WrongAddress,
        Code::BoundNotListening,
        Code::ListenerExited,
        Code::ListenerKilled,
        Code::ListenerOomKilled,
        Code::ListenerClosed,
        Code::OtherNetns,
        Code::AcceptQueueFull,
        Code::SynQueueFull,
        Code::FirewallReject,
        Code::FirewallDrop,
        Code::PacketDropped,
        Code::RouteRefused,
        Code::NeighbourUnreachable,
        Code::IcmpUnreachable,
        Code::RemoteRefused,
        Code::NoAnswer,
        Code::SelfConnect,
        Code::StaleDns,
        Code::PortsExhausted,
        Code::BindFailed,
        Code::FdLimit,
        Code::PolicyDenied,
        Code::UnixMissing,
        Code::UnixBadPath,
        Code::UnixPermission,
        Code::UnixNoListener,
        Code::UnixNotASocket,
        Code::UnixWrongType,
        Code::UnixBacklogFull,
        Code::ResetByBackend,
        Code::ClosedByBackend,
        Code::SocketAborted,
        Code::KeepaliveRace,
        Code::ResetUnaccepted,
        Code::BackendSilent,
        Code::ProtocolMismatch,
        Code::ResolverFailed,
        Code::NoLiveUpstreams,
        Code::NginxLimit,
        Code::Undetermined,
    ];

    /// The code as it stands in events and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::NoListener => "no-listener",
            Code::WrongPort => "wrong-port",
            Code::WrongAddress => "wrong-address",
            Code::BoundNotListening => "bound-not-listening",
            Code::ListenerExited => "listener-exited",
            Code::ListenerKilled => "listener-killed",
            Code::ListenerOomKilled => "listener-oom-killed",
            Code::ListenerClosed => "listener-closed",
            Code::OtherNetns => "other-netns",
            Code::AcceptQueueFull => "accept-queue-full",
            Code::SynQueueFull => "syn-queue-full",
            Code::FirewallReject => "firewall-reject",
            Code::FirewallDrop => "firewall-drop",
            Code::PacketDropped => "packet-dropped",
            Code::RouteRefused => "route-refused",
            Code::NeighbourUnreachable => "neighbour-unreachable",
            Code::IcmpUnreachable => "icmp-unreachable",
            Code::RemoteRefused => "remote-refused",
            Code::NoAnswer => "no-answer",
            Code::SelfConnect => "self-connect",
            Code::StaleDns => "stale-dns",
            Code::PortsExhausted => "ports-exhausted",
            Code::BindFailed => "bind-failed",
            Code::FdLimit => "fd-limit",
            Code::PolicyDenied => "policy-denied",
            Code::UnixMissing => "unix-missing",
            Code::UnixBadPath => "unix-bad-path",
            Code::UnixPermission => "unix-permission",
            Code::UnixNoListener => "unix-no-listener",
            Code::UnixNotASocket => "unix-not-a-socket",
            Code::UnixWrongType => "unix-wrong-type",
            Code::UnixBacklogFull => "unix-backlog-full",
            Code::ResetByBackend => "reset-by-backend",
            Code::ClosedByBackend => "closed-by-backend",
            Code::SocketAborted => "socket-aborted",
            Code::KeepaliveRace => "keepalive-race",
            Code::ResetUnaccepted => "reset-unaccepted",
            Code::BackendSilent => "backend-silent",
            Code::ProtocolMismatch => "protocol-mismatch",
            Code::ResolverFailed => "resolver-failed",
            Code::NoLiveUpstreams => "no-live-upstreams",
            Code::NginxLimit => "nginx-limit",
            Code::Undetermined => "undetermined",
        }
    }
}

/// Derived, it would be an alternative with a description for each code, and no plain list.
impl JsonSchema for Code {
    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The cause of a failed attempt, as users script against it.",
            "type": "string",
            "enum": Code::ALL.map(Code::as_str).as_slice(),
        })
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A word that is no verdict code.
#[derive(Debug, thiserror::Error)]
#[error("no verdict code is called {0:?}; `whyrefused explain` lists them")]
pub struct UnknownCode(String);

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Code::ALL
            .into_iter()
            .find(|code| code.as_str() == word)
            .ok_or_else(|| UnknownCode(word.to_owned()))
    }
}

/// How far the evidence carries the verdict. The order is from weak to strong.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The evidence allows it; another story would fit as well.
    Possible,
    /// The evidence leaves one likely story.
    Probable,
    /// The kernel said so.
    Certain,
}

/// What diagnosis concludes about one case. Everything in it is a claim that the case's
/// evidence supports; nothing is read from the host to make it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// What happened.
    pub code: Code,
    /// How sure that is.
    pub confidence: Confidence,
    /// One sentence that a tired person understands.
    pub summary: String,
    /// The evidence in plain words, in time order.
    pub because: Vec<String>,
    /// Causes that look the same, and what excludes them.
    pub ruled_out: Vec<RuledOut>,
    /// Evidence that would have decided more and that this host could not give.
    pub missing: Vec<String>,
    /// What to do, the narrowest step first. Commands where a command does it.
    pub fix: Vec<String>,
    /// For `policy-denied`, which policy it was: `selinux`, `apparmor`, `landlock`, `bpf-lsm`,
    /// `cgroup-bpf`, `seccomp`, or the name of another security module; null where that is not
    /// known, and for every other code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A cause that looks the same and is excluded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RuledOut {
    /// The cause that it was not.
    pub code: Code,
    /// The evidence against it, in words.
    pub why: String,
}

/// Everything that diagnosis says about one case: the verdict, and the things of the case that
/// it points at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What happened, and why that is known.
    pub verdict: Verdict,
    /// Where nginx met the failure.
    pub surface: crate::event::Surface,
    /// The error number that reached nginx, positive; null where none did.
    pub errno: Option<i32>,
    /// The socket that should have answered, or that did until it ended.
    pub listener: Option<crate::case::Listener>,
    /// How `listener` ended, where it did.
    pub ended: Option<(crate::case::KernelTime, crate::case::Death)>,
    /// Listeners that nginx may have been meant to dial, best first.
    pub candidates: Vec<crate::case::Listener>,
    /// The same for a Unix socket: the one at the dialled path.
    #[serde(default)]
    pub unix_listener: Option<crate::case::UnixSocket>,
    /// Listeners on Unix sockets that nginx may have been meant to dial, best first.
    #[serde(default)]
    pub unix_candidates: Vec<crate::case::UnixSocket>,
    /// The packet filter's rule that did it.
    pub rule: Option<crate::event::Rule>,
    /// The real destination where it differs from the dialled one.
    pub translated_to: Option<std::net::SocketAddr>,
}
