//! Second programs at a tracepoint, for the events that the kernel refuses to the first.
//!
//! A program that is at work on a processor is not run again there (`__bpf_trace_run`,
//! `bpf_prog_get_recursion_context`). As long as tracepoints kept tasks from being preempted, only
//! an interrupt could meet one at work. Since 7.0 they do not (`__DECLARE_TRACE`, guarded by
//! `tracepoint_srcu`): a task that is preempted inside a program takes it from all others of the
//! processor until it runs again, milliseconds later.
//!
//! So the first program notes that it is at work, and the second, which the kernel runs behind it
//! for each event, takes over what finds the first at work. Both stay on their processor, so the
//! note is a plain number of that processor. Two moments are left: between the kernel's check and the
//! note, a few instructions, and a task that is preempted between both programs for so long that the
//! first is done meanwhile, or at work again; then an event is missed, or told twice.

use core::ptr::write_volatile;

use crate::{
    kernel::layout,
    maps::{AT_WORK, TAKEN_OVER},
};

/// Makes the program of a tracepoint and its stand-in of the function that both run.
macro_rules! programs {
    ($first:ident, $stand_in:ident, $index:ident, $run:ident) => {
        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $first(context: aya_ebpf::programs::RawTracePointContext) -> i32 {
            $crate::stand_in::first(tracer_common::stand_in::$index, || $run(&context))
        }

        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $stand_in(context: aya_ebpf::programs::RawTracePointContext) -> i32 {
            $crate::stand_in::stand_in(tracer_common::stand_in::$index, || $run(&context))
        }
    };
}
pub(crate) use programs;

/// Runs the first program of a tracepoint, with the index that `tracer_common::stand_in` gives it.
#[inline(always)]
pub fn first(index: u32, run: impl FnOnce()) -> i32 {
    let at_work = match layout!(preemptible) {
        1 => AT_WORK.get_ptr_mut(index),
        _ => None,
    };
    note(at_work, 1);
    run();
    note(at_work, 0);
    0
}

/// Runs its stand-in.
#[inline(always)]
pub fn stand_in(index: u32, run: impl FnOnce()) -> i32 {
    // SAFETY: the pointer is to this processor's own element of the map.
    let is_at_work = |at_work: *mut u32| unsafe { at_work.read_volatile() } != 0;
    if !AT_WORK.get_ptr_mut(index).is_some_and(is_at_work) {
        return 0;
    }
    if let Some(counts) = TAKEN_OVER.get_ptr_mut(0) {
        // SAFETY: as above; this program is the one writer of its count, and not run twice at once.
        unsafe { (*counts)[index as usize] += 1 };
    }
    run();
    0
}

#[inline(always)]
fn note(at_work: Option<*mut u32>, value: u32) {
    if let Some(at_work) = at_work {
        // SAFETY: the pointer is to this processor's own element of the map. The write is volatile
        // because it is read in the midst of what stands between two of them.
        unsafe { write_volatile(at_work, value) };
    }
}
