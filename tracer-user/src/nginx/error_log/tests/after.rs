//! Lines about responses that broke off.

use super::*;

#[test]
fn what_is_met_without_buffers_is_met_while_sending_to_the_client() {
    let kind = |level: &str, said: &str| {
        failure_kind(&read(&format!(
            r#"[{level}] 1#1: *9 {said} while sending to client, client: 127.0.0.1, server: front, request: "GET / HTTP/1.1", upstream: "http://127.0.0.1:9004/""#
        )))
    };
    let phase = Phase::ReadingResponse;
    let after = |met, errno| FailureKind::AfterConnect { phase, met, errno };
    let reset = "recv() failed (104: Connection reset by peer)";
    for (level, said, expected) in [
        (
            "error",
            "upstream prematurely closed connection",
            after(Met::Closed, None),
        ),
        ("error", reset, after(Met::ReceiveError, Some(104))),
        (
            "error",
            "upstream rejected request with error 2",
            after(Met::EndedInProtocol, None),
        ),
        ("info", reset, FailureKind::Other),
        (
            "info",
            "client prematurely closed connection",
            FailureKind::ClientLeft,
        ),
        (
            "info",
            "writev() failed (104: Connection reset by peer)",
            FailureKind::Other,
        ),
        (
            "error",
            "writev() failed (104: Connection reset by peer)",
            FailureKind::Other,
        ),
        (
            "alert",
            "recv() failed (9: Bad file descriptor)",
            FailureKind::Other,
        ),
        (
            "crit",
            "SSL_read() failed (SSL: error:0A000119:SSL routines::bad record mac)",
            FailureKind::Other,
        ),
        (
            "error",
            "auth request unexpected status: 502",
            FailureKind::Other,
        ),
    ] {
        assert_eq!(kind(level, said), expected, "{level} {said}");
    }
}

#[test]
fn a_response_that_is_ended_by_its_protocol_is_no_closed_connection() {
    for said in [
        "upstream prematurely closed FastCGI stdout",
        "upstream prematurely closed FastCGI request",
        "upstream prematurely closed stream",
        "upstream rejected request with error 7",
        "upstream sent goaway with error 0",
    ] {
        let line = read(&format!(
            r#"[error] 1#1: *9 {said} while reading response header from upstream, client: 127.0.0.1, server: front, request: "GET / HTTP/1.1", upstream: "grpc://127.0.0.1:9004""#
        ));
        let kind = FailureKind::AfterConnect {
            phase: Phase::AwaitingResponse,
            met: Met::EndedInProtocol,
            errno: None,
        };
        assert_eq!(failure_kind(&line), kind, "{said}");
    }
}
