//! The programs at system calls: at the functions that do the work, which costs other processes
//! next to nothing, and at the tracepoints of the calls, which every kernel has.
//!
//! A program at a function says when it meets a call of our own: a function may be there and not
//! be called.

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext, TracePointContext},
};
use tracer_common::heard;

use super::{
    begins, bind_returns, connect_returns, function_left, function_told, security_answers,
    socket_returns,
};
use crate::{kernel::argument, log_line, maps::hear, process, stand_in::call_programs};

call_programs!(
    sys_enter_connect,
    sys_enter_connect_stand_in,
    SYS_ENTER_CONNECT,
    connect_entered
);

/// match-proto: syscalls:sys_enter_connect(int fd, struct sockaddr *uservaddr, int addrlen)
#[inline(always)]
fn connect_entered(context: &TracePointContext) {
    begins(
        argument(context, 0) as u32,
        argument(context, 1),
        argument(context, 2) as u32,
    );
}

/// match-proto: int __sys_connect(int fd, struct sockaddr *uservaddr, int addrlen)
#[fentry(function = "__sys_connect")]
pub fn fentry_sys_connect(context: FEntryContext) -> i32 {
    hear(heard::CONNECT_ENTRY);
    begins(context.arg(0), context.arg(1), context.arg(2));
    0
}

/// match-proto: int __sys_connect(int fd, struct sockaddr *uservaddr, int addrlen)
#[kprobe(function = "__sys_connect")]
pub fn kprobe_sys_connect(context: ProbeContext) -> u32 {
    hear(heard::CONNECT_ENTRY);
    begins(
        context.arg(0).unwrap_or(0),
        context.arg(1).unwrap_or(0),
        context.arg(2).unwrap_or(0),
    );
    0
}

call_programs!(
    sys_exit_connect,
    sys_exit_connect_stand_in,
    SYS_EXIT_CONNECT,
    connect_left
);

/// match-proto: syscalls:sys_exit_connect(long ret)
#[inline(always)]
fn connect_left(context: &TracePointContext) {
    if !function_told() {
        connect_returns(argument(context, 0) as i64);
    }
}

/// match-proto: int __sys_connect(int fd, struct sockaddr *uservaddr, int addrlen)
#[fexit(function = "__sys_connect")]
pub fn fexit_sys_connect(context: FExitContext) -> i32 {
    hear(heard::CONNECT_RETURN);
    connect_returns(i64::from(context.arg::<i32>(3)));
    function_left();
    0
}

/// match-proto: int __sys_connect(int fd, struct sockaddr *uservaddr, int addrlen)
#[kretprobe(function = "__sys_connect")]
pub fn kretprobe_sys_connect(context: RetProbeContext) -> u32 {
    hear(heard::CONNECT_RETURN);
    connect_returns(i64::from(context.ret::<i32>()));
    function_left();
    0
}

call_programs!(
    sys_enter_bind,
    sys_enter_bind_stand_in,
    SYS_ENTER_BIND,
    bind_entered
);

/// match-proto: syscalls:sys_enter_bind(int fd, struct sockaddr *umyaddr, int addrlen)
#[inline(always)]
fn bind_entered(context: &TracePointContext) {
    begins(
        argument(context, 0) as u32,
        argument(context, 1),
        argument(context, 2) as u32,
    );
}

/// match-proto: int __sys_bind(int fd, struct sockaddr *umyaddr, int addrlen)
#[fentry(function = "__sys_bind")]
pub fn fentry_sys_bind(context: FEntryContext) -> i32 {
    hear(heard::BIND_ENTRY);
    begins(context.arg(0), context.arg(1), context.arg(2));
    0
}

/// match-proto: int __sys_bind(int fd, struct sockaddr *umyaddr, int addrlen)
#[kprobe(function = "__sys_bind")]
pub fn kprobe_sys_bind(context: ProbeContext) -> u32 {
    hear(heard::BIND_ENTRY);
    begins(
        context.arg(0).unwrap_or(0),
        context.arg(1).unwrap_or(0),
        context.arg(2).unwrap_or(0),
    );
    0
}

call_programs!(
    sys_exit_bind,
    sys_exit_bind_stand_in,
    SYS_EXIT_BIND,
    bind_left
);

/// match-proto: syscalls:sys_exit_bind(long ret)
#[inline(always)]
fn bind_left(context: &TracePointContext) {
    bind_returns(argument(context, 0) as i64);
}

/// match-proto: int __sys_bind(int fd, struct sockaddr *umyaddr, int addrlen)
#[fexit(function = "__sys_bind")]
pub fn fexit_sys_bind(context: FExitContext) -> i32 {
    hear(heard::BIND_RETURN);
    bind_returns(i64::from(context.arg::<i32>(3)));
    0
}

