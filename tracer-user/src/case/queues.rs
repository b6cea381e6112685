//! What waits in front of a listener.

use serde::{Deserialize, Serialize};

use super::Netns;

/// Connections to one port of a namespace that nobody has accepted yet, and the limits there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub netns: Netns,
    pub port: u16,
    /// Connections whose last ACK has not come (`SYN_RECV`).
    pub half_open: u32,
    /// Connections that stand and that no process has accepted.
    pub unaccepted: u32,
    /// How long ago the one of these that has waited longest got its last data, in milliseconds;
    /// null where there is none.
    pub longest_ms: Option<u64>,
    /// `net.core.somaxconn`, to which `listen()` cuts its backlog.
    pub somaxconn: Option<u32>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<u32>,
    /// `net.ipv4.tcp_syncookies`: 0 never, 1 where the queue is full, 2 always.
    pub syncookies: Option<u32>,
    /// `net.ipv4.tcp_abort_on_overflow`.
    pub abort_on_overflow: Option<bool>,
}
