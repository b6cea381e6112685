//! State changes of sockets: attempts that begin and end, listeners that come and go.

use aya_ebpf::programs::RawTracePointContext;
use tracer_common::{
    interest,
    record::{
        Address, AttemptEnded, ClientClosed, Connected, Fate, Listening, Outcome, Retransmitted,
        SocketClosed, Tally, Task, kind,
    },
};

use crate::{
    connection,
    emit::{current, current_task, emit, fill, header, no_room, now},
    kernel::{
        exit_code, exiting, inode, is_tcp, layout, local_address, netns_of_socket, read,
        remote_address,
    },
    log_line,
    maps::{
        ATTEMPTS, Attempt, DIALLED, FAILED, FAILING, Failing, OUTCOMES, OWNERS, RECOVERING, TASKS,
        WAITING, become_interested, interested, under_way,
    },
    stand_in::programs,
};

const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;
const FIN_WAIT1: i32 = 4;
const CLOSE: i32 = 7;
const CLOSE_WAIT: i32 = 8;
const LAST_ACK: i32 = 9;
const LISTEN: i32 = 10;

/// Attempts of one outcome that one processor tells in one window; the others are counted.
const TOLD: u64 = 16;
/// In nanoseconds.
const WINDOW: u64 = 100_000_000;
/// How long after a failure the close of a client's connection is still told, in nanoseconds.
const SAME_TURN: u64 = 20_000_000;

programs!(
    inet_sock_set_state,
    inet_sock_set_state_stand_in,
    INET_SOCK_SET_STATE,
    state_changes
);
programs!(
    tcp_receive_reset,
    tcp_receive_reset_stand_in,
    TCP_RECEIVE_RESET,
    reset_arrives
);
programs!(
    tcp_retransmit_skb,
    tcp_retransmit_skb_stand_in,
    TCP_RETRANSMIT_SKB,
    segment_sent_again
);
programs!(
    tcp_destroy_sock,
    tcp_destroy_sock_stand_in,
    TCP_DESTROY_SOCK,
    socket_closed
);

/// Each branch is a function of its own: the frames of a call and of all its callers share 512
/// bytes (`check_max_stack_depth`) on kernels that give programs no stack of their own, which
/// tracepoints have since 6.13, and one frame for all branches would not share its slots.
///
/// match-proto: sock:inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)
#[inline(always)]
fn state_changes(context: &RawTracePointContext) {
    let socket: u64 = context.arg(0);
    let old: i32 = context.arg(1);
    let new: i32 = context.arg(2);
    match (old, new) {
        (CLOSE, SYN_SENT) => attempt_begins(socket),
        (SYN_SENT, ESTABLISHED) => attempt_succeeds(socket),
        (SYN_SENT, SYN_RECV) => attempt_meets_itself(socket),
        (SYN_SENT, CLOSE) => attempt_ends(socket),
        (ESTABLISHED, CLOSE_WAIT) => connection::fin_arrives(socket),
        (ESTABLISHED, FIN_WAIT1) => {
            connection::dying_peer_closes(context, socket);
            connection::closed(socket);
        }
        (CLOSE_WAIT, LAST_ACK) => {
            client_closes(socket);
            connection::closed(socket);
        }
        (ESTABLISHED | CLOSE_WAIT, CLOSE) => connection::ends(socket),
        (CLOSE, LISTEN) => listening(kind::LISTEN_STARTED, socket),
        (LISTEN, CLOSE) => listening(kind::LISTEN_ENDED, socket),
        _ => {}
    }
}

/// match-proto: tcp:tcp_receive_reset(struct sock *sk)
#[inline(always)]
fn reset_arrives(context: &RawTracePointContext) {
    let socket: u64 = context.arg(0);
    if let Some(attempt) = ATTEMPTS.get_ptr_mut(socket) {
        // SAFETY: the socket is locked while it handles a segment, so that nobody else writes.
        unsafe { (*attempt).reset_at = now() };
    }
}

/// match-proto: tcp:tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb[, int err])
#[inline(always)]
fn segment_sent_again(context: &RawTracePointContext) {
    let socket: u64 = context.arg(0);
    // SAFETY: the socket is locked while it sends, so that the entry stays.
    let opening = |attempt: *const Attempt| unsafe { (*attempt).established } == 0;
    if !ATTEMPTS.get_ptr(socket).is_some_and(opening) {
        return;
    }
    let error = match layout!(retransmit_error_argument) {
        2 => context.arg(2),
        _ => i32::MIN,
    };
    emit(
        kind::RETRANSMITTED,
        fill!(record: Retransmitted {
                header: header(kind::RETRANSMITTED),
                socket: socket,
                error: error,
                reserved: 0,
        }),
    );
}

/// match-proto: tcp:tcp_destroy_sock(struct sock *sk)
#[inline(always)]
fn socket_closed(context: &RawTracePointContext) {
    if !interested(interest::FAILED_SOCKETS) {
        return;
    }
    let socket: u64 = context.arg(0);
    connection::broken_one_closed(socket);
    if FAILED.get_ptr(socket).is_none() {
        return;
    }
    let _ = FAILED.remove(socket);
    emit(
        kind::SOCKET_CLOSED,
        fill!(record: SocketClosed {
            header: header(kind::SOCKET_CLOSED),
            socket: socket,
        }),
    );
}

