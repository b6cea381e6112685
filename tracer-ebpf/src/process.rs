//! The life of processes: of nginx, and of those that hold listening sockets.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_common::{
    record::{Executed, Forked, ListenCalled, OomVictim, ProcessExited, SignalSent, Task, kind},
    role,
};

use crate::{
    emit::{current_task, emit, fill, header, no_room},
    kernel::{exit_code_of, layout, read},
    maps::{CALLS, FAILING, OWNERS, TASKS},
    stand_in::programs,
};

/// How the programs of nginx and its derivatives are called; the names are zero-padded to what
/// `comm` compares.
const FAMILY: [&[u8]; 5] = [b"nginx", b"angie", b"tengine", b"openresty", b"freenginx"];

/// Signals whose default action ends a process, as bits: HUP INT QUIT ILL TRAP ABRT BUS FPE KILL
/// USR1 SEGV USR2 PIPE ALRM TERM STKFLT XCPU XFSZ VTALRM PROF IO PWR SYS (signal(7)).
const FATAL: u64 = {
    let mut mask = 0;
    let signals = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31,
    ];
    let mut index = 0;
    while index < signals.len() {
        mask |= 1 << signals[index];
        index += 1;
    }
    mask
};

programs!(
    sched_process_exit,
    sched_process_exit_stand_in,
    SCHED_PROCESS_EXIT,
    task_exits
);
programs!(
    sched_process_fork,
    sched_process_fork_stand_in,
    SCHED_PROCESS_FORK,
    process_forks
);
programs!(
    sched_process_exec,
    sched_process_exec_stand_in,
    SCHED_PROCESS_EXEC,
    program_executed
);

/// match-proto: sched:sched_process_exit(struct task_struct *p[, bool group_dead])
#[inline(always)]
fn task_exits(context: &RawTracePointContext) {
    let task: u64 = context.arg(0);
    let tgid: u32 = read(task, layout!(task_tgid)).unwrap_or(0);
    let tid: u32 = read(task, layout!(task_pid)).unwrap_or(0);
    let nginx = TASKS.get_ptr(tgid).is_some();
    if nginx {
        // A killed thread never leaves its system call.
        let _ = CALLS.remove(tid);
        let _ = FAILING.remove(tid);
    }
    let whole = match layout!(exit_group_argument) {
        1 => context.arg::<u32>(1) & 1 != 0,
        // Older kernels do not tell; a process seldom outlives its first thread.
        _ => tid == tgid,
    };
    if !whole || (!nginx && OWNERS.get_ptr(tgid).is_none()) {
        return;
    }
    let _ = TASKS.remove(tgid);
    let _ = OWNERS.remove(tgid);
    emit(
        kind::PROCESS_EXITED,
        fill!(record: ProcessExited {
                header: header(kind::PROCESS_EXITED),
                task: current_task(),
                exit_code: exit_code_of(task),
                reserved: 0,
        }),
    );
}

/// match-proto: sched:sched_process_fork(struct task_struct *parent, struct task_struct *child)
#[inline(always)]
fn process_forks(context: &RawTracePointContext) {
    let parent: u32 = read(context.arg(0), layout!(task_tgid)).unwrap_or(0);
    if TASKS.get_ptr(parent).is_none() {
        return;
    }
    let child: u32 = read(context.arg(1), layout!(task_tgid)).unwrap_or(0);
    if child == parent || child == 0 {
        return;
    }
    if TASKS.insert(child, role::NGINX, 0).is_err() {
        no_room();
    }
    emit(
        kind::FORKED,
        fill!(record: Forked {
                header: header(kind::FORKED),
                parent: parent,
                child: child,
        }),
    );
}

/// match-proto: sched:sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
#[inline(always)]
fn program_executed(_context: &RawTracePointContext) {
    let task = current_task();
    let known = TASKS.get_ptr(task.tgid).is_some();
    if !known {
        if layout!(follow_new) != 1 || !called_like_nginx(&task) {
            return;
        }
        if TASKS.insert(task.tgid, role::NGINX, 0).is_err() {
            no_room();
        }
    }
    emit(
        kind::EXECUTED,
        fill!(record: Executed {
                header: header(kind::EXECUTED),
                task: task,
        }),
    );
}

/// match-proto: signal:signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
#[raw_tracepoint]
pub fn signal_generate(context: RawTracePointContext) -> i32 {
    let signal: u32 = context.arg(0);
    if signal > 31 || FATAL & (1 << signal) == 0 {
        return 0;
    }
    let target: u32 = read(context.arg(2), layout!(task_tgid)).unwrap_or(0);
    if OWNERS.get_ptr(target).is_none() {
        return 0;
    }
    emit(
        kind::SIGNAL_SENT,
        fill!(record: SignalSent {
                header: header(kind::SIGNAL_SENT),
                sender: current_task(),
                target: target,
                signal: signal,
        }),
    );
    0
}

/// `listen()` returns: the one sign of a Unix socket that begins to listen, as no tracepoint is
/// about those.
#[inline(always)]
pub fn listen_returns(result: i64) {
    if result != 0 {
        return;
    }
    let task = current_task();
    let _ = OWNERS.insert(task.tgid, 1, 0);
    emit(
        kind::LISTEN_CALLED,
        fill!(record: ListenCalled {
                header: header(kind::LISTEN_CALLED),
                task: task,
        }),
    );
}

/// match-proto: oom:mark_victim(struct task_struct *task, uid_t uid); before 6.8 (int pid)
#[raw_tracepoint]
pub fn mark_victim(context: RawTracePointContext) -> i32 {
    let pid = match layout!(victim_is_task) {
        1 => read(context.arg(0), layout!(task_tgid)).unwrap_or(0),
        _ => context.arg(0),
    };
    emit(
        kind::OOM_VICTIM,
        fill!(record: OomVictim {
                header: header(kind::OOM_VICTIM),
                pid: pid,
                reserved: 0,
        }),
    );
    0
}

#[inline(always)]
fn called_like_nginx(task: &Task) -> bool {
    FAMILY
        .iter()
        .any(|name| task.comm.iter().zip(name.iter()).all(|(a, b)| a == b))
}
