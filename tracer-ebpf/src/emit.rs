//! Puts records into the ring buffer and counts those that find no room.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns,
};
use tracer_common::record::{Header, Task};

use crate::maps::{EVENTS, LOSSES};

/// Place in `LOSSES` that counts map entries.
const MAP_ENTRIES: u32 = 0;

/// Sends one record. `fill` writes every field of it in its place in the ring buffer: the stack
/// of a program has 512 bytes.
#[inline(always)]
pub fn emit<T: Copy + 'static>(kind: u16, fill: impl FnOnce(*mut T)) {
    match EVENTS.reserve::<T>(0) {
        Some(mut entry) => {
            fill(entry.as_mut_ptr());
            entry.submit(0);
        }
        None => lost(u32::from(kind)),
    }
}

/// Fills a record, field by field, through a raw pointer.
macro_rules! fill {
    ($record:ident: $type:ident { $($field:ident: $value:expr,)* }) => {
        |$record: *mut $type| {$(
            let value = $value;
            // SAFETY: the pointer is to a reserved entry of the ring buffer of that type's size.
            unsafe { (*$record).$field = value };
        )*}
    };
}
pub(crate) use fill;

/// The beginning of a record that is made now.
#[inline(always)]
pub fn header(kind: u16) -> Header {
    Header {
        kind,
        reserved: 0,
        // SAFETY: the helper takes nothing and cannot fail.
        cpu: unsafe { bpf_get_smp_processor_id() },
        at: now(),
    }
}

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// The process id and the thread id of the running task.
#[inline(always)]
pub fn current() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

/// The running task, with its name.
#[inline(always)]
pub fn current_task() -> Task {
    let (tgid, tid) = current();
    Task {
        tgid,
        tid,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// Counts a record of that kind as lost.
#[inline(always)]
pub fn lost(kind: u32) {
    let Some(counts) = LOSSES.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the pointer is to this processor's own element of the map.
    let counts = unsafe { &mut *counts };
    if let Some(count) = counts.get_mut(kind as usize) {
        *count += 1;
    }
}

/// Counts a map entry that found no room.
#[inline(always)]
pub fn no_room() {
    lost(MAP_ENTRIES);
}
