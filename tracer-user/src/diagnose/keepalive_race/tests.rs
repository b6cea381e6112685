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
    for (reason, late) in [("TCP_ABORT_ON_CLOSE", 300_000), ("TCP_STATE", 40_000)] {
        let mut case = reset_after_reuse(300);
        let ended = peer_ended(PeerEnd::Reset, reason);
        case.timeline.push(observed(5_000_299, ended.clone()));
        assert_eq!(code(&case), Code::KeepaliveRace, "{reason}");
        case.timeline = vec![
            observed(5_000_000 + late, Fact::ResetReceived),
            observed(5_000_000 + late - 1, ended),
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
    let awaiting =
        |upstream, sent, received| code(&spoken(Phase::AwaitingResponse, upstream, sent, received));
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
fn a_young_connection_was_used_again_where_an_earlier_request_was_acknowledged() {
    let mut case = spoken(Phase::AwaitingResponse, HTTP, 0, 0);
    for (sent, unacknowledged, expected) in [
        (144, 72, Code::KeepaliveRace),
        (144, 144, Code::ResetByBackend),
        (144, 0, Code::ResetByBackend),
        (2_000, 1_000, Code::ResetByBackend),
    ] {
        if let Some(connection) = &mut case.connection {
            connection.bytes_sent = Some(sent);
            connection.unacknowledged = Some(unacknowledged);
        }
        assert_eq!(code(&case), expected, "{unacknowledged} of {sent}");
    }
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
