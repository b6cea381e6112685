//! The records that travel through the ring buffer.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Defines wire structures. With the feature `user` they can be read out of bytes; deriving
/// `IntoBytes` makes the compiler refuse any that has padding.
macro_rules! wire {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "user", derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }
    )*};
}

/// Tells records apart; the first field of every [`Header`]. Each is the kind of the structure of
/// that name; [`Listening`] has two, and [`LogLineHead`] and [`RuleBytesHead`] begin theirs.
pub mod kind {
    pub const CONNECT_FAILED: u16 = 1;
    pub const ATTEMPT_ENDED: u16 = 2;
    pub const CONNECTED: u16 = 3;
    pub const RESET_SENT: u16 = 4;
    pub const PACKET_DROPPED: u16 = 5;
    pub const ICMP_SENT: u16 = 6;
    pub const RETRANSMITTED: u16 = 7;
    pub const LISTEN_STARTED: u16 = 8;
    pub const LISTEN_ENDED: u16 = 9;
    pub const PROCESS_EXITED: u16 = 10;
    pub const SIGNAL_SENT: u16 = 11;
    pub const OOM_VICTIM: u16 = 12;
    pub const FORKED: u16 = 13;
    pub const EXECUTED: u16 = 14;
    pub const SOCKET_FAILED: u16 = 15;
    pub const BIND_FAILED: u16 = 16;
    pub const LOG_LINE: u16 = 17;
    pub const CLIENT_CLOSED: u16 = 18;
    pub const SOCKET_CLOSED: u16 = 19;
    pub const NEIGHBOUR_DROPPED: u16 = 20;
    pub const LISTEN_CALLED: u16 = 21;
    pub const UPSTREAM_CLOSED: u16 = 22;
    pub const PEER_ENDED: u16 = 23;
    pub const RULE_MET: u16 = 24;
    pub const RULE_BYTES: u16 = 25;
    /// One past the last: the length of the array of losses, whose index 0 counts map entries
    /// that found no room.
    pub const COUNT: u16 = 26;
}

/// How a rule decides about a packet.
pub mod rule_kind {
    /// `nft_immediate_eval` with the verdict to drop.
    pub const DROP: u32 = 0;
    /// A `reject` of nftables.
    pub const REJECT: u32 = 1;
    /// The target REJECT of iptables, in a legacy table or as an expression of nftables.
    pub const REJECT_TARGET: u32 = 2;
}

/// What a packet is that a rule decided about.
pub mod packet_kind {
    /// It opens a connection of nginx.
    pub const OPENING: u32 = 0;
    /// It answers that.
    pub const ANSWER: u32 = 1;
    /// It asks for a neighbour: `to` is who is wanted, `from` who asks.
    pub const NEIGHBOUR_QUESTION: u32 = 2;
    /// It tells of one, with `to` and `from` as in the question.
    pub const NEIGHBOUR_ANSWER: u32 = 3;
}

/// How the other end of a connection ended it.
pub mod peer_end {
    /// It closed its socket, which sends a FIN.
    pub const CLOSED: u32 = 0;
    /// It gave up its socket, which sends a reset.
    pub const RESET: u32 = 1;
    /// The kernel answered a segment of nginx with a reset.
    pub const RESET_IN_ANSWER: u32 = 2;
    /// It goes on, but netfilter freed a segment of nginx.
    pub const REQUEST_FILTERED: u32 = 3;
    /// The same with a segment for nginx.
    pub const RESPONSE_FILTERED: u32 = 4;
}

/// Frames of the kernel's stack that a record keeps, the innermost first.
pub const FRAMES: usize = 16;
/// Frames of the kernel's stack that tell why it sent a reset, the innermost first.
pub const CALLERS: usize = 8;
/// Bytes of a `sockaddr_un` path.
pub const UNIX_PATH: usize = 108;
/// Bytes of an error-log line, as `NGX_MAX_ERROR_STR` bounds it.
pub const LOG_LINE: usize = 2048;
/// Bytes that most lines do with.
pub const SHORT_LINE: usize = 464;

/// Bytes of memory around a rule's last expression that are told.
pub const RULE_BYTES: usize = 1536;
/// Bytes of the name of a table or chain that are told.
pub const RULE_NAME: usize = 64;

