//! The list of what is observed, each with its means.

use super::{Candidate, Hook, Observation};

/// A tracepoint of a system call. As long as one is in use, every system call of every process
/// takes the kernel's slow path (`SYSCALL_WORK_SYSCALL_TRACEPOINT`).
macro_rules! syscall {
    ($name:literal) => {
        Candidate(&[Hook::Perf {
            category: "syscalls",
            name: $name,
        }])
    };
}

/// Every observation. Other means join as rows of `candidates`.
pub const OBSERVATIONS: &[Observation] = &[
    Observation {
        name: "socket-state",
        cost: "failed connections and listeners that come and go are not seen",
        essential: true,
        candidates: &[Candidate(&[Hook::Raw("inet_sock_set_state")])],
    },
    Observation {
        name: "connect-entry",
        cost: "errors that connect() itself returns are not seen",
        essential: false,
        candidates: &[
            Candidate(&[Hook::Entry("__sys_connect")]),
            syscall!("sys_enter_connect"),
            Candidate(&[Hook::ProbeEntry("__sys_connect")]),
        ],
    },
    Observation {
        name: "connect-return",
        cost: "errors that connect() itself returns are not seen",
        essential: false,
        candidates: &[
            Candidate(&[Hook::Return("__sys_connect")]),
            syscall!("sys_exit_connect"),
            Candidate(&[Hook::ProbeReturn("__sys_connect")]),
        ],
    },
    Observation {
        name: "security-answer",
        cost: "whether a security module denied a connect() is inferred from what else is known",
        essential: false,
        candidates: &[
            Candidate(&[
                Hook::Return("security_socket_connect"),
                Hook::Return("security_unix_stream_connect"),
            ]),
            Candidate(&[
                Hook::ProbeReturn("security_socket_connect"),
                Hook::ProbeReturn("security_unix_stream_connect"),
            ]),
        ],
    },
    Observation {
        name: "socket-return",
        cost: "a worker without free descriptors is not seen",
        essential: false,
        candidates: &[
            Candidate(&[Hook::Return("__sys_socket")]),
            syscall!("sys_exit_socket"),
            Candidate(&[Hook::ProbeReturn("__sys_socket")]),
        ],
    },
    Observation {
        name: "bind-entry",
        cost: "a failing proxy_bind is not seen",
        essential: false,
        candidates: &[
            Candidate(&[Hook::Entry("__sys_bind")]),
            syscall!("sys_enter_bind"),
            Candidate(&[Hook::ProbeEntry("__sys_bind")]),
        ],
    },
    Observation {
        name: "bind-return",
        cost: "a failing proxy_bind is not seen",
        essential: false,
        candidates: &[
            Candidate(&[Hook::Return("__sys_bind")]),
            syscall!("sys_exit_bind"),
            Candidate(&[Hook::ProbeReturn("__sys_bind")]),
        ],
    },
    Observation {
        name: "error-log",
        cost: "what fails once a connection stands is not seen, nginx's own log lines are not joined, and its timeout is not told from a client that left",
        essential: false,
        candidates: &[
            Candidate(&[Hook::Entry("ksys_write")]),
            syscall!("sys_enter_write"),
            Candidate(&[Hook::ProbeEntry("ksys_write")]),
        ],
    },
    Observation {
        name: "socket-closed",
        cost: "log lines that a busy worker writes late are not joined, and resets of connections that stood are told without their connection",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("tcp_destroy_sock")])],
    },
    Observation {
        name: "reset-received",
        cost: "a reset is not told from other errors",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("tcp_receive_reset")])],
    },
    Observation {
        name: "reset-sent",
        cost: "a closed port of this host is not told from a reset from elsewhere",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("tcp_send_reset")])],
    },
    Observation {
        name: "packet-drop",
        cost: "packets that this host dropped are not seen, and a firewall is not told from a silent network",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("kfree_skb")])],
    },
    Observation {
        name: "icmp-sent",
        cost: "ICMP errors of this host are not told from those of a router",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("icmp_send")])],
    },
    Observation {
        name: "icmpv6-sent",
        cost: "ICMPv6 errors of this host are known only where they arrive in a namespace of nginx",
        essential: false,
        // `icmp6_send` has no tracepoint.
        candidates: &[],
    },
    Observation {
        name: "syn-retransmission",
        cost: "a SYN that left is not told from one that never did",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("tcp_retransmit_skb")])],
    },
    Observation {
        name: "process-exit",
        cost: "processes that ended are found later",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("sched_process_exit")])],
    },
    Observation {
        name: "listen-return",
        cost: "how a listener on a Unix socket ended is known only where it was there for some seconds",
        essential: false,
        candidates: &[
            Candidate(&[Hook::Return("__sys_listen")]),
            syscall!("sys_exit_listen"),
            Candidate(&[Hook::ProbeReturn("__sys_listen")]),
        ],
    },
    Observation {
        name: "process-fork",
        cost: "the first failures of new workers are missed",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("sched_process_fork")])],
    },
    Observation {
        name: "process-exec",
        cost: "the first failures of an nginx that starts are missed",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("sched_process_exec")])],
    },
    Observation {
        name: "signal",
        cost: "who killed a listener is not known",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("signal_generate")])],
    },
    Observation {
        name: "oom-victim",
        cost: "the OOM killer is not told from any other SIGKILL",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("mark_victim")])],
    },
    Observation {
        name: super::rules::OBSERVATION,
        cost: "which of several firewall rules that fit stopped a packet is inferred",
        essential: false,
        // All of them are needed, each at its time: see `rules`.
        candidates: &[
            Candidate(&[Hook::ProbeEntry("nft_immediate_eval")]),
            Candidate(&[Hook::ProbeEntry("nft_reject_inet_eval")]),
            Candidate(&[Hook::ProbeEntry("reject_tg")]),
        ],
    },
];
