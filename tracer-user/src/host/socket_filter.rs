//! Classic filters on sockets: what the kernel leaves out, this tool need not read.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(super) fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Skips `matched` statements where the value that was loaded is `value`, and `other` else.
pub(super) fn jump_unless(value: u32, matched: u8, other: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: matched,
        jf: other,
        k: value,
    }
}

pub(super) fn attach<const N: usize>(
    socket: BorrowedFd<'_>,
    mut program: [libc::sock_filter; N],
) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: N as u16,
        filter: program.as_mut_ptr(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

pub(super) fn set<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of_val(value)` bytes at `value`, which is borrowed for the
    // call; a program that a `sock_fprog` points at outlives the call in `attach`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of_val(value) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
