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

/// Makes the program of a raw tracepoint and its stand-in of the function that both run. It is
/// inlined into both: a frame of its own would not fit beside those below it.
macro_rules! programs {
    ($first:ident, $stand_in:ident, $index:ident, $run:ident) => {
        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $first(context: aya_ebpf::programs::RawTracePointContext) -> i32 {
            $crate::stand_in::begin(tracer_common::stand_in::$index);
            $run(&context);
            $crate::stand_in::end(tracer_common::stand_in::$index);
            0
        }

        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $stand_in(context: aya_ebpf::programs::RawTracePointContext) -> i32 {
            if $crate::stand_in::takes_over(tracer_common::stand_in::$index) {
                $run(&context);
            }
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
            $crate::stand_in::begin(tracer_common::stand_in::$index);
            $run(&context);
            $crate::stand_in::end(tracer_common::stand_in::$index);
            0
        }

        #[aya_ebpf::macros::tracepoint]
        pub fn $stand_in(context: aya_ebpf::programs::TracePointContext) -> u32 {
            if $crate::stand_in::takes_over(tracer_common::stand_in::$index) {
                $run(&context);
            }
            0
        }
    };
}
pub(crate) use call_programs;

/// The first program of that index is at work from now on.
#[inline(always)]
pub fn begin(index: u32) {
    if let Some(shift) = shift(index) {
        // SAFETY: the pointer is to this processor's own element of the map. The write is volatile
        // because it is read before the next.
        unsafe { (&raw mut (*shift).at_work).write_volatile(1) };
    }
}

/// It was run for the event, and is no longer at work.
#[inline(always)]
pub fn end(index: u32) {
    if let Some(shift) = shift(index) {
        // SAFETY: as in `begin`.
        unsafe {
            (&raw mut (*shift).done_for).write_volatile(runner());
            (&raw mut (*shift).at_work).write_volatile(0);
        }
    }
}

/// Whether the stand-in of that index has to do what the first was refused, which is counted.
#[inline(always)]
pub fn takes_over(index: u32) -> bool {
    if !SHIFTS.get_ptr_mut(index).is_some_and(was_refused) {
        return false;
    }
    if let Some(counts) = TAKEN_OVER.get_ptr_mut(0) {
        // SAFETY: the pointer is to this processor's own element of the map; the stand-in is the
        // one writer of its count, and not run twice at once.
        unsafe { (*counts)[index as usize] += 1 };
    }
    true
}

/// `None` where no task is preempted inside a program: there nothing needs to be noted.
#[inline(always)]
fn shift(index: u32) -> Option<*mut Shift> {
    match layout!(preemptible) {
        1 => SHIFTS.get_ptr_mut(index),
        _ => None,
    }
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
