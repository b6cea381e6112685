//! What the eBPF programs and user space share: the records of the ring buffer, the layout of the
//! running kernel's structures, and the values of the maps.
//!
//! Records hold fixed-width integers and byte arrays only: no pointers, `bool` or Rust enums, and
//! no padding. Numbers are in host order, ports included; addresses are in network order.
#![no_std]

pub mod layout;
pub mod record;

#[cfg(feature = "user")]
pub mod decode;

/// What a process in the `TASKS` map is.
pub mod role {
    /// A process of an nginx, or one that is becoming one: its connections are observed.
    pub const NGINX: u32 = 1;
}

/// Indexes of the map `INTERESTS`. A value other than 0 says that there is something to look for.
pub mod interest {
    /// An attempt failed: the close of its socket is awaited.
    pub const FAILED_SOCKETS: u32 = 0;
    /// nginx gave up on an upstream: its client may have left.
    pub const CLIENTS_LEAVING: u32 = 1;
    /// Upstreams failed: their recovery is awaited. User space sets it.
    pub const RECOVERIES: u32 = 2;
    /// Failures or silence: lines of error logs are awaited.
    pub const LOG_LINES: u32 = 3;
    /// Lines of error logs were told: the close of the connection that one is about is awaited.
    pub const CLOSES: u32 = 4;
    pub const COUNT: u32 = 5;
}

/// Indexes of the map `HEARD`: programs at functions that a system call of ours has met.
pub mod heard {
    pub const CONNECT_ENTRY: u32 = 0;
    pub const CONNECT_RETURN: u32 = 1;
    pub const SOCKET_RETURN: u32 = 2;
    pub const BIND_ENTRY: u32 = 3;
    pub const BIND_RETURN: u32 = 4;
    pub const LISTEN_RETURN: u32 = 5;
    pub const WRITE: u32 = 6;
    pub const COUNT: u32 = 7;
}

/// Tracepoints whose program has a stand-in, which runs where the kernel refuses the first. The
/// values are indexes of the map `SHIFTS` and of `TURNS`.
pub mod stand_in {
    pub const INET_SOCK_SET_STATE: u32 = 0;
    pub const TCP_DESTROY_SOCK: u32 = 1;
    pub const TCP_RECEIVE_RESET: u32 = 2;
    pub const TCP_SEND_RESET: u32 = 3;
    pub const TCP_RETRANSMIT_SKB: u32 = 4;
    pub const KFREE_SKB: u32 = 5;
    pub const ICMP_SEND: u32 = 6;
    pub const SCHED_PROCESS_EXIT: u32 = 7;
    pub const SCHED_PROCESS_FORK: u32 = 8;
    pub const SCHED_PROCESS_EXEC: u32 = 9;
    pub const SYS_ENTER_CONNECT: u32 = 10;
    pub const SYS_EXIT_CONNECT: u32 = 11;
    pub const SYS_ENTER_BIND: u32 = 12;
    pub const SYS_EXIT_BIND: u32 = 13;
    pub const SYS_EXIT_SOCKET: u32 = 14;
    pub const SYS_ENTER_WRITE: u32 = 15;
    pub const SYS_EXIT_LISTEN: u32 = 16;
    pub const COUNT: u32 = 17;

    /// What a stand-in missed without need, on one processor: the kernel runs it for no event while
    /// it is at work, and of these the first program was run for some.
    pub mod turn {
        /// Events that the first program was run for.
        pub const DONE: usize = 0;
        /// That count plus 1 as the stand-in began, as long as it is at work; else 0.
        pub const BEGAN: usize = 1;
        /// Events that the first program was run for while the stand-in was at work before.
        pub const SPARED: usize = 2;
        pub const COUNT: usize = 3;

        /// All events that the first program was run for while the stand-in was at work.
        pub fn spared(turn: &[u64; COUNT]) -> u64 {
            let meanwhile = match turn[BEGAN] {
                0 => 0,
                began => (turn[DONE] + 1).saturating_sub(began),
            };
            turn[SPARED] + meanwhile
        }
    }

