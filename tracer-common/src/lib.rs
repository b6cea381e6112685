//! What the eBPF programs and user space share: the records of the ring buffer, the layout of the
//! running kernel's structures, and the values of the maps.
//!
//! Records hold fixed-width integers and byte arrays only: no pointers, `bool` or Rust enums, and
//! no padding. Numbers are in host order, ports included; addresses are in network order.
#![no_std]

pub mod layout;
pub mod record;

#[cfg(feature = "user")]
pub mod decode;

/// What a process in the `TASKS` map is.
pub mod role {
    /// A process of an nginx, or one that is becoming one: its connections are observed.
    pub const NGINX: u32 = 1;
}

/// Indexes of the map `INTERESTS`. A value other than 0 says that there is something to look for.
pub mod interest {
    /// An attempt failed: the close of its socket is awaited.
    pub const FAILED_SOCKETS: u32 = 0;
    /// nginx gave up on an upstream: its client may have left.
    pub const CLIENTS_LEAVING: u32 = 1;
    /// Upstreams failed: their recovery is awaited. User space sets it.
    pub const RECOVERIES: u32 = 2;
    /// Failures or silence: lines of error logs are awaited.
    pub const LOG_LINES: u32 = 3;
    /// Lines of error logs were told: the close of the connection that one is about is awaited.
    pub const CLOSES: u32 = 4;
    pub const COUNT: u32 = 5;
}

/// Indexes of the map `HEARD`: programs at functions that a system call of ours has met.
pub mod heard {
    pub const CONNECT_ENTRY: u32 = 0;
    pub const CONNECT_RETURN: u32 = 1;
    pub const SOCKET_RETURN: u32 = 2;
    pub const BIND_ENTRY: u32 = 3;
    pub const BIND_RETURN: u32 = 4;
    pub const LISTEN_RETURN: u32 = 5;
    pub const WRITE: u32 = 6;
    pub const COUNT: u32 = 7;
}

/// The lengths of the maps. Each is a bound: what finds no room is counted as lost.
pub mod bound {
    /// Processes of all nginx instances.
    pub const TASKS: u32 = 16_384;
    /// Processes that hold a listening socket; the least recently used goes first.
    pub const OWNERS: u32 = 16_384;
    /// Threads inside `connect()` or `bind()` at one moment.
    pub const CALLS: u32 = 4_096;
    /// Sockets in SYN_SENT and connections that stand, at one moment.
    pub const ATTEMPTS: u32 = 65_536;
    /// Connections that broke and that nginx has not closed yet; the least recently used goes
    /// first.
    pub const BROKEN: u32 = 4_096;
    /// Destinations dialled lately; the least recently used goes first.
    pub const DIALLED: u32 = 4_096;
    /// Local addresses of sockets that wait for an answer after `connect()` returned.
    pub const WAITING: u32 = 16_384;
    /// Destinations whose next success is a recovery.
    pub const RECOVERING: u32 = 1_024;
    /// Failed attempts whose socket nginx has not closed yet; the least recently used goes first.
    pub const FAILED: u32 = 16_384;
    /// Threads that lately met a failure, whose log line is awaited.
    pub const FAILING: u32 = 4_096;
    /// Outcomes that are tallied at one moment. What is above has a record for each attempt.
    pub const OUTCOMES: u32 = 1_024;
    /// Rules whose memory was told lately; the least recently used goes first.
    pub const RULES: u32 = 1_024;
    /// Bytes of the ring buffer.
    pub const RING: u32 = 2 * 1024 * 1024;
}
