//! What a failed attempt is called, and how sure the evidence makes us.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The cause of a failed attempt, as users script against it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    NoListener,
    WrongPort,
    WrongAddress,
    BoundNotListening,
    ListenerExited,
    ListenerKilled,
    ListenerOomKilled,
    ListenerClosed,
    OtherNetns,
    AcceptQueueFull,
    SynQueueFull,
    FirewallReject,
    FirewallDrop,
    PacketDropped,
    RouteRefused,
    NeighbourUnreachable,
    IcmpUnreachable,
    RemoteRefused,
    NoAnswer,
    SelfConnect,
    StaleDns,
    PortsExhausted,
    BindFailed,
    FdLimit,
    PolicyDenied,
    UnixMissing,
    UnixBadPath,
    UnixPermission,
    UnixNoListener,
    UnixNotASocket,
    UnixWrongType,
    UnixBacklogFull,
    ResetByBackend,
    ClosedByBackend,
    SocketAborted,
    KeepaliveRace,
    ResetUnaccepted,
    BackendSilent,
    ProtocolMismatch,
    ResolverFailed,
    NoLiveUpstreams,
    NginxLimit,
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
    pub code: Code,
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
    pub code: Code,
    pub why: String,
}

/// Everything that diagnosis says about one case: the verdict, and the things of the case that
/// it points at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
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
    pub rule: Option<crate::event::Rule>,
    /// The real destination where it differs from the dialled one.
    pub translated_to: Option<std::net::SocketAddr>,
}