    /// The first program of each, which has the tracepoint's name, and its stand-in.
    pub const PROGRAMS: [(&str, &str); COUNT as usize] = [
        ("inet_sock_set_state", "inet_sock_set_state_stand_in"),
        ("tcp_destroy_sock", "tcp_destroy_sock_stand_in"),
        ("tcp_receive_reset", "tcp_receive_reset_stand_in"),
        ("tcp_send_reset", "tcp_send_reset_stand_in"),
        ("tcp_retransmit_skb", "tcp_retransmit_skb_stand_in"),
        ("kfree_skb", "kfree_skb_stand_in"),
        ("icmp_send", "icmp_send_stand_in"),
        ("sched_process_exit", "sched_process_exit_stand_in"),
        ("sched_process_fork", "sched_process_fork_stand_in"),
        ("sched_process_exec", "sched_process_exec_stand_in"),
        ("sys_enter_connect", "sys_enter_connect_stand_in"),
        ("sys_exit_connect", "sys_exit_connect_stand_in"),
        ("sys_enter_bind", "sys_enter_bind_stand_in"),
        ("sys_exit_bind", "sys_exit_bind_stand_in"),
        ("sys_exit_socket", "sys_exit_socket_stand_in"),
        ("sys_enter_write", "sys_enter_write_stand_in"),
        ("sys_exit_listen", "sys_exit_listen_stand_in"),
    ];
}

/// Addresses in the kernel's code: from `start` to before `end`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Code {
    pub start: u64,
    pub end: u64,
}

/// The lengths of the maps. Each is a bound: what finds no room is counted as lost.
pub mod bound {
    /// Processes of all nginx instances.
    pub const TASKS: u32 = 16_384;
    /// Processes that hold a listening socket; the least recently used goes first.
    pub const OWNERS: u32 = 16_384;
    /// Threads inside `connect()` or `bind()` at one moment.
    pub const CALLS: u32 = 4_096;
    /// Sockets in SYN_SENT and connections that stand, at one moment.
    pub const ATTEMPTS: u32 = 65_536;
    /// Connections that broke and that nginx has not closed yet; the least recently used goes
    /// first.
    pub const BROKEN: u32 = 4_096;
    /// Destinations dialled lately; the least recently used goes first.
    pub const DIALLED: u32 = 4_096;
    /// Local addresses of sockets that wait for an answer after `connect()` returned.
    pub const WAITING: u32 = 16_384;
    /// Destinations whose next success is a recovery.
    pub const RECOVERING: u32 = 1_024;
    /// Failed attempts whose socket nginx has not closed yet; the least recently used goes first.
    pub const FAILED: u32 = 16_384;
    /// Threads that lately met a failure, whose log line is awaited.
    pub const FAILING: u32 = 4_096;
    /// Outcomes that are tallied at one moment. What is above has a record for each attempt.
    pub const OUTCOMES: u32 = 1_024;
    /// Pieces of the code that runs the rules of hooks.
    pub const HOOK_CODE: u32 = 4;
    /// Rules whose memory was told lately; the least recently used goes first.
    pub const RULES: u32 = 1_024;
    /// Bytes of the ring buffer.
    pub const RING: u32 = 2 * 1024 * 1024;
}

#[cfg(test)]
mod tests {
    use super::stand_in::turn::spared;

    #[test]
    fn what_the_first_program_does_meanwhile_its_stand_in_misses_without_need() {
        // At rest, at work since the fifth event, and preempted there for two more.
        assert_eq!(spared(&[5, 0, 1]), 1);
        assert_eq!(spared(&[5, 6, 1]), 1);
        assert_eq!(spared(&[7, 6, 1]), 3);
        // As read while it is written.
        assert_eq!(spared(&[5, 7, 1]), 1);
    }
}