/// `Address::family` of IPv4, as `AF_INET`.
pub const INET: u16 = 2;
/// `Address::family` of IPv6, as `AF_INET6`.
pub const INET6: u16 = 10;
/// `Address::family` of Unix sockets, as `AF_UNIX`.
pub const UNIX: u16 = 1;

wire! {
    /// Begins every record.
    pub struct Header {
        pub kind: u16,
        /// Not used; keeps the following field aligned.
        pub reserved: u16,
        pub cpu: u32,
        /// `CLOCK_MONOTONIC` nanoseconds.
        pub at: u64,
    }

    /// An internet address and port. IPv4 addresses stand as v4-mapped ones, so that equal
    /// addresses have equal bytes.
    pub struct Address {
        pub ip: [u8; 16],
        pub port: u16,
        /// [`INET`], [`INET6`], or 0 where there is no address.
        pub family: u16,
        pub scope: u32,
    }

    /// A thread of a process, as the root pid namespace numbers them.
    pub struct Task {
        pub tgid: u32,
        pub tid: u32,
        pub comm: [u8; 16],
    }

    /// A TCP header with its addresses.
    pub struct Segment {
        pub from: Address,
        pub to: Address,
        pub sequence: u32,
        pub netns: u32,
        pub ifindex: u32,
        pub flags: u8,
        /// Time to live or hop limit.
        pub ttl: u8,
        pub reserved: u16,
    }

    /// What the kernel kept of a packet beside its headers (`struct sk_buff`).
    pub struct Beside {
        pub mark: u32,
        /// `skb_iif`: the interface by which it entered the namespace, 0 for none.
        pub input: u32,
        /// The interface by which its route leaves, 0 where it has none.
        pub output: u32,
        /// `net->nft.base_seq`; [`super::layout::NONE`] where the kernel has it elsewhere.
        pub generation: u32,
    }

    /// `connect()` of a worker returned an error other than `EINPROGRESS`.
    pub struct ConnectFailed {
        pub header: Header,
        pub task: Task,
        pub started: u64,
        pub dialled: Address,
        /// Where the socket had entered SYN_SENT: its addresses at the end of that.
        pub local: Address,
        pub remote: Address,
        /// Positive.
        pub errno: u32,
        pub reached_syn_sent: u32,
        pub netns: u32,
        /// `AF_*` of the dialled address.
        pub family: u16,
        /// Bytes of `path` in use.
        pub path_length: u16,
        pub path: [u8; UNIX_PATH],
        /// `sk_protocol` of the socket, such as 6 for TCP and 17 for UDP; 0 where it cannot be
        /// read.
        pub protocol: u32,
        /// The call returned without having been entered: a seccomp filter answered in its place
        /// (`syscall_trace_enter` asks it before the tracepoint). Nothing else is known then.
        pub unentered: u32,
        /// The error that the kernel's security modules answered with, positive; 0 where they
        /// allowed the call or were not observed.
        pub denied: u32,
    }

    /// What became of a SYN while the `connect()` that sent it was under way.
    pub struct Fate {
        /// 0 where it did not happen.
        pub at: u64,
        /// Where the SYN was going by then.
        pub to: Address,
        pub netns: u32,
        /// `enum sk_rst_reason` or `enum skb_drop_reason`.
        pub reason: u32,
    }

    /// A worker's socket left SYN_SENT for CLOSE.
    pub struct AttemptEnded {
        pub header: Header,
        /// The thread that dialled; its name is not filled in.
        pub task: Task,
        pub socket: u64,
        pub started: u64,
        /// When a reset reached the socket, 0 where none did.
        pub reset_at: u64,
        /// This host's TCP answered the SYN with a reset.
        pub reset_sent: Fate,
        /// This host found no socket for the SYN and freed it.
        pub no_socket: Fate,
        pub dialled: Address,
        pub local: Address,
        pub remote: Address,
        /// `sk_err`, positive; 0 where nginx closed the socket itself.
        pub error: u32,
        pub initial_sequence: u32,
        pub netns: u32,
        pub reserved: u32,
    }

    /// A worker's socket reached ESTABLISHED towards an address that had failed, or towards itself.
    pub struct Connected {
        pub header: Header,
        pub task: Task,
        pub socket: u64,
        pub started: u64,
        pub dialled: Address,
        pub local: Address,
        pub remote: Address,
        pub netns: u32,
        pub self_connected: u32,
    }

    /// TCP answered a segment with a reset (`tcp_v4_send_reset`, `tcp_v6_send_reset`).
    pub struct ResetSent {
        pub header: Header,
        /// The segment that was answered.
        pub segment: Segment,
        /// `enum sk_rst_reason`; [`super::layout::NONE`] where the kernel gives no reason.
        pub reason: u32,
        /// A socket had the segment answered; 0 where there was none for it.
        pub by_socket: u32,
    }

    /// A packet was freed with a drop reason (`kfree_skb_reason`, `sk_skb_reason_drop`).
    pub struct PacketDropped {
        pub header: Header,
        pub segment: Segment,
        /// `enum skb_drop_reason`; [`super::layout::NONE`] where the tracepoint has no reason.
        pub reason: u32,
        /// The packet comes from a dialled destination, not from nginx.
        pub answer: u32,
        /// The code address that freed it.
        pub location: u64,
        pub beside: Beside,
        pub frames: [u64; FRAMES],
    }

    /// This host sent an ICMP error (`__icmp_send`, `icmp6_send`), or would have but for the limit
    /// of their rate.
    pub struct IcmpSent {
        pub header: Header,
        /// The segment that the error is about.
        pub segment: Segment,
        pub kind: u32,
        pub code: u32,
        pub beside: Beside,
        pub frames: [u64; FRAMES],
    }

    /// A packet filter freed a packet of ARP or of IPv6 neighbour discovery.
    pub struct NeighbourDropped {
        pub header: Header,
        /// Whose link-layer address is asked for or told; the port is 0.
        pub wanted: Address,
        /// Who asks or is told, where the packet says so; unspecified where not.
        pub asker: Address,
        pub netns: u32,
        pub ifindex: u32,
        /// 1 for an answer (an ARP reply, a neighbour advertisement).
        pub answer: u32,
        pub reserved: u32,
        pub location: u64,
        pub beside: Beside,
        pub frames: [u64; FRAMES],
    }

    /// A SYN was sent again (`tcp_retransmit_skb`).
    pub struct Retransmitted {
        pub header: Header,
        pub socket: u64,
        /// What sending returned; `i32::MIN` where the tracepoint does not carry it.
        pub error: i32,
        pub reserved: u32,
    }

    /// A TCP socket began or ceased to listen.
    pub struct Listening {
        pub header: Header,
        /// The thread that called listen, closed the socket, or was ending.
        pub task: Task,
        pub socket: u64,
        pub inode: u64,
        pub address: Address,
        pub netns: u32,
        pub ifindex: u32,
        pub v6only: u32,
        /// The thread was exiting (`PF_EXITING`).
        pub exiting: u32,
        /// `task_struct.exit_code`, as `wait()` encodes it.
        pub exit_code: u32,
        pub reserved: u32,
    }

    /// A process that held a listening socket, or one of an nginx, ended.
    pub struct ProcessExited {
        pub header: Header,
        pub task: Task,
        /// As `wait()` encodes it.
        pub exit_code: u32,
        pub reserved: u32,
    }

    /// A signal that may end a process was sent to one that holds a listening socket.
    pub struct SignalSent {
        pub header: Header,
        pub sender: Task,
        pub target: u32,
        pub signal: u32,
    }

    /// The OOM killer chose a process.
    pub struct OomVictim {
        pub header: Header,
        pub pid: u32,
        pub reserved: u32,
    }

    /// A process of an nginx forked.
    pub struct Forked {
        pub header: Header,
        pub parent: u32,
        pub child: u32,
    }

    /// A process executed a program that is called like an nginx, or a process of an nginx
    /// executed any program.
    pub struct Executed {
        pub header: Header,
        pub task: Task,
    }

    /// `socket()` of a worker failed.
    pub struct SocketFailed {
        pub header: Header,
        pub task: Task,
        pub errno: u32,
        pub reserved: u32,
    }

    /// `bind()` of a worker failed.
    pub struct BindFailed {
        pub header: Header,
        pub task: Task,
        pub address: Address,
        pub errno: u32,
        pub reserved: u32,
    }

    /// A worker closed a client connection that the client had closed before it, right after
    /// giving up on an upstream.
    pub struct ClientClosed {
        pub header: Header,
        pub task: Task,
        pub client: Address,
    }

    /// A worker closed the socket of an attempt that had failed: it has said of it all it will.
    pub struct SocketClosed {
        pub header: Header,
        pub socket: u64,
    }

    /// A process called `listen()`, on a socket of whatever family.
    pub struct ListenCalled {
        pub header: Header,
        pub task: Task,
    }

    /// A worker closed a connection to an upstream right after writing a line to its error log.
    /// Numbers that the kernel does not have are `MAX`.
    pub struct UpstreamClosed {
        pub header: Header,
        /// The thread that closed it; its name is not filled in.
        pub task: Task,
        pub socket: u64,
        /// When `connect()` was called, and when the connection stood.
        pub started: u64,
        pub established: u64,
        /// When a reset arrived, a FIN arrived, the socket got an error; 0 where it did not.
        pub reset_at: u64,
        pub fin_at: u64,
        pub broken_at: u64,
        pub dialled: Address,
        pub local: Address,
        pub remote: Address,
        pub bytes_sent: u64,
        pub bytes_received: u64,
        /// `sk_err`, positive.
        pub error: u32,
        pub netns: u32,
        /// The clock of the two that follow, as this record was made.
        pub jiffies: u32,
        /// `tcp_jiffies32` when data was last sent and last received.
        pub last_sent: u32,
        pub last_received: u32,
        /// Bytes that were sent and not acknowledged.
        pub unacknowledged: u32,
        /// Bytes that wait to be sent.
        pub unsent: u32,
        pub retransmissions: u32,
        /// Smoothed round-trip time in microseconds.
        pub round_trip: u32,
        pub reserved: u32,
    }

    /// On this host the other end of a connection to a dialled address ended it: with a reset,
    /// or with a FIN by a process that was dying.
    pub struct PeerEnded {
        pub header: Header,
        /// The task in whose context it happened.
        pub task: Task,
        /// The end that ended it, and the one of nginx.
        pub local: Address,
        pub remote: Address,
        /// `peer_end`.
        pub how: u32,
        /// `enum sk_rst_reason`; [`super::layout::NONE`] where there is none.
        pub reason: u32,
        pub netns: u32,
        /// A process had accepted the connection.
        pub accepted: u32,
        /// The socket that answered is a listener.
        pub listening: u32,
        /// The task was exiting (`PF_EXITING`), with this code as `wait()` encodes it.
        pub exiting: u32,
        pub exit_code: u32,
        /// A segment was answered for which there was no socket.
        pub without_socket: u32,
        /// Who called for the reset, where the kernel gives no reason; the innermost first.
        pub callers: [u64; CALLERS],
    }

    /// A rule decided to stop a packet, and the kernel is about to.
    pub struct RuleMet {
        pub header: Header,
        pub segment: Segment,
        pub beside: Beside,
        /// Address of the expression that decided, or of the data of the target.
        pub expression: u64,
        /// `rule_kind`.
        pub kind: u32,
        /// `packet_kind`.
        pub packet: u32,
    }

    /// Begins a record of the memory around a rule's last expression; it follows.
    pub struct RuleBytesHead {
        pub header: Header,
        /// As [`RuleMet::expression`]; this record comes before the first of that address.
        pub expression: u64,
        /// Address of the first byte. What could not be read is zero.
        pub base: u64,
        /// `NFPROTO_*` of the rule's table, 0 where it is not known, and the names with it.
        pub family: u32,
        /// `nft_expr_ops.size`: bytes of the expression, 0 for a target's data.
        pub size: u32,
        /// NUL-terminated, or cut off.
        pub table: [u8; RULE_NAME],
        pub chain: [u8; RULE_NAME],
    }

    /// Begins a record of an error-log line; the text follows.
    pub struct LogLineHead {
        pub header: Header,
        pub task: Task,
        /// Bytes of the line that the record holds.
        pub length: u32,
        /// The descriptor that it was written to.
        pub descriptor: u32,
    }
}

