//! `policy-denied`: something between the call and the network stack said no.

use crate::case::{Case, Ending, Family};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, programs, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn policy_denied(case: &Case) -> Option<Finding> {
    match case.attempt.ending {
        Ending::SocketFailed { errno } => socket_denied(case, errno),
        Ending::BindFailed {
            errno: errno @ (libc::EACCES | libc::EPERM),
        } => Some(denied(case, "bind()", errno, Confidence::Possible)),
        Ending::ConnectFailed {
            errno,
            reached_syn_sent: false,
        } if case.attempt.family != Family::Unix => connect_denied(case, errno),
        _ => None,
    }
}

fn socket_denied(case: &Case, errno: i32) -> Option<Finding> {
    let filtered = case.host.seccomp_filter == Some(true);
    match errno {
        libc::EPERM | libc::EACCES => Some(denied(case, "socket()", errno, Confidence::Probable)),
        libc::EAFNOSUPPORT if filtered => Some(
            denied(case, "socket()", errno, Confidence::Probable)
                .because("a kernel that lacks the address family gives the same error")
                .fix("systemctl show nginx -p RestrictAddressFamilies"),
        ),
        _ => None,
    }
}

fn connect_denied(case: &Case, errno: i32) -> Option<Finding> {
    let routed = case
        .host
        .route
        .as_ref()
        .is_some_and(|route| route.error.is_none());
    match errno {
        // Neither routing nor TCP answers so before SYN_SENT.
        libc::EPERM | libc::ECONNREFUSED => Some(
            denied(case, "connect()", errno, Confidence::Probable).rule_out(
                Code::NoListener,
                "no packet left: the call was denied before SYN_SENT",
            ),
        ),
        libc::EACCES if routed => Some(not_routing(case, errno, Confidence::Probable)),
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EINVAL if routed => {
            Some(not_routing(case, errno, Confidence::Possible))
        }
        _ => None,
    }
}

fn not_routing(case: &Case, errno: i32, confidence: Confidence) -> Finding {
    denied(case, "connect()", errno, confidence)
        .because("the kernel answers a route request for this address with a route, so routing did not refuse")
        .rule_out(
            Code::RouteRefused,
            "a route request for this address succeeds",
        )
}

fn denied(case: &Case, call: &str, errno: i32, confidence: Confidence) -> Finding {
    let name = wording::errno_name(errno);
    let whom =
        addresses::dialled(case).map_or_else(String::new, |address| format!(" to {address}"));
    let programs = match case.attempt.ending {
        Ending::SocketFailed { .. } => programs::of_cgroups(case, &["cgroup_inet_sock_create"]),
        Ending::BindFailed { .. } => {
            programs::of_cgroups(case, &["cgroup_inet4_bind", "cgroup_inet6_bind"])
        }
        _ => programs::at_connect(case),
    };
    Finding::new(
        Code::PolicyDenied,
        confidence,
        format!("a policy of this host denied nginx's {call}{whom} with {name}"),
    )
    .with(case.host.seccomp_filter, |finding, filtered| {
        finding.because(if filtered {
            "the worker runs under a seccomp filter (Seccomp: 2)"
        } else {
            "the worker runs under no seccomp filter"
        })
    })
    .when(!programs.is_empty(), |finding| {
        programs::may_refuse(finding, &programs)
    })
    .missing(format!("which policy it was: {}", suspects(case, errno)))
    .fix(format!("grep Seccomp /proc/{}/status", case.worker.pid))
    .fix("bpftool cgroup tree")
    .fix("ausearch -m avc,seccomp -ts recent; journalctl -k | grep -i -e denied -e audit")
}

fn suspects(case: &Case, errno: i32) -> &'static str {
    match (errno, case.host.seccomp_filter) {
        (libc::EACCES, _) => "Landlock, SELinux, AppArmor, another LSM, or a cgroup program",
        (libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EINVAL, _) => {
            "a cgroup program that returns this error, or routing that changed since"
        }
        (libc::EAFNOSUPPORT, _) => "a seccomp filter, or a kernel without this address family",
        (_, Some(false)) => "a cgroup program or an LSM",
        _ => "seccomp, a cgroup program or an LSM",
    }
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_seccomp_filter_is_told_from_a_kernel_without_the_family() {
        let mut case = case(
            "[::1]:9101",
            Ending::SocketFailed {
                errno: libc::EAFNOSUPPORT,
            },
        );
        case.host.seccomp_filter = Some(true);
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::PolicyDenied, Confidence::Probable)
        );
        case.host.seccomp_filter = Some(false);
        assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    }

    #[test]
    fn a_refusal_that_connect_itself_returns_is_no_closed_port() {
        let ending = Ending::ConnectFailed {
            errno: libc::ECONNREFUSED,
            reached_syn_sent: false,
        };
        assert_eq!(
            diagnose(&case("127.0.0.1:9101", ending)).verdict.code,
            Code::PolicyDenied
        );
        assert_eq!(
            diagnose(&refused("127.0.0.1:9101", OWN)).verdict.code,
            Code::NoListener
        );
    }
}
