//! What the socket lets through: the types of records that tell of denials.

use std::io;
use std::os::fd::BorrowedFd;

use super::kind;
use crate::host::socket_filter::{attach, jump_unless, statement};

/// Where `nlmsg_type` stands.
const TYPE: u32 = 4;
const WHOLE: u32 = u32::MAX;

/// A host may audit thousands of records a second; the filter sees a message from its header on
/// (`netlink_broadcast` runs it for each reader).
pub(super) fn denials(socket: BorrowedFd<'_>) -> io::Result<()> {
    attach(
        socket,
        [
            statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, TYPE),
            jump_unless(loaded(kind::AVC), 3, 0),
            jump_unless(loaded(kind::SECCOMP), 2, 0),
            jump_unless(loaded(kind::LANDLOCK_ACCESS), 1, 0),
            jump_unless(loaded(kind::APPARMOR_DENIED), 0, 1),
            statement(libc::BPF_RET | libc::BPF_K, WHOLE),
            statement(libc::BPF_RET | libc::BPF_K, 0),
        ],
    )
}

/// A filter loads in network order what netlink writes in the machine's.
fn loaded(kind: u16) -> u32 {
    u32::from(kind.to_be())
}
