//! `reset-by-backend`: the connection stood and was reset, before nginx had looked or after.

use crate::case::{Case, Ending, Family, PeerEnd};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::diagnose::{addresses, after, evidence};
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

/// A reset on a connection that nginx knew to stand.
pub(super) fn after_connect(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    if !complaint.is_reset() {
        return None;
    }
    let (confidence, why) = reason(case);
    let summary = format!(
        "{} reset the connection before a complete response: {why}",
        after::backend(case)
    );
    let finding = Finding::new(Code::ResetByBackend, confidence, summary).rule_out(
        Code::NoListener,
        "the connection stood, so something listened there",
    );
    let finding = after::with_listener(case, after::with_traffic(case, finding));
    Some(advise(case, finding))
}

/// Why the backend reset the connection, in words, and how sure that is.
fn reason(case: &Case) -> (Confidence, String) {
    if let Some((who, death)) = after::death(case) {
        let seen = after::peer_ended(case).is_some_and(|ended| ended.death.is_some());
        let confidence = if seen {
            Confidence::Certain
        } else {
            Confidence::Probable
        };
        return (confidence, format!("{who} {}", after::died(death)));
    }
    if case.attempt.family == Family::Unix {
        return (Confidence::Probable, unix_reason(case).to_owned());
    }
    let Some(ended) = after::peer_ended(case) else {
        let words = if addresses::is_on_this_host(case) {
            "this host did not see who sent the reset"
        } else {
            "the reset came from off this host"
        };
        return (Confidence::Probable, words.to_owned());
    };
    let words = match (ended.how, ended.reason.as_deref()) {
        (PeerEnd::ResetInAnswer, Some("NO_SOCKET")) => {
            "its end of the connection was gone when a segment of nginx arrived"
        }
        (PeerEnd::ResetInAnswer, _) => "it had closed its end when a segment of nginx arrived",
        (_, Some("TCP_ABORT_ON_CLOSE")) => {
            "it closed its socket with data of nginx unread, which the kernel answers with a reset"
        }
        (_, Some("TCP_STATE" | "TCP_ABORT_ON_LINGER")) => {
            "it closed its socket with SO_LINGER set to zero, which discards the connection"
        }
        (_, Some("TCP_KEEPALIVE_TIMEOUT")) => "its keepalive probes went unanswered",
        (_, Some("TCP_ABORT_ON_MEMORY")) => "its kernel was short of memory for sockets",
        _ => "it gave up its socket",
    };
    (Confidence::Certain, words.to_owned())
}

/// `unix_release_sock` leaves ECONNRESET where data was unread or nobody had accepted.
fn unix_reason(case: &Case) -> &'static str {
    match after::complaint(case).and_then(|complaint| complaint.errno) {
        Some(libc::EPIPE) => "its end was closed when nginx wrote",
        _ => "its end was closed with data of nginx unread, or before it was accepted",
    }
}

fn advise(case: &Case, finding: Finding) -> Finding {
    let reason = after::peer_ended(case).and_then(|ended| ended.reason.as_deref());
    if after::death(case).is_some() {
        return finding.fix("find out why the backend's process ended: its log, its service manager (`journalctl -u UNIT`), `dmesg`");
    }
    match reason {
        Some("TCP_ABORT_ON_CLOSE") => finding
            .fix("let the backend read the whole request before it closes (or answer and close lingeringly): unread data turns its close into a reset"),
        Some("TCP_STATE" | "TCP_ABORT_ON_LINGER") => finding
            .fix("let the backend not set SO_LINGER with a timeout of zero on connections that it serves"),
        _ => finding.fix("read the backend's log of that moment: it, or its kernel, gave up the connection"),
    }
    .when(after::peer_ended(case).is_none(), |finding| {
        finding.missing("whether the backend's process or its kernel reset the connection")
    })
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_unix_socket_is_reset_by_nobody_off_this_host() {
        let reset = Some(libc::ECONNRESET);
        let mut case = after_connect(Phase::AwaitingResponse, Met::ReceiveError, reset);
        case.attempt.family = Family::Unix;
        case.attempt.dialled = Some(Endpoint::Unix(b"/run/app.sock".to_vec()));
        case.attempt.local = None;
        case.connection = None;
        let verdict = diagnose(&case).verdict;
        assert_eq!(verdict.code, Code::ResetByBackend);
        assert!(verdict.summary.contains("unread"), "{}", verdict.summary);
    }

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
