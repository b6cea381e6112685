//! The system call that lists the programs of one place.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_PROG_QUERY` of `enum bpf_cmd`.
const PROG_QUERY: libc::c_long = 16;
/// `BPF_F_QUERY_EFFECTIVE`: those of the ancestors too.
const EFFECTIVE: u32 = 1;
/// `BPF_CGROUP_MAX_PROGS` is 64; a chain of tcx takes as many (`bpf_mprog`).
const ROOM: usize = 64;

/// A value of `enum bpf_attach_type`, and how `bpftool` calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttachType {
    pub number: u32,
    pub name: &'static str,
}

/// The part of `union bpf_attr` that belongs to `BPF_PROG_QUERY`, as include/uapi/linux/bpf.h has
/// had it since 4.19; what came later is zero.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    later: [u64; 4],
}

/// Ids of the programs that are attached to this very cgroup.
pub(super) fn at_cgroup(cgroup: BorrowedFd<'_>, kind: AttachType) -> io::Result<Vec<u32>> {
    query(cgroup.as_raw_fd() as u32, kind, 0)
}

/// Whether any program runs for the processes of this cgroup, attached here or further up.
pub(super) fn any_for_cgroup(cgroup: BorrowedFd<'_>, kind: AttachType) -> io::Result<bool> {
    query(cgroup.as_raw_fd() as u32, kind, EFFECTIVE).map(|ids| !ids.is_empty())
}

/// Ids of the programs that are attached to a device of the calling thread's namespace.
pub(super) fn at_device(index: u32, kind: AttachType) -> io::Result<Vec<u32>> {
    query(index, kind, 0)
}

fn query(target: u32, kind: AttachType, flags: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; ROOM];
    let mut query = Query {
        target,
        attach_type: kind.number,
        flags,
        ids: ids.as_mut_ptr() as u64,
        count: ROOM as u32,
        ..Query::default()
    };
    // SAFETY: the structure and the array that it points to outlive the call, and the kernel
    // writes no more ids than `count` says there is room for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_QUERY,
            &raw mut query,
            size_of::<Query>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids[..(query.count as usize).min(ROOM)].to_vec())
}
