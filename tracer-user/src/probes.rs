//! What is observed in the kernel, by which means, and what could not be attached.

mod attach;
mod layout;
mod names;
mod perf_event;
mod rules;
mod trial;
mod watched;

pub use attach::{Probes, ProbesError};
pub use names::Names;
pub use trial::Trial;

/// What the caller wants of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Follow processes that start and are called like an nginx.
    pub follow_new: bool,
    /// Count attempts that fail alike in quick succession instead of telling each.
    pub fold: bool,
}

/// One kind of fact that the kernel is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Observation {
    /// As `session` and `doctor` call it.
    pub name: &'static str,
    /// What its absence costs, in words for `limits`.
    pub cost: &'static str,
    /// Without it nothing can be explained.
    pub essential: bool,
    /// The means, the best first: the first that loads and attaches wins.
    pub candidates: &'static [Candidate],
}

/// One means of an observation: a program and what it attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// A raw tracepoint; the program has its name.
    Raw(&'static str),
    /// A tracepoint by perf event; the program has its name.
    Perf {
        category: &'static str,
        name: &'static str,
    },
}

impl Candidate {
    /// Name of the program in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Candidate::Raw(name) | Candidate::Perf { name, .. } => name,
        }
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Candidate::Raw(name) => write!(formatter, "raw_tracepoint:{name}"),
            Candidate::Perf { category, name } => write!(formatter, "tracepoint:{category}:{name}"),
        }
    }
}

const fn syscall(name: &'static str) -> Candidate {
    Candidate::Perf {
        category: "syscalls",
        name,
    }
}

/// Every observation. Other means join as rows of `candidates`.
pub const OBSERVATIONS: &[Observation] = &[
    Observation {
        name: "socket-state",
        cost: "failed connections and listeners that come and go are not seen",
        essential: true,
        candidates: &[Candidate::Raw("inet_sock_set_state")],
    },
    Observation {
        name: "connect-entry",
        cost: "errors that connect() itself returns are not seen",
        essential: false,
        candidates: &[syscall("sys_enter_connect")],
    },
    Observation {
        name: "connect-return",
        cost: "errors that connect() itself returns are not seen",
        essential: false,
        candidates: &[syscall("sys_exit_connect")],
    },
    Observation {
        name: "socket-return",
        cost: "a worker without free descriptors is not seen",
        essential: false,
        candidates: &[syscall("sys_exit_socket")],
    },
    Observation {
        name: "bind-entry",
        cost: "a failing proxy_bind is not seen",
        essential: false,
        candidates: &[syscall("sys_enter_bind")],
    },
    Observation {
        name: "bind-return",
        cost: "a failing proxy_bind is not seen",
        essential: false,
        candidates: &[syscall("sys_exit_bind")],
    },
    Observation {
        name: "error-log",
        cost: "what fails once a connection stands is not seen, nginx's own log lines are not joined, and its timeout is not told from a client that left",
        essential: false,
        candidates: &[syscall("sys_enter_write")],
    },
    Observation {
        name: "socket-closed",
        cost: "log lines that a busy worker writes late are not joined, and resets of connections that stood are told without their connection",
        essential: false,
        candidates: &[Candidate::Raw("tcp_destroy_sock")],
    },
    Observation {
        name: "reset-received",
        cost: "a reset is not told from other errors",
        essential: false,
        candidates: &[Candidate::Raw("tcp_receive_reset")],
    },
    Observation {
        name: "reset-sent",
        cost: "a closed port of this host is not told from a reset from elsewhere",
        essential: false,
        candidates: &[Candidate::Raw("tcp_send_reset")],
    },
    Observation {
        name: "packet-drop",
        cost: "packets that this host dropped are not seen, and a firewall is not told from a silent network",
        essential: false,
        candidates: &[Candidate::Raw("kfree_skb")],
    },
    Observation {
        name: "icmp-sent",
        cost: "ICMP errors of this host are not told from those of a router",
        essential: false,
        candidates: &[Candidate::Raw("icmp_send")],
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
        candidates: &[Candidate::Raw("tcp_retransmit_skb")],
    },
    Observation {
        name: "process-exit",
        cost: "processes that ended are found later",
        essential: false,
        candidates: &[Candidate::Raw("sched_process_exit")],
    },
    Observation {
        name: "listen-return",
        cost: "how a listener on a Unix socket ended is known only where it was there for some seconds",
        essential: false,
        candidates: &[syscall("sys_exit_listen")],
    },
    Observation {
        name: "process-fork",
        cost: "the first failures of new workers are missed",
        essential: false,
        candidates: &[Candidate::Raw("sched_process_fork")],
    },
    Observation {
        name: "process-exec",
        cost: "the first failures of an nginx that starts are missed",
        essential: false,
        candidates: &[Candidate::Raw("sched_process_exec")],
    },
    Observation {
        name: "signal",
        cost: "who killed a listener is not known",
        essential: false,
        candidates: &[Candidate::Raw("signal_generate")],
    },
    Observation {
        name: "oom-victim",
        cost: "the OOM killer is not told from any other SIGKILL",
        essential: false,
        candidates: &[Candidate::Raw("mark_victim")],
    },
    Observation {
        name: "rule",
        cost: "which of several firewall rules that fit stopped a packet is inferred",
        essential: false,
        // See `rules`: attached by functions, some of them on demand.
        candidates: &[],
    },
];
