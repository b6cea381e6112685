//! `keepalive-race`: the backend ended an idle connection as nginx reused it.

use crate::case::{Case, Connection, KernelTime, Met, PeerEnd, Phase};
use crate::diagnose::after::{self, Complaint};
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
    if !early || !ended || !after::reused(case, connection) {
        return None;
    }
    let (confidence, why) = crossed(case, complaint, connection)?;
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
fn crossed(
    case: &Case,
    complaint: Complaint,
    connection: &Connection,
) -> Option<(Confidence, &'static str)> {
    if complaint.phase == Phase::Connecting {
        return Some((
            Confidence::Certain,
            "the backend had ended the connection before nginx sent anything of its request",
        ));
    }
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
        // The request may have been sent a tick earlier than it seems.
        if fin.saturating_add(connection.tick) < sent {
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
        Some(_) if reset.saturating_add(connection.tick) < sent => Some((
            Confidence::Certain,
            "the backend's reset had arrived when nginx sent its request",
        )),
        Some(_) => Some((
            Confidence::Probable,
            "the backend gave up the connection with a reset as the request came",
        )),
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
    } else if seconds == 0 {
        "the backend ends connections that it kept for a moment: keep `keepalive_requests` of the upstream block below the number of requests that it takes over one, and `keepalive_time` below the time that it keeps one".to_owned()
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
    fn a_backend_that_discards_the_connection_at_once_did_not_look_at_the_request() {
        for reason in ["TCP_ABORT_ON_CLOSE", "TCP_STATE"] {
            let mut case = reset_after_reuse(300);
            let ended = peer_ended(PeerEnd::Reset, reason);
            case.timeline.push(observed(5_000_299, ended.clone()));
            assert_eq!(code(&case), Code::KeepaliveRace, "{reason}");
            case.timeline = vec![
                observed(5_040_000, Fact::ResetReceived),
                observed(5_039_999, ended),
            ];
            assert_eq!(code(&case), Code::ResetByBackend, "{reason}");
        }
    }

    fn code(case: &Case) -> Code {
        diagnose(case).verdict.code
    }

    /// A connection over which data was last sent and received that long after it stood.
    fn spoken(phase: Phase, upstream: &str, sent: u64, received: u64) -> Case {
        let mut case = after_connect(phase, Met::ReceiveError, RESET);
        case.log = Some(LogLine {
            upstream: Some(upstream.to_owned()),
            ..LogLine::default()
        });
        if let Some(connection) = &mut case.connection {
            connection.bytes_received = Some(120);
            connection.last_sent = Some(connection.established + sent);
            connection.last_received = Some(connection.established + received);
            let reset = connection.established + sent + 300_000;
            case.timeline = vec![Observed {
                at: reset,
                fact: Fact::ResetReceived,
            }];
        }
        case
    }

    const HTTP: &str = "http://127.0.0.1:9101/";
    const TICK: u64 = 4 * MILLISECOND;

    #[test]
    fn a_connection_that_is_used_again_at_once_is_known_by_what_came_before() {
        let awaiting = |upstream, sent, received| {
            code(&spoken(Phase::AwaitingResponse, upstream, sent, received))
        };
        assert_eq!(awaiting(HTTP, TICK, 0), Code::KeepaliveRace);
        assert_eq!(awaiting(HTTP, 10 * TICK, 10 * TICK), Code::KeepaliveRace);
        // Its first response stopped within the header.
        assert_eq!(awaiting(HTTP, 0, 0), Code::ResetByBackend);
        assert_eq!(awaiting(HTTP, 0, TICK), Code::ResetByBackend);
        assert_eq!(awaiting(HTTP, 10 * TICK, 11 * TICK), Code::ResetByBackend);
        // What came before its first request was a handshake.
        for upstream in ["https://127.0.0.1:9101/", "grpc://127.0.0.1:9101"] {
            assert_eq!(awaiting(upstream, TICK, 0), Code::ResetByBackend);
        }
        // A body that goes on behind an early answer is no second request.
        let sending = spoken(Phase::Sending, HTTP, 2 * TICK, TICK);
        assert_eq!(code(&sending), Code::ResetByBackend);
    }

    #[test]
    fn a_kept_connection_that_was_over_before_anything_was_sent_is_a_race() {
        let mut case = spoken(Phase::Connecting, HTTP, 0, TICK);
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::KeepaliveRace, Confidence::Certain)
        );
        if let Some(connection) = &mut case.connection {
            connection.bytes_sent = Some(0);
            connection.bytes_received = Some(0);
        }
        assert_eq!(code(&case), Code::ResetByBackend);
    }

    #[test]
    fn a_fin_before_the_request_is_certain() {
        let mut case = after_reuse(Phase::AwaitingResponse, Met::Closed, None);
        case.timeline = vec![observed(4_990_000, Fact::FinReceived)];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::KeepaliveRace, Confidence::Certain)
        );
        case.timeline = vec![observed(5_040_000, Fact::FinReceived)];
        assert_eq!(diagnose(&case).verdict.code, Code::ClosedByBackend);
    }
}
