//! What is observed of the system calls by which nginx dials: `socket()`, `bind()` and `connect()`.
//! `places` has the programs.

mod places;

use aya_ebpf::helpers::{bpf_probe_read_user, bpf_probe_read_user_buf};
use tracer_common::record::{
    Address, BindFailed, ConnectFailed, INET, INET6, SocketFailed, UNIX, UNIX_PATH, kind,
};

use crate::{
    emit::{current, current_task, emit, fill, header, no_room, now},
    kernel::{local_address, protocol_of},
    log_line,
    maps::{ATTEMPTS, CALLS, Call, TASKS, WAITING, under_way},
    socket::await_next,
};

const EINPROGRESS: i64 = 115;
/// How long after the function behind a call the call returns at the most, as `moment` counts: the
/// thread may be preempted in between.
const SAME_CALL: u32 = 10;
/// Bytes of a `sockaddr_in6`.
const SOCKADDR_IN6: u32 = 28;

/// `connect()` or `bind()` begins.
#[inline(always)]
pub fn begins(descriptor: u32, address: u64, length: u32) {
    let (tgid, tid) = current();
    if TASKS.get_ptr(tgid).is_none() {
        return;
    }
    let Some(call) = CALLS.get_ptr_mut(tid).or_else(|| make_call(tid)) else {
        no_room();
        return;
    };
    // SAFETY: the entry belongs to the running thread.
    let call = unsafe { &mut *call };
    call.started = now();
    call.socket = 0;
    call.closed = 0;
    call.descriptor = descriptor;
    call.denied = 0;
    call.function_left = 0;
    call.user_address = address;
    call.user_length = length;
    read_address(call);
    call.under_way = 1;
}

/// A function behind `connect()` or `socket()` has returned, and was met.
#[inline(always)]
pub fn function_left() {
    let (tgid, tid) = current();
    if TASKS.get_ptr(tgid).is_none() {
        return;
    }
    if let Some(call) = CALLS.get_ptr_mut(tid).or_else(|| make_call(tid)) {
        // SAFETY: the entry belongs to the running thread.
        unsafe { (*call).function_left = moment() };
    }
}

/// Whether the function behind the call that returns was met: for a moment both are watched, when one
/// takes the place of the other.
#[inline(always)]
pub fn function_told() -> bool {
    let (_, tid) = current();
    let Some(call) = CALLS.get_ptr_mut(tid) else {
        return false;
    };
    // SAFETY: the entry belongs to the running thread.
    let left = unsafe { core::mem::take(&mut (*call).function_left) };
    left != 0 && moment().wrapping_sub(left) <= SAME_CALL
}

/// Now, as `Call::function_left` has it.
#[inline(always)]
fn moment() -> u32 {
    (now() >> 20) as u32 | 1
}

/// `connect()` returns.
#[inline(always)]
pub fn connect_returns(result: i64) {
    let (_, tid) = current();
    let Some(call) = under_way(tid) else {
        never_entered(result);
        return;
    };
    // SAFETY: the entry belongs to the running thread.
    let call = unsafe { &mut *call };
    call.under_way = 0;
    match result {
        0 => {}
        error if error == -EINPROGRESS => keep_waiting(call),
        error => connect_failed(call, error),
    }
}

/// The kernel's security modules answer whether the call may go on.
#[inline(always)]
pub fn security_answers(result: i32) {
    if result >= 0 {
        return;
    }
    let (_, tid) = current();
    if let Some(call) = under_way(tid) {
        // SAFETY: the entry belongs to the running thread.
        unsafe { (*call).denied = -result as u32 };
    }
}

/// `bind()` returns.
#[inline(always)]
pub fn bind_returns(result: i64) {
    let (_, tid) = current();
    let Some(call) = under_way(tid) else {
        return;
    };
    // SAFETY: the entry belongs to the running thread.
    let call = unsafe { &mut *call };
    call.under_way = 0;
    if result < 0 {
        bind_failed(call, result);
    }
}

/// `socket()` returns.
#[inline(always)]
pub fn socket_returns(error: i64) {
    if error >= 0 {
        return;
    }
    let (tgid, tid) = current();
    if TASKS.get_ptr(tgid).is_none() {
        return;
    }
    log_line::failed(tid);
    emit(
        kind::SOCKET_FAILED,
        fill!(record: SocketFailed {
                header: header(kind::SOCKET_FAILED),
                task: current_task(),
                errno: -error as u32,
                reserved: 0,
        }),
    );
}

#[inline(always)]
fn bind_failed(call: &Call, error: i64) {
    let (_, tid) = current();
    log_line::failed(tid);
    emit(
        kind::BIND_FAILED,
        fill!(record: BindFailed {
                header: header(kind::BIND_FAILED),
                task: current_task(),
                address: call.address,
                errno: -error as u32,
                reserved: 0,
        }),
    );
}

#[inline(always)]
fn make_call(tid: u32) -> Option<*mut Call> {
    let call = Call {
        under_way: 0,
        closed: 0,
        started: 0,
        socket: 0,
        descriptor: 0,
        user_address: 0,
        user_length: 0,
        family: 0,
        address: Address::NONE,
        local: Address::NONE,
        remote: Address::NONE,
        netns: 0,
        denied: 0,
        function_left: 0,
    };
    let _ = CALLS.insert(tid, call, 0);
    CALLS.get_ptr_mut(tid)
}

