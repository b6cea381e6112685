//! Reads fields of the kernel's structures, where this kernel has them.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_task, bpf_probe_read_kernel},
    programs::TracePointContext,
};
use tracer_common::{
    layout::{Layout, NONE},
    record::{Address, INET, INET6},
};

/// Where the running kernel's fields lie; user space overwrites it before the programs load.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout::UNKNOWN;

/// `PF_EXITING` of include/linux/sched.h.
const PF_EXITING: u32 = 0x4;

/// The offset, argument index or switch of that name.
macro_rules! layout {
    ($field:ident) => {
        // SAFETY: the static is initialised and never written while programs run. The read is
        // volatile because the loader changes the value after compilation.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::LAYOUT.$field) }
    };
}
pub(crate) use layout;

/// Reads a value `offset` bytes into a structure of the kernel.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Option<T> {
    if offset == NONE || base == 0 {
        return None;
    }
    // SAFETY: the helper checks the address and fails where it cannot be read.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}

/// `IPPROTO_TCP` of the socket.
#[inline(always)]
pub fn is_tcp(socket: u64) -> bool {
    read::<u16>(socket, layout!(sock_protocol)) == Some(6)
}

/// The socket's own address; the port is 0 before one is chosen.
#[inline(always)]
pub fn local_address(socket: u64) -> Address {
    let port = u16::from_be(read(socket, layout!(inet_sport)).unwrap_or(0));
    address(
        socket,
        layout!(sock_rcv_saddr),
        layout!(sock_v6_rcv_saddr),
        port,
    )
}

/// The address that the socket is connected to or dials.
#[inline(always)]
pub fn remote_address(socket: u64) -> Address {
    let port = u16::from_be(read(socket, layout!(sock_dport)).unwrap_or(0));
    address(socket, layout!(sock_daddr), layout!(sock_v6_daddr), port)
}

#[inline(always)]
fn address(socket: u64, v4: u32, v6: u32, port: u16) -> Address {
    match read::<u16>(socket, layout!(sock_family)) {
        Some(INET) => match read::<[u8; 4]>(socket, v4) {
            Some(ip) => Address::v4(ip, port),
            None => Address::NONE,
        },
        Some(INET6) => match read::<[u8; 16]>(socket, v6) {
            Some(ip) => Address::v6(ip, port, 0),
            None => Address::NONE,
        },
        _ => Address::NONE,
    }
}

/// The inode number of the socket's network namespace, 0 where it cannot be read.
#[inline(always)]
pub fn netns_of_socket(socket: u64) -> u32 {
    read::<u64>(socket, layout!(sock_net)).map_or(0, inode_of_net)
}

/// The `struct net` that a packet is in: that of its device or, on its way out, where the device
/// may not be known yet, that of its socket. 0 where neither can be read.
#[inline(always)]
pub fn net_of_packet(skb: u64, device: u64) -> u64 {
    match read::<u64>(device, layout!(netdev_net)) {
        Some(net) if net != 0 => net,
        _ => read::<u64>(skb, layout!(skb_sk))
            .and_then(|socket| read(socket, layout!(sock_net)))
            .unwrap_or(0),
    }
}

/// The inode number of a `struct net`, 0 where it cannot be read.
#[inline(always)]
pub fn inode_of_net(net: u64) -> u32 {
    read(net, layout!(net_inum)).unwrap_or(0)
}

/// The inode number of the file behind the socket, 0 where it has none.
#[inline(always)]
pub fn inode(socket: u64) -> u64 {
    read::<u64>(socket, layout!(sock_socket))
        .and_then(|socket| read(socket, layout!(socket_inode)))
        .unwrap_or(0)
}

/// The running task is ending (`do_exit`).
#[inline(always)]
pub fn exiting() -> bool {
    let flags: u32 = read(current(), layout!(task_flags)).unwrap_or(0);
    flags & PF_EXITING != 0
}

/// How the running task ends, as `wait()` encodes it.
#[inline(always)]
pub fn exit_code() -> u32 {
    exit_code_of(current())
}

/// How the task ends, as `wait()` encodes it. `do_exit` sets its own code before it closes the
/// task's files. The code of the whole process goes first: that a core was dumped stands in it
/// alone, as the other threads took theirs before the dump (`zap_process`, `do_coredump`).
#[inline(always)]
pub fn exit_code_of(task: u64) -> u32 {
    let of_all: u32 = read::<u64>(task, layout!(task_signal))
        .and_then(|signal| read(signal, layout!(signal_group_exit_code)))
        .unwrap_or(0);
    match of_all {
        0 => read(task, layout!(task_exit_code)).unwrap_or(0),
        code => code,
    }
}

#[inline(always)]
fn current() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_get_current_task() }
}

/// `sk_protocol` of the socket behind a descriptor of the running task, 0 where it cannot be read.
/// The caller knows the descriptor to be a socket: `sock_from_file` takes its private data.
#[inline(always)]
pub fn protocol_of(descriptor: u32) -> u16 {
    read::<u64>(current(), layout!(task_files))
        .and_then(|files| read::<u64>(files, layout!(files_fdt)))
        .and_then(|table| read::<u64>(table, layout!(fdtable_fd)))
        .and_then(|slots| read::<u64>(slots + u64::from(descriptor) * 8, 0))
        .and_then(|file| read::<u64>(file, layout!(file_private_data)))
        .and_then(|socket| read::<u64>(socket, layout!(socket_sock)))
        .and_then(|socket| read(socket, layout!(sock_protocol)))
        .unwrap_or(0)
}

/// An argument out of the record of a syscalls tracepoint; a return value stands in the first
/// place. Each takes 8 bytes from the 16th on (`struct syscall_trace_enter`,
/// kernel/trace/trace.h).
#[inline(always)]
pub fn argument(context: &TracePointContext, index: usize) -> u64 {
    let record: *const u64 = context.as_ptr().cast();
    // SAFETY: the record has six arguments. The verifier turns this into a load from the context,
    // where a helper would copy it out.
    unsafe { *record.add(2 + index) }
}
