//! What a worker writes to its error log: right after a failure, and where nothing else tells.
//!
//! nginx writes the line between learning of the error and closing the descriptor, in the same
//! thread (`ngx_log_error_core`, one unbuffered `write()` a line).

use aya_ebpf::helpers::{bpf_jiffies64, bpf_probe_read_user, bpf_probe_read_user_buf};
use tracer_common::{
    interest,
    record::{LOG_LINE, LogLine, LogLineHead, SHORT_LINE, kind},
};

use crate::{
    emit::{current, current_task, header, lost, now},
    maps::{EVENTS, FAILING, Failing, TASKS, UNANNOUNCED, become_interested, interested},
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
/// Bytes in which the message of a line begins, whatever its numbers are; a power of two. Lines
/// about requests are longer, those about resolvers may be shorter.
const START: usize = 128;
/// Lines that nothing else announces and that one processor tells in one window.
const LINES_OF_A_WINDOW: u64 = 512;
/// In nanoseconds.
const WINDOW: u64 = 100_000_000;
/// How long after its line a connection is closed at the latest, in nanoseconds: nginx does both
/// in one turn (`ngx_http_upstream_next`, `ngx_http_upstream_finalize_request`).
const AFTER_LINE: u64 = 200_000_000;
/// Closes that are told at most for lines that went before.
const CLOSES_OF_LINES: u64 = 16;

/// A thread writes `count` bytes to a descriptor.
#[inline(always)]
pub fn written(descriptor: u32, buffer: u64, count: u64) {
    let (tgid, tid) = current();
    if TASKS.get_ptr(tgid).is_none() || count <= STAMP as u64 {
        return;
    }
    let Some(level) = level_of_a_log_line(buffer) else {
        return;
    };
    if !of_a_failure(level) {
        return;
    }
    if !awaited(tid) && !tells_by_itself(level, buffer, count) {
        return;
    }
    copy(descriptor, buffer, count);
    close_follows(tid);
}

/// `emerg`, `error`, `crit` and `alert`, and `info`, at which nginx says that a client left. What
/// nginx says at other levels between a failure and its line (`debug` does so a hundred times)
/// must not be taken in its place.
#[inline(always)]
fn of_a_failure(level: u8) -> bool {
    matches!(level, b'e' | b'c' | b'a' | b'i')
}

/// A failure of the thread was told, or one may come: then its lines are wanted.
#[inline(always)]
fn awaited(tid: u32) -> bool {
    if !interested(interest::LOG_LINES) {
        return false;
    }
    let Some(failing) = FAILING.get_ptr_mut(tid) else {
        return false;
    };
    // SAFETY: the entry belongs to the running thread but for additions, and a lost one costs a
    // request its line.
    let failing = unsafe { &mut *failing };
    let at = now();
    let owes = failing.credit > 0 && at < failing.failed_at + AFTER_FAILURE;
    if !owes && at > failing.waits_until {
        return false;
    }
    failing.credit = failing.credit.saturating_sub(1);
    true
}

/// The line may be about a connection that stood, or about none at all: nothing but the line
/// announces those. `emerg`, `error`, `crit` and `alert` are the levels at which nginx complains
/// of an upstream.
#[inline(always)]
fn tells_by_itself(level: u8, buffer: u64, count: u64) -> bool {
    if !matches!(level, b'e' | b'c' | b'a') || !speaks_of_more(buffer, count) {
        return false;
    }
    let Some(budget) = UNANNOUNCED.get_ptr_mut(0) else {
        return false;
    };
    let at = now();
    // SAFETY: the pointer is to this processor's own element of the map.
    unsafe {
        if at > (*budget).window + WINDOW {
            (*budget).window = at;
            (*budget).used = 0;
        }
        (*budget).used += 1;
        if (*budget).used > LINES_OF_A_WINDOW {
            lost(u32::from(kind::LOG_LINE));
            return false;
        }
    }
    true
}

/// Anything but what has an announced attempt (`connect()`) or is about files (`open()`). A
/// connection that nginx kept and that broke meanwhile fails as if it was being dialled, with
/// ECONNRESET or EPIPE (`ngx_http_upstream_test_connect`).
#[inline(always)]
fn speaks_of_more(buffer: u64, count: u64) -> bool {
    let mut start = [0; START];
    let length = if count < START as u64 {
        count as usize
    } else {
        START
    };
    let Some(read) = start.get_mut(..length) else {
        return false;
    };
    // SAFETY: the helper checks the address and fails where it cannot be read.
    if unsafe { bpf_probe_read_user_buf(buffer as *const u8, read) }.is_err() {
        return false;
    }
    let byte = |at: usize| start[at & (START - 1)];
    let mut at = STAMP + 5;
    while at < 60 && byte(at) != b'*' {
        at += 1;
    }
    while at < 80 && byte(at) != b' ' {
        at += 1;
    }
    let said = |words: &[u8; 6]| {
        let mut same = true;
        let mut index = 0;
        while index < 6 {
            same &= byte(at + 1 + index) == words[index];
            index += 1;
        }
        same
    };
    if said(b"open()") {
        return false;
    }
    // `connect() failed (104: …`: the number stands 18 bytes in.
    let reset = byte(at + 19) == b'1' && byte(at + 20) == b'0' && byte(at + 21) == b'4';
    let pipe = byte(at + 19) == b'3' && byte(at + 20) == b'2' && byte(at + 21) == b':';
    !said(b"connec") || reset || pipe
}

/// The connection that the line is about is closed next.
#[inline(always)]
fn close_follows(tid: u32) {
    become_interested(interest::CLOSES);
    if FAILING.get_ptr(tid).is_none() {
        make(tid, 0, 0, 0);
    }
    let Some(failing) = FAILING.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: the entry's numbers are aligned and written by the running thread.
    unsafe {
        (*failing).wrote_at = now();
        if (*failing).closes < CLOSES_OF_LINES {
            (*failing).closes += 1;
        }
    }
}

/// Whether the thread has just written a line that may be about the connection that it closes.
#[inline(always)]
pub fn wrote_of_a_close(tid: u32) -> bool {
    if !interested(interest::CLOSES) {
        return false;
    }
    let Some(failing) = FAILING.get_ptr_mut(tid) else {
        return false;
    };
    // SAFETY: the entry's numbers are aligned and written by the running thread.
    unsafe {
        if (*failing).closes == 0 || now() > (*failing).wrote_at + AFTER_LINE {
            (*failing).closes = 0;
            return false;
        }
        (*failing).closes -= 1;
    }
    true
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
        wrote_at: 0,
        closes: 0,
    };
    let _ = FAILING.insert(tid, failing, 0);
}

