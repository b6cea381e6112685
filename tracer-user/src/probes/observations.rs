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

/// Before 6.10 the tracepoint passes over what no socket answers (`tcp_v4_send_reset`).
const RESETS_BY_SOCKETS: Candidate = Candidate(&[Hook::Raw("tcp_send_reset")]);
/// Before 5.17 the tracepoint has no reason.
const DROPS_BY_PLACE: Candidate = Candidate(&[Hook::Raw("kfree_skb")]);

// The limit of their rate stands inside of these functions, the tracepoint behind it.
const ICMP_ENTRY: Candidate = Candidate(&[Hook::Entry("__icmp_send")]);
const ICMP_PROBE: Candidate = Candidate(&[Hook::ProbeEntry("__icmp_send")]);
const ICMPV6_ENTRY: Candidate = Candidate(&[Hook::Entry("icmp6_send")]);
const ICMPV6_PROBE: Candidate = Candidate(&[Hook::ProbeEntry("icmp6_send")]);

/// A means that shows less than the others of its observation.
#[derive(Debug, Clone, Copy)]
pub struct Weakness {
    candidate: Candidate,
    /// What cannot be told, in words for `limits`.
    pub cost: &'static str,
    /// What is not observed therefore, as the case's coverage names it.
    pub lacks: Option<&'static str>,
}

const WEAKNESSES: [Weakness; 6] = [
    kept_back(ICMP_ENTRY),
    kept_back(ICMP_PROBE),
    kept_back(ICMPV6_ENTRY),
    kept_back(ICMPV6_PROBE),
    Weakness {
        candidate: RESETS_BY_SOCKETS,
        cost: "resets for which there is no socket are not seen, and a closed port of this host is inferred",
        lacks: Some("reset-sent"),
    },
    Weakness {
        candidate: DROPS_BY_PLACE,
        cost: "this kernel does not say why it drops a packet: the place in its code tells, where that is known",
        lacks: Some("drop-reason"),
    },
];

const fn kept_back(candidate: Candidate) -> Weakness {
    Weakness {
        candidate,
        cost: "an error that the limit of their rate keeps back is told as sent",
        lacks: None,
    }
}

/// What is to be said of a means besides that it is there.
pub fn weakness_of(candidate: Candidate) -> Option<Weakness> {
    WEAKNESSES
        .into_iter()
        .find(|weakness| weakness.candidate == candidate)
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
        candidates: &[
            Candidate(&[Hook::RawWith {
                name: "tcp_send_reset",
                argument: "sk_rst_reason",
            }]),
            Candidate(&[
                Hook::Entry("tcp_v4_send_reset"),
                Hook::Entry("tcp_v6_send_reset"),
                Hook::Entry("tcp_send_active_reset"),
            ]),
            Candidate(&[
                Hook::ProbeEntry("tcp_v4_send_reset"),
                Hook::ProbeEntry("tcp_v6_send_reset"),
                Hook::ProbeEntry("tcp_send_active_reset"),
            ]),
            RESETS_BY_SOCKETS,
        ],
    },
    Observation {
        name: "packet-drop",
        cost: "packets that this host dropped are not seen, and a firewall is not told from a silent network",
        essential: false,
        candidates: &[
            Candidate(&[Hook::RawWith {
                name: "kfree_skb",
                argument: "skb_drop_reason",
            }]),
            DROPS_BY_PLACE,
        ],
    },
    Observation {
        name: "icmp-sent",
        cost: "ICMP errors of this host are not told from those of a router",
        essential: false,
        candidates: &[Candidate(&[Hook::Raw("icmp_send")]), ICMP_ENTRY, ICMP_PROBE],
    },
    Observation {
        name: "icmpv6-sent",
        cost: "ICMPv6 errors of this host are known only where they arrive in a namespace of nginx",
        essential: false,
        // It has no tracepoint.
        candidates: &[ICMPV6_ENTRY, ICMPV6_PROBE],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::coverage;

    #[test]
    fn what_diagnosis_may_lack_goes_by_the_names_that_the_trace_gives() {
        let made = OBSERVATIONS.iter().map(|observation| observation.name);
        let lacked = WEAKNESSES.iter().filter_map(|weakness| weakness.lacks);
        // ICMP errors are heard by sockets, without a program.
        let heard = coverage::Observation::IcmpReceived.as_str();
        let names: Vec<_> = made.chain(lacked).chain([heard]).collect();
        for observation in coverage::Observation::ALL {
            let name = observation.as_str();
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn every_weakness_is_one_of_a_means_that_there_is() {
        let means: Vec<_> = OBSERVATIONS
            .iter()
            .flat_map(|observation| observation.candidates)
            .collect();
        for weakness in WEAKNESSES {
            assert!(
                means.contains(&&weakness.candidate),
                "{}",
                weakness.candidate
            );
        }
    }
}