/// match-proto: int __sys_bind(int fd, struct sockaddr *umyaddr, int addrlen)
#[kretprobe(function = "__sys_bind")]
pub fn kretprobe_sys_bind(context: RetProbeContext) -> u32 {
    hear(heard::BIND_RETURN);
    bind_returns(i64::from(context.ret::<i32>()));
    0
}

call_programs!(
    sys_exit_socket,
    sys_exit_socket_stand_in,
    SYS_EXIT_SOCKET,
    socket_left
);

/// match-proto: syscalls:sys_exit_socket(long ret)
#[inline(always)]
fn socket_left(context: &TracePointContext) {
    let result = argument(context, 0) as i64;
    if result < 0 && !function_told() {
        socket_returns(result);
    }
}

/// match-proto: int __sys_socket(int family, int type, int protocol)
#[fexit(function = "__sys_socket")]
pub fn fexit_sys_socket(context: FExitContext) -> i32 {
    hear(heard::SOCKET_RETURN);
    socket_function_returns(i64::from(context.arg::<i32>(3)));
    0
}

/// match-proto: int __sys_socket(int family, int type, int protocol)
#[kretprobe(function = "__sys_socket")]
pub fn kretprobe_sys_socket(context: RetProbeContext) -> u32 {
    hear(heard::SOCKET_RETURN);
    socket_function_returns(i64::from(context.ret::<i32>()));
    0
}

#[inline(always)]
fn socket_function_returns(result: i64) {
    socket_returns(result);
    if result < 0 {
        function_left();
    }
}

call_programs!(
    sys_exit_listen,
    sys_exit_listen_stand_in,
    SYS_EXIT_LISTEN,
    listen_left
);

/// match-proto: syscalls:sys_exit_listen(long ret)
#[inline(always)]
fn listen_left(context: &TracePointContext) {
    process::listen_returns(argument(context, 0) as i64);
}

/// match-proto: int __sys_listen(int fd, int backlog)
#[fexit(function = "__sys_listen")]
pub fn fexit_sys_listen(context: FExitContext) -> i32 {
    hear(heard::LISTEN_RETURN);
    process::listen_returns(i64::from(context.arg::<i32>(2)));
    0
}

/// match-proto: int __sys_listen(int fd, int backlog)
#[kretprobe(function = "__sys_listen")]
pub fn kretprobe_sys_listen(context: RetProbeContext) -> u32 {
    hear(heard::LISTEN_RETURN);
    process::listen_returns(i64::from(context.ret::<i32>()));
    0
}

call_programs!(
    sys_enter_write,
    sys_enter_write_stand_in,
    SYS_ENTER_WRITE,
    write_entered
);

/// match-proto: syscalls:sys_enter_write(unsigned int fd, const char *buf, size_t count)
#[inline(always)]
fn write_entered(context: &TracePointContext) {
    log_line::written(
        argument(context, 0) as u32,
        argument(context, 1),
        argument(context, 2),
    );
}

/// match-proto: ssize_t ksys_write(unsigned int fd, const char *buf, size_t count)
#[fentry(function = "ksys_write")]
pub fn fentry_ksys_write(context: FEntryContext) -> i32 {
    hear(heard::WRITE);
    log_line::written(context.arg(0), context.arg(1), context.arg(2));
    0
}

/// match-proto: ssize_t ksys_write(unsigned int fd, const char *buf, size_t count)
#[kprobe(function = "ksys_write")]
pub fn kprobe_ksys_write(context: ProbeContext) -> u32 {
    hear(heard::WRITE);
    log_line::written(
        context.arg(0).unwrap_or(0),
        context.arg(1).unwrap_or(0),
        context.arg(2).unwrap_or(0),
    );
    0
}

/// match-proto: int security_socket_connect(struct socket *sock, struct sockaddr *address, int addrlen)
#[fexit(function = "security_socket_connect")]
pub fn fexit_security_socket_connect(context: FExitContext) -> i32 {
    security_answers(context.arg(3));
    0
}

/// match-proto: int security_socket_connect(struct socket *sock, struct sockaddr *address, int addrlen)
#[kretprobe(function = "security_socket_connect")]
pub fn kretprobe_security_socket_connect(context: RetProbeContext) -> u32 {
    security_answers(context.ret());
    0
}

/// match-proto: int security_unix_stream_connect(struct sock *sock, struct sock *other, struct sock *newsk)
#[fexit(function = "security_unix_stream_connect")]
pub fn fexit_security_unix_stream_connect(context: FExitContext) -> i32 {
    security_answers(context.arg(3));
    0
}

/// match-proto: int security_unix_stream_connect(struct sock *sock, struct sock *other, struct sock *newsk)
#[kretprobe(function = "security_unix_stream_connect")]
pub fn kretprobe_security_unix_stream_connect(context: RetProbeContext) -> u32 {
    security_answers(context.ret());
    0
}
