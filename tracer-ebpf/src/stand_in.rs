//! Second programs at a tracepoint, for the events that the kernel refuses to the first.
//!
//! A program that is at work on a processor is not run again there
//! (`bpf_prog_get_recursion_context`). As long as tracepoints kept tasks from being preempted, only
//! an interrupt could meet one at work. Now they do not: since 7.0 they are guarded by
//! `tracepoint_srcu` (`__DECLARE_TRACE`), and at system calls programs may sleep
//! (`trace_call_bpf_faultable`). A task that is preempted inside a program takes it from all others
//! of the processor until it runs again, milliseconds later.
//!
//! So each program notes for which thread it was run, and its second, which the kernel runs behind it
//! for each event, takes over the events without that note. Both stay on their processor while they
//! run, so the note is a plain number of that processor. Where a thread is preempted between the two
//! and goes on elsewhere, or another takes the place of its note meanwhile, an event is told twice.

use crate::{
    emit::current,
    kernel::layout,
    maps::{SHIFTS, Shift, TAKEN_OVER, THREADS_OF_A_SHIFT},
};

/// Makes the program of a raw tracepoint and its stand-in of the function that both run. It is
/// inlined into both: a frame of its own would not fit beside those below it.
macro_rules! programs {
    ($first:ident, $stand_in:ident, $index:ident, $run:ident) => {
        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $first(context: aya_ebpf::programs::RawTracePointContext) -> i32 {
            $run(&context);
            $crate::stand_in::done(tracer_common::stand_in::$index);
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
            $run(&context);
            $crate::stand_in::done(tracer_common::stand_in::$index);
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

/// Notes that the first program of that index was run for the event, where a task can be preempted
/// inside one. Elsewhere nothing needs to be noted.
#[inline(always)]
pub fn done(index: u32) {
    if layout!(preemptible) != 1 {
        return;
    }
    if let Some(shift) = SHIFTS.get_ptr_mut(index) {
        let runner = runner();
        // SAFETY: the pointer is to this processor's own element of the map.
        unsafe { note(shift, runner).write_volatile(runner) };
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

/// Whether the first program was not run for the event that its stand-in is run for.
#[inline(always)]
fn was_refused(shift: *mut Shift) -> bool {
    let runner = runner();
    let note = note(shift, runner);
    // SAFETY: the pointer is to this processor's own element of the map.
    unsafe {
        if note.read_volatile() != runner {
            return true;
        }
        note.write_volatile(0);
    }
    false
}

#[inline(always)]
fn note(shift: *mut Shift, runner: u32) -> *mut u32 {
    let place = runner as usize & (THREADS_OF_A_SHIFT - 1);
    // SAFETY: the place lies within the array.
    unsafe { (&raw mut (*shift).done_for).cast::<u32>().add(place) }
}

/// The running thread as it stands in `Shift::done_for`.
#[inline(always)]
fn runner() -> u32 {
    let (_, tid) = current();
    tid + 1
}
