//! What the raw sockets let through: errors, and of these the ones about TCP.

use std::io;
use std::os::fd::BorrowedFd;

use crate::host::socket_filter::{attach, jump_unless, set, statement};

/// `ICMP_FILTER` of `linux/icmp.h`, an option of level `SOL_RAW`.
const ICMP_FILTER: i32 = 1;

/// `ICMPV6_FILTER` of `linux/icmpv6.h`, an option of level `IPPROTO_ICMPV6`.
const ICMPV6_FILTER: i32 = 1;

/// So many bytes of a packet are kept; the quotation starts with all that is read.
const KEPT: u32 = 512;

/// Destination unreachable, time exceeded, parameter problem.
const KINDS_V4: [u32; 3] = [3, 11, 12];
const KINDS_V6: [u32; 3] = [1, 3, 4];

pub(super) fn errors_about_tcp_v4(socket: BorrowedFd<'_>) -> io::Result<()> {
    let blocked = KINDS_V4
        .iter()
        .fold(u32::MAX, |mask, kind| mask & !(1 << kind));
    set(socket, libc::SOL_RAW, ICMP_FILTER, &blocked)?;
    // The filter sees the packet from its IPv4 header on (`raw_rcv`): load that header's length,
    // then the protocol of the quoted header behind it and the ICMP header.
    attach(
        socket,
        [
            statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0),
            statement(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 8 + 9),
            jump_unless(libc::IPPROTO_TCP as u32, 0, 1),
            statement(libc::BPF_RET | libc::BPF_K, KEPT),
            statement(libc::BPF_RET | libc::BPF_K, 0),
        ],
    )
}

/// Segments behind extension headers are let go: no host sends a SYN like that by itself.
pub(super) fn errors_about_tcp_v6(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut blocked = [u32::MAX; 8];
    for kind in KINDS_V6 {
        blocked[0] &= !(1 << kind);
    }
    set(socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked)?;
    // The filter sees the message from its ICMPv6 header on (`rawv6_rcv`): the next header of
    // the quoted IPv6 header stands at its seventh byte.
    attach(
        socket,
        [
            statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 8 + 6),
            jump_unless(libc::IPPROTO_TCP as u32, 0, 1),
            statement(libc::BPF_RET | libc::BPF_K, KEPT),
            statement(libc::BPF_RET | libc::BPF_K, 0),
        ],
    )
}
