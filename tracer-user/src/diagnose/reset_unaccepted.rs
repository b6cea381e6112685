//! `reset-unaccepted`: the listener ended with the connection in its accept queue.

use crate::case::{Case, PeerEnd};
use crate::diagnose::after;
use crate::diagnose::finding::Finding;
use crate::verdict::{Code, Confidence};

/// `inet_csk_listen_stop` resets what no process has accepted.
pub(super) fn reset_unaccepted(case: &Case) -> Option<Finding> {
    let ended = after::peer_ended(case)?;
    if ended.how != PeerEnd::Reset || ended.accepted {
        return None;
    }
    let who = format!("{}[{}]", ended.comm, ended.pid);
    let how = after::death(case).map_or_else(
        || "closed its listening socket".to_owned(),
        |(_, death)| after::died(death),
    );
    let finding = Finding::new(
        Code::ResetUnaccepted,
        Confidence::Certain,
        format!("{who} {how} with the connection in its accept queue: the kernel reset it, and no process ever saw it"),
    )
    .because("the reset was sent for a connection that no process had accepted")
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
