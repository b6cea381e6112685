//! Typed, timestamped facts: what a record says, in the words of user space.

mod record;

pub use record::socket_address;

use std::net::{IpAddr, SocketAddr};

use tracer_common::record::{CALLERS, FRAMES, Outcome};

use crate::case::{
    Circumstances, Connection, Denial, Endpoint, Family, Icmp, KernelTime, Memory, Netns,
    PeerEnded, RuleEnd, RuleOwner, Segment,
};

/// A fact and the kernel time at which it was met.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    pub at: KernelTime,
    pub what: What,
}

/// A thread of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
}

/// How the kernel calls a socket while it lives: its address.
pub type SocketKey = u64;

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    ConnectFailed {
        thread: Thread,
        started: KernelTime,
        family: Option<Family>,
        dialled: Option<Endpoint>,
        local: Option<SocketAddr>,
        remote: Option<SocketAddr>,
        errno: i32,
        reached_syn_sent: bool,
        netns: Option<Netns>,
        /// Null but for the error where a seccomp filter answered in place of the call.
        intercepted: bool,
        /// What the security modules answered with, where they denied the call.
        denied: Option<i32>,
    },
    /// Read from the kernel's audit log.
    Audited {
        /// Null where the record names no process.
        pid: Option<u32>,
        denial: Denial,
    },
    AttemptEnded {
        thread: Thread,
        socket: SocketKey,
        started: KernelTime,
        reset_at: Option<KernelTime>,
        /// This host's TCP answered the SYN with a reset inside `connect()`.
        reset_sent: Option<Fate>,
        /// This host found no socket for the SYN inside `connect()`.
        no_socket: Option<Fate>,
        dialled: Option<SocketAddr>,
        local: Option<SocketAddr>,
        remote: Option<SocketAddr>,
        /// `sk_err`, 0 where nginx closed the socket itself.
        error: i32,
        initial_sequence: u32,
        netns: Netns,
        /// Under this key attempts that fail alike are counted.
        outcome: Outcome,
    },
    Connected {
        thread: Thread,
        socket: SocketKey,
        started: KernelTime,
        dialled: Option<SocketAddr>,
        local: Option<SocketAddr>,
        remote: Option<SocketAddr>,
        netns: Netns,
        self_connected: bool,
    },
    ResetSent {
        netns: Netns,
        reason: Option<String>,
        segment: Segment,
    },
    Dropped {
        netns: Netns,
        /// Null on kernels that give none.
        reason: Option<String>,
        answer: bool,
        location: u64,
        frames: [u64; FRAMES],
        segment: Segment,
        /// Without the functions on the stack.
        circumstances: Circumstances,
    },
    IcmpSent {
        netns: Netns,
        icmp: Icmp,
        frames: [u64; FRAMES],
        segment: Segment,
        /// Without the functions on the stack.
        circumstances: Circumstances,
    },
    /// A rule decided to stop a packet, which the kernel is about to do.
    RuleMet {
        netns: Netns,
        by: RuleEnd,
        packet: Packet,
        /// Where the expression that decided lies.
        place: u64,
    },
    /// What lies around such an expression; it comes before the first packet that meets it.
    RuleBytes(Box<RuleBytes>),
    /// A packet filter freed a packet of ARP or neighbour discovery.
    NeighbourPacketDropped {
        netns: Netns,
        wanted: IpAddr,
        asker: Option<IpAddr>,
        answer: bool,
        frames: [u64; FRAMES],
        /// Without the functions on the stack.
        circumstances: Circumstances,
    },
    /// Read from a raw socket in nginx's namespace.
    IcmpReceived {
        netns: Netns,
        from: IpAddr,
        icmp: Icmp,
        segment_from: SocketAddr,
        segment_to: SocketAddr,
        /// Of the quoted segment, where the quotation reaches that far.
        sequence: Option<u32>,
    },
    Retransmitted {
        socket: SocketKey,
        error: Option<i32>,
    },
    ListenStarted(Listening),
    ListenEnded(Listening),
    ProcessExited {
        pid: u32,
        exit_code: u32,
    },
    SignalSent {
        sender: Thread,
        target: u32,
        signal: i32,
    },
    OomVictim {
        pid: u32,
    },
    Forked {
        parent: u32,
        child: u32,
    },
    Executed {
        pid: u32,
    },
    /// Of whatever family the socket is.
    ListenCalled {
        pid: u32,
    },
    SocketFailed {
        thread: Thread,
        errno: i32,
    },
    BindFailed {
        thread: Thread,
        address: Option<SocketAddr>,
        errno: i32,
    },
    ClientClosed {
        thread: Thread,
        client: Option<SocketAddr>,
    },
    /// The worker closed the socket of an attempt that had failed.
    SocketClosed {
        socket: SocketKey,
    },
    /// A worker closed a connection right after writing to its error log.
    UpstreamClosed(Box<UpstreamClosed>),
    /// The other end of a connection to a dialled address ended it.
    PeerEnded {
        nginx: SocketAddr,
        target: SocketAddr,
        ended: PeerEnded,
        /// Who called for a reset that has no reason; the innermost first.
        callers: [u64; CALLERS],
    },
    LogLine {
        thread: Thread,
        /// That it was written to: nginx writes to each of its logs.
        descriptor: u32,
        text: String,
    },
}

/// A packet that is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    Segment(Segment),
    /// Of ARP or neighbour discovery.
    Neighbour {
        wanted: IpAddr,
        asker: Option<IpAddr>,
        answer: bool,
    },
}

/// The memory around a rule's last expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleBytes {
    pub memory: Memory,
    /// Bytes of the expression by the kernel's account, 0 for a target's data.
    pub size: u64,
    pub owner: Option<RuleOwner>,
}

/// A connection that stood, as a worker closed it.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamClosed {
    pub thread: Thread,
    pub started: KernelTime,
    pub reset_at: Option<KernelTime>,
    pub fin_at: Option<KernelTime>,
    pub dialled: SocketAddr,
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
    pub netns: Netns,
    pub connection: Connection,
}

/// What became of a SYN inside the `connect()` that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    pub at: KernelTime,
    /// Where the SYN was going by then.
    pub to: SocketAddr,
    pub netns: Netns,
    pub reason: String,
}

/// A listening socket at its beginning or end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    pub socket: SocketKey,
    pub inode: u64,
    pub address: SocketAddr,
    pub netns: Netns,
    /// Index of the interface that it is bound to, 0 for none.
    pub ifindex: u32,
    pub v6only: bool,
    pub thread: Thread,
    /// The thread was ending, with this exit code as `wait()` encodes it.
    pub dying: Option<u32>,
}
