//! Programs of the BPF security module that are asked at `connect()`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use aya::programs::loaded_programs;

use super::{Attached, Found, MOST};
use crate::btf::Btf;
use crate::case::ProgramPlace;

/// `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd`.
const INFO_BY_FD: libc::c_long = 15;
/// `BPF_PROG_TYPE_LSM` of `enum bpf_prog_type`.
const LSM: u32 = 29;
/// The function that such a program is attached to, of the hook `socket_connect`.
const CONNECT: &str = "bpf_lsm_socket_connect";

/// `struct bpf_prog_info` up to and with `attach_btf_id`, in 32-bit words: its first word is the
/// type, and the field stands at byte 224 (5.18; a kernel that knows less writes less).
const WORDS: usize = 57;
const TYPE: usize = 0;
const ATTACHED_TO: usize = 56;

#[repr(C)]
struct Query {
    fd: u32,
    length: u32,
    info: u64,
}

/// Those that run at the hook `socket_connect`, whatever cgroup a process is in.
pub fn at_connect() -> Found {
    let places: Vec<Attached> = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| {
            let fd = program.fd().ok();
            fd.and_then(|fd| info(fd.as_fd()).ok())
                .is_some_and(|info| is_at_connect(&info))
        })
        .take(MOST)
        .map(|program| Attached {
            id: Some(program.id()),
            name: None,
            place: ProgramPlace::SecurityHook {
                hook: "socket_connect".to_owned(),
            },
        })
        .collect();
    Found::new(places, Vec::new())
}

fn is_at_connect(info: &[u32; WORDS]) -> bool {
    info[TYPE] == LSM && connect_hook() == Some(info[ATTACHED_TO])
}

/// The number of the hook's function among the kernel's types, looked for once and only where
/// there is a program of that kind. They must be the kernel's own: of a file the numbers may
/// differ.
fn connect_hook() -> Option<u32> {
    static HOOK: OnceLock<Option<u32>> = OnceLock::new();
    *HOOK.get_or_init(|| Btf::of_running_kernel().ok()?.function(CONNECT))
}

fn info(program: BorrowedFd<'_>) -> io::Result<[u32; WORDS]> {
    let mut info = [0; WORDS];
    let mut query = Query {
        fd: program.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the structure and the array that it points to outlive the call, and the kernel
    // writes no more than `length` bytes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            INFO_BY_FD,
            &raw mut query,
            size_of::<Query>(),
        )
    };
    match result {
        0 => Ok(info),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_security_programs_at_connect_count() {
        let Some(hook) = connect_hook() else {
            println!(
                "skipped: this kernel has no BPF security module, or its types cannot be read"
            );
            return;
        };
        let mut info = [0; WORDS];
        info[ATTACHED_TO] = hook;
        assert!(!is_at_connect(&info));
        info[TYPE] = LSM;
        assert!(is_at_connect(&info));
        info[ATTACHED_TO] = hook + 1;
        assert!(!is_at_connect(&info));
    }
}
