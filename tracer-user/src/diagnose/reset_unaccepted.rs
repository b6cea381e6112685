//! `reset-unaccepted`: the listener ended with the connection in its accept queue.

use crate::case::{Case, PeerEnd, PeerEnded};
use crate::diagnose::after;
use crate::diagnose::finding::Finding;
use crate::verdict::{Code, Confidence};

pub(super) fn reset_unaccepted(case: &Case) -> Option<Finding> {
    let ended = after::peer_ended(case).filter(|ended| never_accepted(ended))?;
    let who = format!("{}[{}]", ended.comm, ended.pid);
    let how = after::death(case).map_or_else(
        || "closed its listening socket".to_owned(),
        |(_, death)| after::died(death),
    );
    let known = ended.reason.as_deref() == Some(DISCONNECTED);
    let finding = Finding::new(
        Code::ResetUnaccepted,
        if known { Confidence::Certain } else { Confidence::Probable },
        format!("{who} {how} with the connection in its accept queue: the kernel reset it, and no process ever saw it"),
    )
    .because("the reset was sent for a connection that no process held")
    .when(!known, |finding| {
        finding.missing("why the reset was sent: a connection that a process has accepted and closed is held by none either")
    })
    .rule_out(
        Code::ResetByBackend,
        "no process held the connection, so none gave it up",
    )
    .fix("let the backend accept what is in its queue before it closes its listening socket, or hand the socket over (socket activation, SO_REUSEPORT with a draining period)");
    Some(after::with_listener(
        case,
        after::with_traffic(case, finding),
    ))
}

/// What `tcp_disconnect` gives for its reset.
const DISCONNECTED: &str = "TCP_STATE";

/// Whether the connection was reset as its listener stopped: `inet_csk_listen_stop` disconnects
/// what no process has accepted. A socket that was accepted and closed belongs to no process
/// either (`sock_orphan` in `__tcp_close`); it is reset for other reasons then, at once or by a
/// timer (`TCP_ABORT_ON_LINGER`, `TCP_ABORT_ON_MEMORY`). Linux 6.10 and 6.11 give none.
pub(super) fn never_accepted(ended: &PeerEnded) -> bool {
    let reason = ended.reason.as_deref();
    ended.how == PeerEnd::Reset
        && !ended.accepted
        && matches!(reason, None | Some(DISCONNECTED | "NOT_SPECIFIED"))
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_listener_that_ends_once_nginx_has_given_up_reset_nothing_of_it() {
        let mut case = after_connect(Phase::AwaitingResponse, Met::Timeout, None);
        let mut fact = peer_ended(PeerEnd::Reset, "TCP_STATE");
        if let Fact::PeerEnded(ended) = &mut fact {
            ended.accepted = false;
        }
        case.timeline.push(observed(60_000, fact));
        assert_eq!(diagnose(&case).verdict.code, Code::BackendSilent);
    }

    #[test]
    fn a_connection_that_nobody_accepted_is_told_from_one_that_was_given_up() {
        let reset = Some(libc::ECONNRESET);
        let mut case = after_connect(Phase::AwaitingResponse, Met::ReceiveError, reset);
        for (accepted, code) in [(false, Code::ResetUnaccepted), (true, Code::ResetByBackend)] {
            let mut fact = peer_ended(PeerEnd::Reset, "TCP_STATE");
            if let Fact::PeerEnded(ended) = &mut fact {
                ended.accepted = accepted;
            }
            case.timeline = vec![
                observed(40_000, fact),
                observed(40_001, Fact::ResetReceived),
            ];
            let verdict = diagnose(&case).verdict;
            assert_eq!(
                (verdict.code, verdict.confidence),
                (code, Confidence::Certain)
            );
        }
    }

    #[test]
    fn what_a_process_accepted_and_closed_is_not_told_as_unaccepted() {
        let reset = Some(libc::ECONNRESET);
        let mut case = after_connect(Phase::AwaitingResponse, Met::ReceiveError, reset);
        let mut told = |reason: Option<&str>| {
            let mut fact = peer_ended(PeerEnd::Reset, "");
            if let Fact::PeerEnded(ended) = &mut fact {
                ended.accepted = false;
                ended.reason = reason.map(str::to_owned);
            }
            case.timeline = vec![
                observed(40_000, fact),
                observed(40_001, Fact::ResetReceived),
            ];
            let verdict = diagnose(&case).verdict;
            (verdict.code, verdict.confidence)
        };
        for orphaned in ["TCP_ABORT_ON_LINGER", "TCP_ABORT_ON_MEMORY"] {
            assert_eq!(told(Some(orphaned)).0, Code::ResetByBackend, "{orphaned}");
        }
        let unknown = (Code::ResetUnaccepted, Confidence::Probable);
        assert_eq!(told(None), unknown);
    }

    #[test]
    fn a_reset_by_the_listener_itself_is_a_full_queue() {
        let reset = Some(libc::ECONNRESET);
        let mut case = after_connect(Phase::AwaitingResponse, Met::ReceiveError, reset);
        let mut fact = peer_ended(PeerEnd::ResetInAnswer, "INVALID_SYN");
        if let Fact::PeerEnded(ended) = &mut fact {
            ended.listening = true;
            ended.accepted = false;
        }
        case.timeline = vec![observed(40_000, fact)];
        assert_eq!(diagnose(&case).verdict.code, Code::AcceptQueueFull);
    }
}