/// A line that a worker wrote to its error log after a failure.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LogLine<const ROOM: usize> {
    pub head: LogLineHead,
    pub text: [u8; ROOM],
}

/// The memory around a rule's last expression.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RuleBytes {
    pub head: RuleBytesHead,
    pub memory: [u8; RULE_BYTES],
}

wire! {
    /// Key of the map `OUTCOMES`: attempts that have it in common failed in the same way.
    pub struct Outcome {
        pub to: Destination,
        pub reset_to: Destination,
        pub tgid: u32,
        pub error: u32,
        pub netns: u32,
        pub reason: u32,
    }

    /// A file of a process that is a TCP socket, bound and neither listening nor connected. It
    /// comes by an iterator and not through the ring buffer.
    pub struct BoundSocket {
        pub inode: u64,
        pub address: Address,
        pub tgid: u32,
        pub netns: u32,
    }

    /// How many attempts had one outcome.
    pub struct Tally {
        /// When the present window began.
        pub window: u64,
        /// Attempts of this window that have a record each.
        pub told: u64,
        /// Attempts, since the beginning, that were counted here and have no record.
        pub folded: u64,
    }
}

impl Fate {
    /// Nothing happened.
    pub const NONE: Self = Self {
        at: 0,
        to: Address::NONE,
        netns: 0,
        reason: 0,
    };
}