/// `tcp_v4_connect` and `tcp_v6_connect` enter SYN_SENT when the route is found and the
/// destination is set, and before the local port is chosen.
#[inline(never)]
fn attempt_begins(socket: u64) {
    let (tgid, tid) = current();
    if TASKS.get_ptr(tgid).is_none() || !is_tcp(socket) {
        // Where the end of another attempt was missed its entry is still there, and a new socket
        // at its address must not be taken for nginx's.
        if ATTEMPTS.get_ptr(socket).is_some() {
            let _ = ATTEMPTS.remove(socket);
        }
        return;
    }
    let remote = remote_address(socket);
    let mut attempt = Attempt {
        started: now(),
        established: 0,
        fin_at: 0,
        broken_at: 0,
        reset_at: 0,
        reset_sent: Fate::NONE,
        no_socket: Fate::NONE,
        dialled: remote,
        tgid,
        tid,
        waiting: Address::NONE,
    };
    if let Some(call) = under_way(tid) {
        // SAFETY: the entry belongs to the running thread.
        unsafe {
            (*call).socket = socket;
            attempt.started = (*call).started;
            attempt.dialled = (*call).address;
        }
    }
    if ATTEMPTS.insert(socket, attempt, 0).is_err() {
        no_room();
    }
    let destination = remote.key();
    if DIALLED.get_ptr(destination).is_none() {
        let _ = DIALLED.insert(destination, 1, 0);
    }
}

#[inline(never)]
fn attempt_succeeds(socket: u64) {
    let Some(attempt) = ATTEMPTS.get_ptr_mut(socket) else {
        return;
    };
    // SAFETY: the entry stays as long as nginx holds the socket, which is locked.
    let attempt = unsafe { &mut *attempt };
    if interested(interest::RECOVERIES) && RECOVERING.get_ptr(attempt.dialled.key()).is_some() {
        connected(socket, attempt, false);
    }
    attempt.established = now();
    wait_no_longer(attempt);
}

/// A socket in SYN_SENT that receives a SYN goes on to SYN_RECV
/// (`tcp_rcv_synsent_state_process`). Where that SYN is its own it is connected to itself.
#[inline(never)]
fn attempt_meets_itself(socket: u64) {
    let Some(attempt) = ATTEMPTS.get_ptr(socket) else {
        return;
    };
    // SAFETY: the entry stays until this function removes it at its end; the socket is locked.
    let attempt = unsafe { &*attempt };
    if is_its_own_peer(socket) {
        connected(socket, attempt, true);
    }
    forget(socket, attempt);
}

#[inline(never)]
fn is_its_own_peer(socket: u64) -> bool {
    let local = local_address(socket);
    let remote = remote_address(socket);
    local.port == remote.port && local.ip == remote.ip
}

#[inline(always)]
fn connected(socket: u64, attempt: &Attempt, self_connected: bool) {
    emit(
        kind::CONNECTED,
        fill!(record: Connected {
                header: header(kind::CONNECTED),
                task: nameless(attempt),
                socket: socket,
                started: attempt.started,
                dialled: attempt.dialled,
                local: local_address(socket),
                remote: remote_address(socket),
                netns: netns_of_socket(socket),
                self_connected: u32::from(self_connected),
        }),
    );
}

#[inline(never)]
fn attempt_ends(socket: u64) {
    let Some(attempt) = ATTEMPTS.get_ptr(socket) else {
        return;
    };
    // SAFETY: the entry stays until this function removes it at its end; the socket is locked.
    let attempt = unsafe { &*attempt };
    let error: u32 = read(socket, layout!(sock_err)).unwrap_or(0);
    let (_, tid) = current();
    let by_worker = error == 0 && tid == attempt.tid;
    if by_worker && closed_in_call(socket, tid) {
        // `sys_exit_connect` tells the rest.
    } else if by_worker && exiting() {
        // The worker is ending, not giving up on its upstream.
    } else if !folded(attempt, error) {
        ended(socket, attempt, error);
    }
    forget(socket, attempt);
}

/// Under load an upstream that is down fails thousands of times a second in the same way. After
/// some of them in a short while the others are counted: whoever reads the count knows from the
/// told ones what they mean.
#[inline(always)]
fn folded(attempt: &Attempt, error: u32) -> bool {
    if layout!(fold) != 1 || attempt.reset_sent.at == 0 || attempt.reset_at == 0 {
        return false;
    }
    let outcome = Outcome {
        to: attempt.dialled.key(),
        reset_to: attempt.reset_sent.to.key(),
        tgid: attempt.tgid,
        error,
        netns: attempt.reset_sent.netns,
        reason: attempt.reset_sent.reason,
    };
    let at = now();
    let Some(tally) = OUTCOMES.get_ptr_mut(outcome) else {
        let tally = Tally {
            window: at,
            told: 1,
            folded: 0,
        };
        let _ = OUTCOMES.insert(outcome, tally, 0);
        return false;
    };
    // SAFETY: the pointer is to this processor's own tally.
    unsafe {
        if at > (*tally).window + WINDOW {
            (*tally).window = at;
            (*tally).told = 0;
        }
        if (*tally).told < TOLD {
            (*tally).told += 1;
            return false;
        }
        (*tally).folded += 1;
    }
    true
}