/// The attempt outlives the call: from now on its packets are known by its local address too.
#[inline(always)]
fn keep_waiting(call: &Call) {
    let (_, tid) = current();
    let Some(attempt) = ATTEMPTS.get_ptr_mut(call.socket) else {
        if call.socket == 0 {
            // That the socket left CLOSE was missed: its line will tell of the attempt.
            log_line::waits(tid);
        }
        return;
    };
    // SAFETY: the entry stays as long as nginx holds the socket.
    if unsafe { (*attempt).established } != 0 {
        return;
    }
    let local = local_address(call.socket);
    let _ = WAITING.insert(local.key(), call.socket, 0);
    log_line::waits(tid);
    // SAFETY: the field is read only when the attempt ends; a race with that leaves an entry in
    // an LRU map.
    unsafe { (*attempt).waiting = local };
}

#[inline(always)]
fn connect_failed(call: &Call, error: i64) {
    let (_, tid) = current();
    log_line::failed(tid);
    if call.address.family != 0 {
        await_next(&call.address);
    }
    let fill = fill!(record: ConnectFailed {
        header: header(kind::CONNECT_FAILED),
        task: current_task(),
        started: call.started,
        dialled: call.address,
        local: call.local,
        remote: call.remote,
        errno: -error as u32,
        reached_syn_sent: call.closed,
        netns: call.netns,
        family: call.family as u16,
        path_length: 0,
        path: [0; UNIX_PATH],
        protocol: u32::from(protocol_of(call.descriptor)),
        unentered: 0,
        denied: call.denied,
    });
    emit(kind::CONNECT_FAILED, |record| {
        fill(record);
        // SAFETY: the record was filled above.
        unix_path(call, unsafe { &mut *record });
    });
}

/// A seccomp filter answers before `sys_enter_connect` is met (`syscall_trace_enter`), yet the
/// return is seen. An attempt that goes on was entered, and that was missed.
#[inline(always)]
fn never_entered(error: i64) {
    let (tgid, tid) = current();
    if error >= 0 || TASKS.get_ptr(tgid).is_none() {
        return;
    }
    if error == -EINPROGRESS {
        log_line::waits(tid);
        return;
    }
    log_line::failed(tid);
    emit(
        kind::CONNECT_FAILED,
        fill!(record: ConnectFailed {
            header: header(kind::CONNECT_FAILED),
            task: current_task(),
            started: 0,
            dialled: Address::NONE,
            local: Address::NONE,
            remote: Address::NONE,
            errno: -error as u32,
            reached_syn_sent: 0,
            netns: 0,
            family: 0,
            path_length: 0,
            path: [0; UNIX_PATH],
            protocol: 0,
            unentered: 1,
            denied: 0,
        }),
    );
}

/// Copies the path out of a `sockaddr_un`, which begins with the family's two bytes.
#[inline(always)]
fn unix_path(call: &Call, record: &mut ConnectFailed) {
    if record.family != UNIX {
        return;
    }
    record.path_length = call.user_length.saturating_sub(2).min(UNIX_PATH as u32) as u16;
    // SAFETY: the helper checks the address; what is behind the path is cut off by its length.
    let _ =
        unsafe { bpf_probe_read_user_buf((call.user_address + 2) as *const u8, &mut record.path) };
}

/// Reads what the program hands to the kernel: a `sockaddr_in` or a `sockaddr_in6`; of any other
/// the family alone.
#[inline(always)]
fn read_address(call: &mut Call) {
    let pointer = call.user_address;
    call.address = Address::NONE;
    call.family = 0;
    if call.user_length >= SOCKADDR_IN6 {
        // SAFETY: the helper checks the address and fails where it cannot be read.
        if let Ok(bytes) = unsafe { bpf_probe_read_user(pointer as *const [u8; 28]) } {
            call.family = u32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            call.address = address_v6(&bytes);
        }
    } else {
        // SAFETY: the helper checks the address and fails where it cannot be read.
        if let Ok(bytes) = unsafe { bpf_probe_read_user(pointer as *const [u8; 8]) } {
            call.family = u32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            call.address = address_v4(&bytes);
        }
    }
}

#[inline(always)]
fn address_v4(bytes: &[u8; 8]) -> Address {
    if u16::from_ne_bytes([bytes[0], bytes[1]]) != INET {
        return Address::NONE;
    }
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    Address::v4([bytes[4], bytes[5], bytes[6], bytes[7]], port)
}

#[inline(always)]
fn address_v6(bytes: &[u8; 28]) -> Address {
    match u16::from_ne_bytes([bytes[0], bytes[1]]) {
        INET6 => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&bytes[8..24]);
            let port = u16::from_be_bytes([bytes[2], bytes[3]]);
            let scope = u32::from_ne_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
            Address::v6(ip, port, scope)
        }
        // A longer buffer than the family needs is accepted by the kernel too.
        INET => {
            let port = u16::from_be_bytes([bytes[2], bytes[3]]);
            Address::v4([bytes[4], bytes[5], bytes[6], bytes[7]], port)
        }
        _ => Address::NONE,
    }
}
