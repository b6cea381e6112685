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
//!
//! The kernel counts what it refuses to each. An event is lost where it was refused to both: while the
//! stand-in was at work, and without the first having been run for it, which is counted here.

use tracer_common::stand_in::turn::{BEGAN, DONE, SPARED};

use crate::{
    emit::current,
    kernel::layout,
    maps::{SHIFTS, Shift, THREADS_OF_A_SHIFT, TURNS},
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
            $crate::stand_in::begins(tracer_common::stand_in::$index);
            if $crate::stand_in::takes_over(tracer_common::stand_in::$index) {
                $run(&context);
            }
            $crate::stand_in::ends(tracer_common::stand_in::$index);
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
            $crate::stand_in::begins(tracer_common::stand_in::$index);
            if $crate::stand_in::takes_over(tracer_common::stand_in::$index) {
                $run(&context);
            }
            $crate::stand_in::ends(tracer_common::stand_in::$index);
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
    if let Some(turn) = TURNS.get_ptr_mut(index) {
        // SAFETY: the pointer is to this processor's own element of the map; the first program is
        // the one writer of this count, and not run twice at once.
        unsafe { (*turn)[DONE] += 1 };
    }
}

/// The stand-in of that index begins its work.
#[inline(always)]
pub fn begins(index: u32) {
    if let Some(turn) = TURNS.get_ptr_mut(index) {
        // SAFETY: the pointer is to this processor's own element of the map; the stand-in is the
        // one writer of this place, and not run twice at once.
        unsafe { (*turn)[BEGAN] = (*turn)[DONE] + 1 };
    }
}

/// It has done its work. It may have been preempted, and what came meanwhile was refused to it.
#[inline(always)]
pub fn ends(index: u32) {
    if let Some(turn) = TURNS.get_ptr_mut(index) {
        // SAFETY: as it began; the first program may be run in between, and counts up.
        unsafe {
            (*turn)[SPARED] += (*turn)[DONE] + 1 - (*turn)[BEGAN];
            (*turn)[BEGAN] = 0;
        }
    }
}

/// Whether the stand-in of that index has to do what the first was refused.
#[inline(always)]
pub fn takes_over(index: u32) -> bool {
    SHIFTS.get_ptr_mut(index).is_some_and(was_refused)
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
