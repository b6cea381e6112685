//! `keepalive-race`: the backend ended an idle connection as nginx reused it.

use crate::case::{Case, Connection, KernelTime, Met, PeerEnd, Phase};
use crate::diagnose::after;
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

/// Longer than a segment and its answer take beside the round trip: an end that comes later was
/// an answer to the request.
const CROSSING: u64 = 3_000_000;

pub(super) fn keepalive_race(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    let connection = case.connection.as_ref()?;
    let early = matches!(
        complaint.phase,
        Phase::Connecting | Phase::Sending | Phase::AwaitingResponse
    );
    let ended = complaint.met == Met::Closed || complaint.is_reset();
    if !early || !ended || !after::reused(connection) {
        return None;
    }
    let (confidence, why) = crossed(case, connection)?;
    let dialled = wording::dialled(case);
    let idle = idle_when_ended(case, connection);
    let finding = Finding::new(
        Code::KeepaliveRace,
        confidence,
        format!(
            "{} ended a kept connection to {dialled}{} just as nginx sent another request over it",
            after::backend(case),
            idle.map_or_else(String::new, |idle| format!(
                ", idle for {},",
                wording::duration(idle)
            ))
        ),
    )
    .because(why)
    .rule_out(
        Code::ResetByBackend,
        "the connection was ended for being idle, not because of this request",
    )
    .with(idle, |finding, idle| finding.fix(fix(idle)))
    .fix("where requests are not idempotent nginx does not try again by itself: see `proxy_next_upstream non_idempotent`");
    Some(after::with_listener(
        case,
        after::with_traffic(case, finding),
    ))
}

/// Whether the end of the connection and nginx's request crossed, and how that is known.
fn crossed(case: &Case, connection: &Connection) -> Option<(Confidence, &'static str)> {
    let sent = connection.last_sent?;
    let round_trip = u64::from(connection.round_trip_us.unwrap_or(0)) * 1000;
    let latest = connection
        .tick
        .saturating_add(round_trip)
        .saturating_mul(2)
        .saturating_add(CROSSING)
        .saturating_add(sent);
    let died = after::death(case).is_some();
    if let Some(fin) = after::fin_received(case) {
        if fin < sent {
            return Some((
                Confidence::Certain,
                "the backend's FIN had arrived when nginx sent its request",
            ));
        }
        return (fin <= latest && !died).then_some((
            Confidence::Probable,
            "the backend's FIN and the request crossed on the way",
        ));
    }
    let reset = after::reset_received(case).filter(|reset| *reset <= latest && !died)?;
    match after::peer_ended(case) {
        Some(ended) if ended.how == PeerEnd::ResetInAnswer => Some((
            Confidence::Certain,
            "the backend's end was closed when the request arrived: its kernel answered with a reset",
        )),
        Some(ended) if ended.reason.as_deref() == Some("TCP_ABORT_ON_CLOSE") => Some((
            Confidence::Probable,
            "the backend closed the connection with the request that had just arrived unread",
        )),
        Some(_) if reset < sent => Some((
            Confidence::Probable,
            "the backend's reset had arrived when nginx sent its request",
        )),
        Some(_) => None,
        None => Some((
            Confidence::Probable,
            "the reset came as fast as a segment and its answer travel: nothing looked at the request",
        )),
    }
}

/// How long nothing had passed when the backend ended the connection.
fn idle_when_ended(case: &Case, connection: &Connection) -> Option<u64> {
    let left: KernelTime = after::peer_left(case)?;
    connection
        .last_received
        .map(|received| left.saturating_sub(received))
}

fn fix(idle: u64) -> String {
    let seconds = idle / 1_000_000_000;
    if seconds >= 2 {
        format!(
            "the backend ends connections that are idle for {}: set `keepalive_timeout {}s;` in the upstream block, below that",
            wording::duration(idle),
            seconds - 1
        )
    } else {
        format!(
            "the backend ends connections that are idle for {}: raise its keep-alive timeout above the `keepalive_timeout` of the upstream block (60 s by default)",
            wording::duration(idle)
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    const RESET: Option<i32> = Some(libc::ECONNRESET);

    fn reset_after_reuse(microseconds: u64) -> Case {
        let mut case = after_reuse(Phase::AwaitingResponse, Met::ReceiveError, RESET);
        case.timeline = vec![observed(5_000_000 + microseconds, Fact::ResetReceived)];
        case
    }

    #[test]
    fn a_reset_that_crosses_the_request_is_a_race() {
        let verdict = diagnose(&reset_after_reuse(300)).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::KeepaliveRace, Confidence::Probable)
        );
        assert!(
            verdict.fix[0].contains("keepalive_timeout 3s"),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_reset_after_a_while_is_an_answer_to_the_request() {
        let code = diagnose(&reset_after_reuse(40_000)).verdict.code;
        assert_eq!(code, Code::ResetByBackend);
    }

    #[test]
    fn a_fresh_connection_knows_no_race() {
        let mut case = after_connect(Phase::AwaitingResponse, Met::ReceiveError, RESET);
        case.timeline = vec![observed(1_100, Fact::ResetReceived)];
        assert_eq!(diagnose(&case).verdict.code, Code::ResetByBackend);
    }

    #[test]
    fn a_response_that_had_begun_is_no_race() {
        let mut case = reset_after_reuse(300);
        case.attempt.ending = Ending::AfterConnect {
            phase: Phase::ReadingResponse,
            met: Met::ReceiveError,
            errno: RESET,
        };
        assert_eq!(diagnose(&case).verdict.code, Code::ResetByBackend);
    }

    #[test]
    fn a_backend_that_discards_the_connection_read_the_request_or_might_have() {
        let mut case = reset_after_reuse(300);
        case.timeline
            .push(observed(5_000_299, peer_ended(PeerEnd::Reset, "TCP_STATE")));
        assert_eq!(diagnose(&case).verdict.code, Code::ResetByBackend);
        let unread = peer_ended(PeerEnd::Reset, "TCP_ABORT_ON_CLOSE");
        case.timeline.last_mut().expect("a fact").fact = unread;
        assert_eq!(diagnose(&case).verdict.code, Code::KeepaliveRace);
    }

    #[test]
    fn a_fin_before_the_request_is_certain() {
        let mut case = after_reuse(Phase::AwaitingResponse, Met::Closed, None);
        case.timeline = vec![observed(4_999_000, Fact::FinReceived)];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::KeepaliveRace, Confidence::Certain)
        );
        case.timeline = vec![observed(5_040_000, Fact::FinReceived)];
        assert_eq!(diagnose(&case).verdict.code, Code::ClosedByBackend);
    }
}
