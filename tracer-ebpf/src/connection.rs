//! Connections of nginx that stood: how they ended, told where nginx has just complained.

use aya_ebpf::EbpfContext;
use tracer_common::{
    interest,
    layout::NONE,
    record::{CALLERS, PeerEnded, Task, UpstreamClosed, kind, peer_end},
};

use crate::{
    emit::{current, current_task, emit, fill, header, now},
    kernel::{exit_code, exiting, layout, local_address, netns_of_socket, read, remote_address},
    log_line,
    maps::{ATTEMPTS, Attempt, BROKEN, become_interested},
    packet::dialled,
    reply::stack,
};

/// The peer has said all it will.
#[inline(always)]
pub fn fin_arrives(socket: u64) {
    if let Some(attempt) = ATTEMPTS.get_ptr_mut(socket) {
        // SAFETY: the socket is locked while it handles a segment, so that nobody else writes.
        unsafe { (*attempt).fin_at = now() };
    }
}

/// nginx closed the socket while the connection stood.
#[inline(always)]
pub fn closed(socket: u64) {
    let Some(attempt) = ATTEMPTS.get_ptr(socket) else {
        return;
    };
    // SAFETY: the entry stays until it is removed below; the socket is locked.
    tell(socket, unsafe { &*attempt });
    let _ = ATTEMPTS.remove(socket);
}

/// The connection is over at once: an error ended it, or nginx closed it with data unread. The
/// kernel sets `sk_err` before the state (`tcp_reset`, `tcp_write_err`, `tcp_abort`), and
/// `tcp_disconnect` sets it after.
#[inline(always)]
pub fn ends(socket: u64) {
    let Some(attempt) = ATTEMPTS.get_ptr_mut(socket) else {
        return;
    };
    // SAFETY: the entry stays until it is removed below; the socket is locked.
    let attempt = unsafe { &mut *attempt };
    if read::<u32>(socket, layout!(sock_err)).unwrap_or(0) == 0 {
        tell(socket, attempt);
    } else {
        attempt.broken_at = now();
        let attempt: &Attempt = attempt;
        let _ = BROKEN.insert(socket, attempt, 0);
        become_interested(interest::FAILED_SOCKETS);
    }
    let _ = ATTEMPTS.remove(socket);
}

/// nginx closed the socket of a connection that was over.
#[inline(always)]
pub fn broken_one_closed(socket: u64) {
    let Some(attempt) = BROKEN.get_ptr(socket) else {
        return;
    };
    // SAFETY: an entry of an LRU map is reused at the worst, and then wrong.
    tell(socket, unsafe { &*attempt });
    let _ = BROKEN.remove(socket);
}

/// A process that ends closes its sockets in an order of no meaning; that a connection ended with
/// it says why. The peers of healthy connections seldom die.
#[inline(always)]
pub fn dying_peer_closes(context: &impl EbpfContext, socket: u64) {
    if exiting() {
        peer_ended(context, socket, peer_end::CLOSED, NONE);
    }
}

/// The socket's owner, or the kernel for it, ended a connection to a dialled address.
#[inline(never)]
pub fn peer_ended(context: &impl EbpfContext, socket: u64, how: u32, reason: u32) {
    let local = local_address(socket);
    if !dialled(&local) {
        return;
    }
    let ending = exiting();
    let fill = fill!(record: PeerEnded {
            header: header(kind::PEER_ENDED),
            task: current_task(),
            local: local,
            remote: remote_address(socket),
            how: how,
            reason: reason,
            netns: netns_of_socket(socket),
            // A child that waits in an accept queue has no `struct socket` (`sk_clone`).
            accepted: u32::from(read::<u64>(socket, layout!(sock_socket)).unwrap_or(0) != 0),
            listening: 0,
            exiting: u32::from(ending),
            exit_code: if ending { exit_code() } else { 0 },
        without_socket: 0,
        callers: [0; CALLERS],
    });
    emit(kind::PEER_ENDED, |record| {
        fill(record);
        if how == peer_end::RESET && reason == NONE {
            // SAFETY: the record was filled above.
            stack(context, unsafe { &mut (*record).callers });
        }
    });
}

#[inline(never)]
fn tell(socket: u64, attempt: &Attempt) {
    let (_, tid) = current();
    if !log_line::wrote_of_a_close(tid) {
        return;
    }
    emit(
        kind::UPSTREAM_CLOSED,
        fill!(record: UpstreamClosed {
            header: header(kind::UPSTREAM_CLOSED),
            task: Task { tgid: attempt.tgid, tid, comm: [0; 16] },
            socket: socket,
            started: attempt.started,
            established: attempt.established,
            reset_at: attempt.reset_at,
            fin_at: attempt.fin_at,
            broken_at: attempt.broken_at,
            dialled: attempt.dialled,
            local: local_address(socket),
            remote: remote_address(socket),
            bytes_sent: read(socket, layout!(tcp_bytes_sent)).unwrap_or(u64::MAX),
            bytes_received: read(socket, layout!(tcp_bytes_received)).unwrap_or(u64::MAX),
            error: read(socket, layout!(sock_err)).unwrap_or(0),
            netns: netns_of_socket(socket),
            jiffies: log_line::jiffies(),
            last_sent: read(socket, layout!(tcp_lsndtime)).unwrap_or(u32::MAX),
            last_received: read(socket, layout!(tcp_lrcvtime)).unwrap_or(u32::MAX),
            unacknowledged: distance(socket, layout!(tcp_snd_una), layout!(tcp_snd_nxt)),
            unsent: distance(socket, layout!(tcp_snd_nxt), layout!(tcp_write_seq)),
            retransmissions: read(socket, layout!(tcp_total_retrans)).unwrap_or(u32::MAX),
            // Kept eight times as large (`tcp_rtt_estimator`).
            round_trip: read::<u32>(socket, layout!(tcp_srtt_us)).map_or(u32::MAX, |eight| eight >> 3),
            reserved: 0,
        }),
    );
}

/// How many sequence numbers lie between two of a socket, `u32::MAX` where one cannot be read. The
/// verifier before 5.12 refuses an `Option` that is kept over a call: its value is not written
/// where there is none.
#[inline(always)]
fn distance(socket: u64, from: u32, to: u32) -> u32 {
    let Some(from) = read::<u32>(socket, from) else {
        return u32::MAX;
    };
    let Some(to) = read::<u32>(socket, to) else {
        return u32::MAX;
    };
    to.wrapping_sub(from)
}
