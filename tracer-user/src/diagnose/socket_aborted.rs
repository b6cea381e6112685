//! `socket-aborted`: somebody on this host destroyed nginx's socket.

use crate::case::{Case, Ending};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

/// No packet makes a socket in SYN_SENT end with ECONNABORTED: `tcp_abort` does, on behalf of
/// sock_diag or of a BPF program.
pub(super) fn socket_aborted(case: &Case) -> Option<Finding> {
    let doing = match case.attempt.ending {
        Ending::SocketError {
            errno: libc::ECONNABORTED,
        } => "was connecting",
        Ending::AfterConnect { errno, .. } if errno == Some(libc::ECONNABORTED) => "used it",
        _ => return None,
    };
    Some(
        Finding::new(
            Code::SocketAborted,
            Confidence::Certain,
            format!(
                "somebody on this host destroyed nginx's socket to {} while it {doing}",
                wording::dialled(case)
            ),
        )
        .rule_out(
            Code::RemoteRefused,
            "a reset in SYN_SENT gives ECONNREFUSED, never ECONNABORTED",
        )
        .missing("who destroyed it: `ss -K`, another user of sock_diag, or a BPF program")
        .fix("look for `ss -K`, `ss --kill` or a network manager that kills sockets on this host"),
    )
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::Code;

    #[test]
    fn a_destroyed_socket_is_told_from_a_refused_one() {
        let mut case = case(
            "203.0.113.7:9101",
            Ending::SocketError {
                errno: libc::ECONNABORTED,
            },
        );
        assert_eq!(diagnose(&case).verdict.code, Code::SocketAborted);
        case.attempt.ending = Ending::SocketError {
            errno: libc::ECONNREFUSED,
        };
        case.timeline = vec![observed(90, Fact::ResetReceived)];
        assert_eq!(diagnose(&case).verdict.code, Code::RemoteRefused);
    }
}
