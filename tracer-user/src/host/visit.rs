//! The netlink sockets through which one network namespace is read.

use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_SOCK_DIAG};

use crate::case::Netns;
use crate::host::netlink::{Conversation, NetlinkError};
use crate::host::netns::{Namespace, NetnsError, within};
use crate::host::ports::{self, PortRange};

/// An open view into a network namespace, usable from any thread.
///
/// It keeps the namespace alive while it lives: drop it as soon as the questions are asked.
#[derive(Debug)]
pub struct Visit {
    pub netns: Netns,
    pub(super) diag: Conversation,
    pub(super) route: Conversation,
    /// `net.ipv4.ip_local_port_range`, null where it could not be read.
    pub port_range: Option<PortRange>,
}

#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    #[error("cannot read network namespace {netns}: {source}")]
    Netlink { netns: Netns, source: NetlinkError },
}

impl Visit {
    /// Goes to `namespace`.
    pub fn to(namespace: &Namespace) -> Result<Self, VisitError> {
        within(namespace, || Self::here(namespace.inode))?
    }

    /// Stays in the calling thread's namespace, which the caller knows to be `netns`.
    pub fn here(netns: Netns) -> Result<Self, VisitError> {
        let open = |protocol| {
            Conversation::open(protocol).map_err(|source| VisitError::Netlink { netns, source })
        };
        Ok(Self {
            netns,
            diag: open(NETLINK_SOCK_DIAG)?,
            route: open(NETLINK_ROUTE)?,
            port_range: ports::range_here(),
        })
    }
}
