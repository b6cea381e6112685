//! What a worker writes to its error log right after a failure.
//!
//! nginx writes the line between learning of the error and closing the descriptor, in the same
//! thread (`ngx_log_error_core`, one unbuffered `write()` a line).

use aya_ebpf::{
    helpers::{bpf_jiffies64, bpf_probe_read_user, bpf_probe_read_user_buf},
    macros::tracepoint,
    programs::TracePointContext,
};
use tracer_common::{
    interest,
    record::{LOG_LINE, LogLine, LogLineHead, SHORT_LINE, kind},
};

use crate::{
    emit::{current, current_task, header, lost, now},
    kernel::argument,
    maps::{EVENTS, FAILING, Failing, become_interested, interested},
};

/// How long after a failure its line is awaited, in nanoseconds.
const AFTER_FAILURE: u64 = 1_000_000_000;
/// How long an unanswered attempt may take to fail, in nanoseconds: nginx writes the line of a
/// timeout before it closes the socket (`ngx_http_upstream_next`). Ten times the default of
/// `proxy_connect_timeout`.
const AFTER_WAITING: u64 = 600_000_000_000;
/// Lines that are taken for one failure: one of them is about it, and a worker may write others
/// before it.
const LINES: u32 = 8;
/// Lines that are taken at most for many failures.
const MOST_LINES: u32 = 1024;
/// Bytes of `YYYY/MM/DD HH:MM:SS [`, with which every line begins.
const STAMP: usize = 21;

/// match-proto: syscalls:sys_enter_write(unsigned int fd, const char *buf, size_t count)
#[tracepoint]
pub fn sys_enter_write(context: TracePointContext) -> u32 {
    if !interested(interest::LOG_LINES) {
        return 0;
    }
    let (_, tid) = current();
    let Some(failing) = FAILING.get_ptr_mut(tid) else {
        return 0;
    };
    // SAFETY: the entry belongs to the running thread but for additions, and a lost one costs a
    // request its line.
    let failing = unsafe { &mut *failing };
    let at = now();
    let owes = failing.credit > 0 && at < failing.failed_at + AFTER_FAILURE;
    if !owes && at > failing.waits_until {
        return 0;
    }
    let buffer = argument(&context, 1);
    let count = argument(&context, 2);
    if count > STAMP as u64 && begins_like_a_log_line(buffer) {
        failing.credit = failing.credit.saturating_sub(1);
        copy(buffer, count);
    }
    0
}

/// The thread met a failure that is told: its line follows, or went before.
#[inline(always)]
pub fn failed(tid: u32) {
    become_interested(interest::LOG_LINES);
    let at = now();
    let Some(failing) = FAILING.get_ptr_mut(tid) else {
        make(tid, at, LINES, 0);
        return;
    };
    // SAFETY: the entry's numbers are aligned and written one at a time.
    unsafe {
        if at > (*failing).failed_at + AFTER_FAILURE {
            (*failing).credit = 0;
        }
        (*failing).failed_at = at;
        (*failing).failed_jiffies = jiffies();
        if (*failing).credit < MOST_LINES {
            (*failing).credit += LINES;
        }
    }
}

/// The thread waits for an answer that may never come.
#[inline(always)]
pub fn waits(tid: u32) {
    become_interested(interest::LOG_LINES);
    let until = now() + AFTER_WAITING;
    match FAILING.get_ptr_mut(tid) {
        // SAFETY: the entry's numbers are aligned and written one at a time.
        Some(failing) => unsafe { (*failing).waits_until = until },
        None => make(tid, 0, 0, until),
    }
}

#[inline(always)]
fn make(tid: u32, failed_at: u64, credit: u32, waits_until: u64) {
    let failing = Failing {
        failed_at,
        failed_jiffies: jiffies(),
        credit,
        waits_until,
    };
    let _ = FAILING.insert(tid, failing, 0);
}

/// The clock by which TCP notes when it last sent something (`tcp_jiffies32`).
#[inline(always)]
fn jiffies() -> u32 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_jiffies64() as u32 }
}

#[inline(always)]
fn begins_like_a_log_line(buffer: u64) -> bool {
    // SAFETY: the helper checks the address and fails where it cannot be read.
    match unsafe { bpf_probe_read_user(buffer as *const [u8; STAMP]) } {
        Ok(stamp) => stamp[4] == b'/' && stamp[7] == b'/' && stamp[13] == b':' && stamp[20] == b'[',
        Err(_) => false,
    }
}

#[inline(always)]
fn copy(buffer: u64, count: u64) {
    if count <= SHORT_LINE as u64 {
        copy_into::<SHORT_LINE>(buffer, count as usize);
    } else {
        copy_into::<LOG_LINE>(buffer, count as usize);
    }
}

/// The ring buffer takes entries of constant lengths alone.
#[inline(always)]
fn copy_into<const ROOM: usize>(buffer: u64, count: usize) {
    let Some(mut entry) = EVENTS.reserve::<LogLine<ROOM>>(0) else {
        lost(u32::from(kind::LOG_LINE));
        return;
    };
    let length = if count < ROOM { count } else { ROOM };
    let line = entry.as_mut_ptr();
    // SAFETY: the pointers lie in the reserved entry; the helper checks the address in user
    // memory and fills what it cannot read with zeroes.
    unsafe {
        (*line).head = LogLineHead {
            header: header(kind::LOG_LINE),
            task: current_task(),
            length: length as u32,
            reserved: 0,
        };
        let text = core::slice::from_raw_parts_mut((&raw mut (*line).text).cast::<u8>(), length);
        let _ = bpf_probe_read_user_buf(buffer as *const u8, text);
    }
    entry.submit(0);
}
