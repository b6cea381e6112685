//! The programs that run in the kernel. They observe and copy; user space decides.
//!
//! Each file holds the observations of one kind of fact. A program looks up first whether the
//! task, socket or packet belongs to an nginx and returns at once where it does not.
#![no_std]
#![no_main]

mod calls;
mod connection;
mod emit;
mod kernel;
mod log_line;
mod maps;
mod neighbour;
mod packet;
mod process;
mod reply;
mod rule;
mod socket;
mod stand_in;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses programs that can reach this.
    loop {}
}

/// The kernel lends GPL-only helpers, such as reading kernel memory, to programs that say so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