impl Address {
    /// No address.
    pub const NONE: Self = Self {
        ip: [0; 16],
        port: 0,
        family: 0,
        scope: 0,
    };

    /// An IPv4 address from its bytes in network order.
    pub const fn v4(ip: [u8; 4], port: u16) -> Self {
        Self {
            ip: [
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ip[0], ip[1], ip[2], ip[3],
            ],
            port,
            family: INET,
            scope: 0,
        }
    }

    /// An IPv6 address from its bytes in network order.
    pub const fn v6(ip: [u8; 16], port: u16, scope: u32) -> Self {
        Self {
            ip,
            port,
            family: INET6,
            scope,
        }
    }

    /// The key under which this address stands in maps.
    pub const fn key(&self) -> Destination {
        Destination {
            ip: self.ip,
            port: self.port as u32,
        }
    }
}

wire! {
    /// Key of the maps of addresses: the same for every socket that uses an address and port.
    pub struct Destination {
        pub ip: [u8; 16],
        pub port: u32,
    }
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<Address>() == 24);
    assert!(size_of::<Task>() == 24);
    assert!(size_of::<Segment>() == 64);
    assert!(size_of::<ConnectFailed>() == 256);
    assert!(size_of::<AttemptEnded>() == 232);
    assert!(size_of::<Outcome>() == 56);
    assert!(size_of::<BoundSocket>() == 40);
    assert!(size_of::<Tally>() == 24);
    assert!(size_of::<Connected>() == 136);
    assert!(size_of::<ResetSent>() == 88);
    assert!(size_of::<PacketDropped>() == 240);
    assert!(size_of::<IcmpSent>() == 232);
    assert!(size_of::<NeighbourDropped>() == 232);
    assert!(size_of::<Retransmitted>() == 32);
    assert!(size_of::<Listening>() == 104);
    assert!(size_of::<ProcessExited>() == 48);
    assert!(size_of::<SignalSent>() == 48);
    assert!(size_of::<OomVictim>() == 24);
    assert!(size_of::<Forked>() == 24);
    assert!(size_of::<Executed>() == 40);
    assert!(size_of::<SocketFailed>() == 48);
    assert!(size_of::<BindFailed>() == 72);
    assert!(size_of::<ClientClosed>() == 64);
    assert!(size_of::<SocketClosed>() == 24);
    assert!(size_of::<UpstreamClosed>() == 216);
    assert!(size_of::<PeerEnded>() == 184);
    assert!(size_of::<RuleMet>() == 112);
    assert!(size_of::<RuleBytesHead>() == 168);
    assert!(size_of::<RuleBytes>() == 168 + RULE_BYTES);
    assert!(size_of::<LogLineHead>() == 48);
    assert!(size_of::<LogLine<SHORT_LINE>>() == 48 + SHORT_LINE);
    assert!(size_of::<LogLine<LOG_LINE>>() == 48 + LOG_LINE);
};
