//! The clocks of kernel time and of the calendar.

use nix::time::{ClockId, clock_getres, clock_gettime};

use crate::case::KernelTime;

/// Now, on the clock of the kernel's records; 0, before all of them, where it cannot be read.
pub fn monotonic() -> KernelTime {
    read(ClockId::CLOCK_MONOTONIC) as KernelTime
}

/// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, in nanoseconds. It changes when the clock is set.
pub fn wall_offset() -> i64 {
    read(ClockId::CLOCK_REALTIME) - read(ClockId::CLOCK_MONOTONIC)
}

/// `CLOCK_REALTIME` at boot, in nanoseconds: what is counted from boot is added to it. It changes
/// when the clock is set.
pub fn wall_at_boot() -> i64 {
    read(ClockId::CLOCK_REALTIME) - read(ClockId::CLOCK_BOOTTIME)
}

/// The length of the kernel's tick in nanoseconds: the coarse clock moves by it.
pub fn tick() -> u64 {
    const ASSUMED: u64 = 4_000_000;
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .ok()
        .and_then(|length| u64::try_from(length.tv_nsec()).ok())
        .filter(|length| *length > 0)
        .unwrap_or(ASSUMED)
}

fn read(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
