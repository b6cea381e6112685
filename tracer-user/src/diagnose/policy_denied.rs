//! `policy-denied`: something between the call and the network stack said no.

mod answered;
mod audited;
mod intercepted;
mod suspect;

use crate::case::{Case, Ending, Family};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, wording};
use crate::verdict::{Code, Confidence};

use suspect::{Suspect, suspects};

/// The kernel itself told who denied the call: a filter that answered in its place, a record
/// of the audit log, or the answer of its security modules.
pub(super) fn told(case: &Case) -> Option<Finding> {
    let errno = denied_errno(case)?;
    intercepted::intercepted(case, errno)
        .or_else(|| audited::audited(case, errno))
        .or_else(|| answered::answered(case, errno))
}

/// Nobody said so, and nothing else gives this error number.
pub(super) fn policy_denied(case: &Case) -> Option<Finding> {
    match case.attempt.ending {
        Ending::SocketFailed { errno } => socket_denied(case, errno),
        Ending::BindFailed {
            errno: errno @ (libc::EACCES | libc::EPERM),
        } => Some(inferred(case, "bind()", errno, Confidence::Possible)),
        Ending::ConnectFailed {
            errno,
            reached_syn_sent: false,
        } if case.attempt.family != Family::Unix => connect_denied(case, errno),
        _ => None,
    }
}

/// The same for a Unix socket that nothing in the file system keeps from the worker; `None` where
/// nothing that this host runs gives this error.
pub(super) fn at_unix_socket(case: &Case, errno: i32) -> Option<Finding> {
    let confidence = match suspects(case, errno).len() {
        0 => return None,
        1 => Confidence::Probable,
        _ => Confidence::Possible,
    };
    Some(inferred(case, "connect()", errno, confidence))
}

fn socket_denied(case: &Case, errno: i32) -> Option<Finding> {
    let filtered = case.host.seccomp_filter == Some(true);
    let policies = case.host.policies.as_ref();
    let works = policies.and_then(|policies| policies.family_works);
    match errno {
        libc::EPERM | libc::EACCES => {
            Some(inferred(case, "socket()", errno, Confidence::Probable))
        }
        libc::EAFNOSUPPORT if filtered && works != Some(false) => Some(
            denied(case, "socket()", errno, Confidence::Probable)
                .policy("seccomp")
                .because("the worker runs under a seccomp filter (Seccomp: 2)")
                .because(match works {
                    Some(true) => "this host has the address family: a process that is not filtered can open such a socket",
                    _ => "a kernel that lacks the address family gives the same error",
                })
                .fix(format!("systemctl show {} -p RestrictAddressFamilies", unit(case))),
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
            inferred(case, "connect()", errno, Confidence::Probable).rule_out(
                Code::NoListener,
                "no packet left: the call was denied before SYN_SENT",
            ),
        ),
        libc::EACCES if routed => Some(not_routing(case, errno, Confidence::Probable)),
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EINVAL if routed => {
            let confidence = match suspects(case, errno).len() {
                1 => Confidence::Probable,
                _ => Confidence::Possible,
            };
            Some(not_routing(case, errno, confidence))
        }
        _ => None,
    }
}

fn not_routing(case: &Case, errno: i32, confidence: Confidence) -> Finding {
    inferred(case, "connect()", errno, confidence)
        .because("the kernel answers a route request for this address with a route, so routing did not refuse")
        .rule_out(
            Code::RouteRefused,
            "a route request for this address succeeds",
        )
}

/// Names the policy where what the host has leaves one that can have done it.
fn inferred(case: &Case, call: &str, errno: i32, confidence: Confidence) -> Finding {
    let suspects = suspects(case, errno);
    let finding = denied(case, call, errno, confidence).with(
        case.host.seccomp_filter,
        |finding, filtered| {
            finding.because(if filtered {
                "the worker runs under a seccomp filter (Seccomp: 2), which let this call through to the kernel"
            } else {
                "the worker runs under no seccomp filter"
            })
        },
    );
    match suspects.as_slice() {
        [] => finding
            .missing("which policy it was: none that gives this error was found on this host")
            .fix("bpftool cgroup tree")
            .fix("journalctl -k | grep -i -e denied -e audit"),
        [only] => only.blame(case, finding),
        several => {
            let names: Vec<&str> = several.iter().map(Suspect::name).collect();
            several
                .iter()
                .fold(finding, |finding, suspect| suspect.remedy(case, finding))
                .missing(format!("which policy it was: {}", names.join(", ")))
        }
    }
}

fn denied(case: &Case, call: &str, errno: i32, confidence: Confidence) -> Finding {
    denied_by("a policy of this host", case, call, errno, confidence)
}

fn denied_by(policy: &str, case: &Case, call: &str, errno: i32, confidence: Confidence) -> Finding {
    let name = wording::errno_name(errno);
    let whom = match &case.attempt.dialled {
        Some(_) => format!(" to {}", wording::dialled(case)),
        None => String::new(),
    };
    Finding::new(
        Code::PolicyDenied,
        confidence,
        format!("{policy} denied nginx's {call}{whom} with {name}"),
    )
}

fn denied_errno(case: &Case) -> Option<i32> {
    match case.attempt.ending {
        Ending::SocketFailed { errno }
        | Ending::BindFailed { errno }
        | Ending::ConnectFailed {
            errno,
            reached_syn_sent: false,
        } => Some(errno),
        _ => None,
    }
}

/// The call that was denied.
fn call(case: &Case) -> &'static str {
    match case.attempt.ending {
        Ending::SocketFailed { .. } => "socket()",
        Ending::BindFailed { .. } => "bind()",
        _ => "connect()",
    }
}

/// The unit to ask systemd about.
fn unit(case: &Case) -> String {
    case.host
        .policies
        .as_ref()
        .and_then(|policies| policies.unit.as_deref())
        .map_or_else(|| "nginx.service".to_owned(), wording::shell_word)
}

/// The port that was dialled, for rules that name one.
fn port(case: &Case) -> Option<u16> {
    addresses::dialled(case).map(|address| address.port())
}

#[cfg(test)]
mod tests;
