//! Second programs at a tracepoint, for the events that the kernel refuses to the first.
//!
//! A program that is at work on a processor is not run again there
//! (`bpf_prog_get_recursion_context`). As long as tracepoints kept tasks from being preempted, only
//! an interrupt could meet one at work. Now they do not: since 7.0 they are guarded by
//! `tracepoint_srcu` (`__DECLARE_TRACE`), and at system calls programs may sleep
//! (`trace_call_bpf_faultable`). A task that is preempted inside a program takes it from all others
//! of the processor until it runs again, milliseconds later.
//!
//! So the first program notes that it is at work, and the second, which the kernel runs behind it
//! for each event, takes over what finds the first at work. Both stay on their processor, so the
//! note is a plain number of that processor. A task may be preempted between the two as well: that
//! the first program was run for it is noted until the second has been. What is left is the moment
//! between the kernel's check and the note, a few instructions.

use crate::{
    emit::current,
    kernel::layout,
    maps::{SHIFTS, Shift, TAKEN_OVER},
};

/// Makes the program of a raw tracepoint and its stand-in of the function that both run.
macro_rules! programs {
    ($first:ident, $stand_in:ident, $index:ident, $run:ident) => {
        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $first(context: aya_ebpf::programs::RawTracePointContext) -> i32 {
            $crate::stand_in::first(tracer_common::stand_in::$index, || $run(&context));
            0
        }

        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $stand_in(context: aya_ebpf::programs::RawTracePointContext) -> i32 {
            $crate::stand_in::stand_in(tracer_common::stand_in::$index, || $run(&context));
            0
        }
    };
}
pub(crate) use programs;

/// The same for the tracepoint of a system call.
macro_rules! call_programs {
    ($first:ident, $stand_in:ident, $index:ident, $run:ident) => {
        #[aya_ebpf::macros::tracepoint]
        pub fn $first(context: aya_ebpf::programs::TracePointContext) -> u32 {
            $crate::stand_in::first(tracer_common::stand_in::$index, || $run(&context));
            0
        }

        #[aya_ebpf::macros::tracepoint]
        pub fn $stand_in(context: aya_ebpf::programs::TracePointContext) -> u32 {
            $crate::stand_in::stand_in(tracer_common::stand_in::$index, || $run(&context));
            0
        }
    };
}
pub(crate) use call_programs;

/// Runs the first program of a tracepoint, with the index that `tracer_common::stand_in` gives it.
#[inline(always)]
pub fn first(index: u32, run: impl FnOnce()) {
    let shift = match layout!(preemptible) {
        1 => SHIFTS.get_ptr_mut(index),
        _ => None,
    };
    if let Some(shift) = shift {
        // SAFETY: the pointer is to this processor's own element of the map. The write is volatile
        // because it is read in the midst of what stands between it and the next.
        unsafe { (&raw mut (*shift).at_work).write_volatile(1) };
    }
    run();
    if let Some(shift) = shift {
        // SAFETY: as above.
        unsafe {
            (&raw mut (*shift).done_for).write_volatile(runner());
            (&raw mut (*shift).at_work).write_volatile(0);
        }
    }
}

/// Runs its stand-in.
#[inline(always)]
pub fn stand_in(index: u32, run: impl FnOnce()) {
    if !SHIFTS.get_ptr_mut(index).is_some_and(was_refused) {
        return;
    }
    if let Some(counts) = TAKEN_OVER.get_ptr_mut(0) {
        // SAFETY: the pointer is to this processor's own element of the map; this program is the
        // one writer of its count, and not run twice at once.
        unsafe { (*counts)[index as usize] += 1 };
    }
    run();
}

/// Whether the first program was not run for the event that its stand-in is run for.
#[inline(always)]
fn was_refused(shift: *mut Shift) -> bool {
    // SAFETY: the pointer is to this processor's own element of the map.
    unsafe {
        let done_for = &raw mut (*shift).done_for;
        if done_for.read_volatile() == runner() {
            done_for.write_volatile(0);
            return false;
        }
        (&raw const (*shift).at_work).read_volatile() != 0
    }
}

/// The running thread as it stands in `Shift::done_for`.
#[inline(always)]
fn runner() -> u32 {
    let (_, tid) = current();
    tid + 1
}
