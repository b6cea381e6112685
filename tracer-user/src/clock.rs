//! The clocks of kernel time and of the calendar.

use nix::time::{ClockId, clock_gettime};

use crate::case::KernelTime;

/// Now, on the clock of the kernel's records; 0, before all of them, where it cannot be read.
pub fn monotonic() -> KernelTime {
    read(ClockId::CLOCK_MONOTONIC) as KernelTime
}

/// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, in nanoseconds. It changes when the clock is set.
pub fn wall_offset() -> i64 {
    read(ClockId::CLOCK_REALTIME) - read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