/// `connect()` is about to return an error: notes what is wiped before it does. That the call is
/// under way does not tell: its return may have been missed. `__tcp_close` shuts the socket down
/// before it changes its state; a call that fails does not.
#[inline(always)]
fn closed_in_call(socket: u64, tid: u32) -> bool {
    let Some(call) = under_way(tid) else {
        return false;
    };
    if read::<u8>(socket, layout!(sock_shutdown)).unwrap_or(0) != 0 {
        return false;
    }
    // SAFETY: the entry belongs to the running thread.
    unsafe {
        (*call).closed = 1;
        (*call).local = local_address(socket);
        (*call).remote = remote_address(socket);
        (*call).netns = netns_of_socket(socket);
    }
    true
}

#[inline(always)]
fn ended(socket: u64, attempt: &Attempt, error: u32) {
    if error != 0 {
        let _ = FAILED.insert(socket, 1, 0);
        become_interested(interest::FAILED_SOCKETS);
    } else {
        become_interested(interest::CLIENTS_LEAVING);
    }
    await_next(&attempt.dialled);
    log_line::failed(attempt.tid);
    emit(
        kind::ATTEMPT_ENDED,
        fill!(record: AttemptEnded {
                header: header(kind::ATTEMPT_ENDED),
                task: nameless(attempt),
                socket: socket,
                started: attempt.started,
                reset_at: attempt.reset_at,
                reset_sent: attempt.reset_sent,
                no_socket: attempt.no_socket,
                dialled: attempt.dialled,
                local: local_address(socket),
                remote: remote_address(socket),
                error: error,
                initial_sequence: read(socket, layout!(tcp_snd_una)).unwrap_or(0),
                netns: netns_of_socket(socket),
            reserved: 0,
        }),
    );
}

/// The next connection to an address that failed is to be told. User space asks for it too, yet
/// that connection may stand before it has read of the failure.
#[inline(always)]
pub fn await_next(dialled: &Address) {
    let _ = RECOVERING.insert(dialled.key(), 1, 0);
    become_interested(interest::RECOVERIES);
}

#[inline(always)]
fn forget(socket: u64, attempt: &Attempt) {
    let _ = ATTEMPTS.remove(socket);
    wait_no_longer(attempt);
}

#[inline(always)]
fn wait_no_longer(attempt: &Attempt) {
    if attempt.waiting.family != 0 {
        let _ = WAITING.remove(attempt.waiting.key());
    }
}

#[inline(always)]
fn nameless(attempt: &Attempt) -> Task {
    Task {
        tgid: attempt.tgid,
        tid: attempt.tid,
        comm: [0; 16],
    }
}

#[inline(never)]
fn client_closes(socket: u64) {
    if !interested(interest::CLIENTS_LEAVING) {
        return;
    }
    let (_, tid) = current();
    let Some(failing) = FAILING.get_ptr(tid) else {
        return;
    };
    // SAFETY: the entry's numbers are aligned and written one at a time.
    let failing = unsafe { &*failing };
    if now().saturating_sub(failing.failed_at) > SAME_TURN || answered_since(socket, failing) {
        return;
    }
    emit(
        kind::CLIENT_CLOSED,
        fill!(record: ClientClosed {
                header: header(kind::CLIENT_CLOSED),
                task: current_task(),
                client: remote_address(socket),
        }),
    );
}

/// nginx sent its client something after it had given up: the client closed because it was
/// answered. A client that left first is sent nothing.
#[inline(always)]
fn answered_since(socket: u64, failing: &Failing) -> bool {
    let sent: u32 = read(socket, layout!(tcp_lsndtime)).unwrap_or(0);
    sent.wrapping_sub(failing.failed_jiffies) as i32 >= 0
}

#[inline(never)]
fn listening(which: u16, socket: u64) {
    if !is_tcp(socket) {
        return;
    }
    if which == kind::LISTEN_STARTED {
        let (tgid, _) = current();
        let _ = OWNERS.insert(tgid, 1, 0);
    }
    let flags: u8 = read(socket, layout!(sock_ipv6only)).unwrap_or(0);
    let mask = layout!(sock_ipv6only_mask);
    let ending = exiting();
    emit(
        which,
        fill!(record: Listening {
                header: header(which),
                task: current_task(),
                socket: socket,
                inode: inode(socket),
                address: local_address(socket),
                netns: netns_of_socket(socket),
                ifindex: read(socket, layout!(sock_bound_dev_if)).unwrap_or(0),
                v6only: u32::from(u32::from(flags) & mask != 0),
                exiting: u32::from(ending),
                exit_code: if ending { exit_code() } else { 0 },
                reserved: 0,
        }),
    );
}
