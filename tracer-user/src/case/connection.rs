//! A connection that stood, and what became of it.

use serde::{Deserialize, Serialize};

use super::{Death, KernelTime, Netns, Process};

/// What nginx was doing with a connection that stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It took the connection, fresh or kept from before, and had not sent its request.
    Connecting,
    /// The TLS handshake.
    Handshake,
    Sending,
    AwaitingResponse,
    /// The header of the response was there, the rest was not.
    ReadingResponse,
    /// A stream, or a connection that was upgraded.
    Proxying,
}

/// What nginx met on a connection that stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Met {
    /// `SO_ERROR` gave an error.
    SocketError,
    ReceiveError,
    SendError,
    /// The other end closed before the response was complete.
    Closed,
    /// The other end ended the response within its protocol before it was complete, whatever
    /// became of the connection: by a record of FastCGI, or a frame of HTTP/2.
    EndedInProtocol,
    /// nginx waited as long as it was told to.
    Timeout,
    /// The TLS handshake failed, or the certificate was not accepted.
    Tls,
    /// What arrived is no response of the protocol.
    Malformed,
    /// The response is fine and does not fit nginx's buffers.
    TooBig,
}

/// Why nginx dialled nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undialled {
    NoLiveUpstreams,
    Unresolved,
    /// `worker_connections` are used up.
    OutOfConnections,
}

/// The connection as nginx closed it. Numbers are null where the kernel does not keep them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub established: KernelTime,
    /// When the socket got the error that ended it.
    pub broken: Option<KernelTime>,
    /// That error, positive.
    pub error: Option<i32>,
    /// Payload, repetitions included.
    pub bytes_sent: Option<u64>,
    pub bytes_received: Option<u64>,
    /// When payload was last sent and last received, as exact as the kernel's tick.
    pub last_sent: Option<KernelTime>,
    pub last_received: Option<KernelTime>,
    /// The length of that tick in nanoseconds.
    pub tick: u64,
    /// Bytes that were sent and never acknowledged.
    pub unacknowledged: Option<u32>,
    /// Bytes that nginx wrote and the kernel did not send.
    pub unsent: Option<u32>,
    pub retransmissions: Option<u32>,
    pub round_trip_us: Option<u32>,
}

/// How the other end of a connection ended it, or what kept it from being heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerEnd {
    /// A FIN, as a process of that end died.
    Closed,
    /// A reset of its own accord.
    Reset,
    /// A reset in answer to a segment.
    ResetInAnswer,
    /// It did not: netfilter freed a segment of nginx.
    RequestFiltered,
    /// It did not: netfilter freed a segment for nginx.
    ResponseFiltered,
}

impl PeerEnd {
    /// Netfilter kept the two ends apart.
    pub fn is_filtered(self) -> bool {
        matches!(self, Self::RequestFiltered | Self::ResponseFiltered)
    }
}

/// The other end, on this host, ended the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerEnded {
    pub how: PeerEnd,
    pub netns: Netns,
    /// Name of the `sk_rst_reason` without its prefix, such as `TCP_ABORT_ON_CLOSE`.
    pub reason: Option<String>,
    /// In whose context; of no meaning for a reset in answer to a segment.
    pub pid: u32,
    pub comm: String,
    /// A process had accepted the connection.
    pub accepted: bool,
    /// The socket that answered listens.
    pub listening: bool,
    /// How the process was ending, where it was: its code as `wait()` encodes it.
    pub exit_code: Option<u32>,
    pub death: Option<Death>,
}

/// The other end of a connection on this host, as it was found once nginx had given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub netns: Netns,
    /// As `include/net/tcp_states.h` has it, such as `CLOSE_WAIT`.
    pub state: String,
    /// A descriptor refers to it; else it waits in an accept queue.
    pub accepted: bool,
    /// Bytes that it has not read.
    pub unread: u32,
    pub owners: Vec<Process>,
    /// What the likeliest owner was doing, as `/proc/PID/stat` has it: `R`, `S`, `D`, `T`, …
    pub activity: Option<char>,
}

/// Something that happened before and led to the failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    pub at: KernelTime,
    /// The server, or the resolver, that it happened to.
    pub server: Option<String>,
    /// The verdict's code, where it was a failure of its own.
    pub code: Option<String>,
    pub summary: String,
}