/// The clock by which TCP notes when it last sent something (`tcp_jiffies32`).
#[inline(always)]
pub fn jiffies() -> u32 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_jiffies64() as u32 }
}

/// The first letter of the level, where a line of an error log lies there.
#[inline(always)]
fn level_of_a_log_line(buffer: u64) -> Option<u8> {
    // SAFETY: the helper checks the address and fails where it cannot be read.
    let start = unsafe { bpf_probe_read_user(buffer as *const [u8; STAMP + 1]) }.ok()?;
    let stamped = start[4] == b'/' && start[7] == b'/' && start[13] == b':' && start[20] == b'[';
    stamped.then_some(start[STAMP])
}

#[inline(always)]
fn copy(descriptor: u32, buffer: u64, count: u64) {
    if count <= SHORT_LINE as u64 {
        copy_into::<SHORT_LINE>(descriptor, buffer, count as usize);
    } else {
        copy_into::<LOG_LINE>(descriptor, buffer, count as usize);
    }
}

/// The ring buffer takes entries of constant lengths alone.
#[inline(always)]
fn copy_into<const ROOM: usize>(descriptor: u32, buffer: u64, count: usize) {
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
            descriptor,
        };
        let text = core::slice::from_raw_parts_mut((&raw mut (*line).text).cast::<u8>(), length);
        let _ = bpf_probe_read_user_buf(buffer as *const u8, text);
    }
    entry.submit(0);
}
