//! `reset-by-backend`, as far as it shows while nginx still believes that it is connecting.

use crate::case::{Case, Ending};
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

/// `tcp_reset` gives ECONNRESET only to a socket that was established; nginx had not looked yet.
pub(super) fn reset_by_backend(case: &Case) -> Option<Finding> {
    let reset = Ending::SocketError {
        errno: libc::ECONNRESET,
    };
    if case.attempt.ending != reset || !evidence::reset_received(case) {
        return None;
    }
    Some(
        Finding::new(
            Code::ResetByBackend,
            Confidence::Probable,
            format!(
                "{} accepted the connection and reset it before nginx had looked",
                wording::dialled(case)
            ),
        )
        .because(
            "a reset in SYN_SENT gives ECONNREFUSED; ECONNRESET says that the connection stood",
        )
        .rule_out(
            Code::NoListener,
            "the handshake was complete, so something listens there",
        )
        .missing("whether the backend's process or its kernel reset the connection")
        .fix("read the backend's log of that moment: it closed the connection at once"),
    )
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_reset_behind_the_handshake_is_told_from_one_in_its_place() {
        let mut case = refused_from_afar("203.0.113.7:9101");
        case.attempt.ending = Ending::SocketError {
            errno: libc::ECONNRESET,
        };
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::ResetByBackend, Confidence::Probable)
        );
        case.timeline.clear();
        assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    }
}
