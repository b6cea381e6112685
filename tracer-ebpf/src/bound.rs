//! Sockets that are bound and neither listen nor are connected, among the files of all tasks.

use aya_ebpf::{bindings::seq_file, helpers::bpf_seq_write};
use tracer_common::record::{BoundSocket, INET, INET6};

use crate::kernel::{is_tcp, layout, local_address, netns_of_socket, read};

/// `TCP_CLOSE` of include/net/tcp_states.h.
const CLOSE: u8 = 7;
/// `S_IFMT` and `S_IFSOCK` of include/uapi/linux/stat.h.
const KIND_OF_FILE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

/// `struct bpf_iter__task_file` of kernel/bpf/task_iter.c.
#[repr(C)]
pub struct TaskFile {
    meta: *const Meta,
    task: u64,
    /// The lower half is the descriptor; the rest is not set.
    descriptor: u64,
    file: u64,
}

/// The beginning of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Runs for each file of each task when user space reads the iterator, and once more at the end
/// without a file. aya-ebpf 0.2 has no macro for this kind.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub fn iter_task_file(context: *const TaskFile) -> i32 {
    // SAFETY: the kernel hands over a `struct bpf_iter__task_file`, whose first field is set.
    let (task, file, seq) = unsafe { ((*context).task, (*context).file, (*(*context).meta).seq) };
    if task != 0
        && file != 0
        && let Some(socket) = socket_of(file)
        && is_merely_bound(socket)
    {
        tell(task, file, socket, seq);
    }
    0
}

/// The `struct sock` behind a file that is a socket.
#[inline(always)]
fn socket_of(file: u64) -> Option<u64> {
    let mode: u16 = read(read(file, layout!(file_inode))?, layout!(inode_mode))?;
    if mode & KIND_OF_FILE != SOCKET {
        return None;
    }
    read(
        read(file, layout!(file_private_data))?,
        layout!(socket_sock),
    )
}

/// As `inet_diag_dump_icsk` has it since 6.8: the port of a socket that gave it back is 0.
#[inline(always)]
fn is_merely_bound(socket: u64) -> bool {
    let family = read::<u16>(socket, layout!(sock_family));
    (family == Some(INET) || family == Some(INET6))
        && read::<u8>(socket, layout!(sock_state)) == Some(CLOSE)
        && is_tcp(socket)
        && read::<u16>(socket, layout!(sock_num)).is_some_and(|port| port != 0)
}

#[inline(always)]
fn tell(task: u64, file: u64, socket: u64, seq: *mut seq_file) {
    let record = BoundSocket {
        inode: read::<u64>(file, layout!(file_private_data))
            .and_then(|socket| read(socket, layout!(socket_inode)))
            .unwrap_or(0),
        address: local_address(socket),
        tgid: read(task, layout!(task_tgid)).unwrap_or(0),
        netns: netns_of_socket(socket),
    };
    // SAFETY: the record is plain integers without padding. Where the buffer is full the kernel
    // drops the record and asks again with an empty one (`bpf_seq_read`).
    unsafe {
        bpf_seq_write(
            seq,
            (&raw const record).cast(),
            size_of::<BoundSocket>() as u32,
        )
    };
}
