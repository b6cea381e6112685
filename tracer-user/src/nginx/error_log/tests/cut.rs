//! Lines that `NGX_MAX_ERROR_STR` cut off.

use super::*;

/// A line as nginx cuts it (`NGX_MAX_ERROR_STR`).
fn cut(line: &str) -> LogLine {
    parse(&line.as_bytes()[..2047]).expect("a line of the error log")
}

#[test]
fn an_address_that_was_cut_in_two_is_none() {
    for upstream in [
        "http://127.0.0.1:9101/a",
        "http://unix:/run/app.sock:/a",
        "127.0.0.1:9101",
    ] {
        for kept in 0..upstream.len() {
            let begin = REFUSED.replace("GET / HTTP/1.1", "GET /@ HTTP/1.1");
            let (begin, _) = begin.split_once("http://").expect("an upstream");
            let filled = "a".repeat(2047 - kept - (begin.len() - 1));
            let line = cut(&format!("{}{upstream}\"", begin.replace('@', &filled)));
            assert!(line.cut && is_about_upstream(&line));
            assert_eq!(
                failure_kind(&line),
                FailureKind::ConnectFailedAsync { errno: 111 }
            );
            let read = upstream_address(&line);
            let whole = ["127.0.0.1:9101", "unix:/run/app.sock"];
            assert!(
                read.as_deref().is_none_or(|read| whole.contains(&read)),
                "{read:?} of {:?}",
                &upstream[..kept]
            );
        }
    }
}

#[test]
fn a_request_line_that_was_cut_forges_no_upstream() {
    let forged = r#"GET /", upstream: "http://6.6.6.6:66/"#;
    let line = cut(&REFUSED.replace("GET /", &format!("{forged}{}", "a".repeat(2000))));
    assert_eq!(upstream_address(&line), None);
    assert_eq!(line.host, None);
    assert!(!read(REFUSED).cut);
}

#[test]
fn a_complaint_whose_end_was_cut_off_is_one_of_an_upstream() {
    let said = |message: &str| {
        cut(&REFUSED
            .replace(
                "connect() failed (111: Connection refused) while connecting to upstream",
                message,
            )
            .replace("GET /", &format!("GET /{}", "a".repeat(2000))))
    };
    let line =
        said("upstream prematurely closed connection while reading response header from upstream");
    let (phase, met, errno) = (Phase::AwaitingResponse, Met::Closed, None);
    assert_eq!(
        failure_kind(&line),
        FailureKind::AfterConnect { phase, met, errno }
    );
    let line = said("upstream prematurely closed connection while sending to client");
    let phase = Phase::ReadingResponse;
    assert_eq!(
        failure_kind(&line),
        FailureKind::AfterConnect { phase, met, errno }
    );
    let line = said("recv() failed (104: Connection reset by peer) while sending to client");
    let (met, errno) = (Met::ReceiveError, Some(104));
    assert_eq!(
        failure_kind(&line),
        FailureKind::AfterConnect { phase, met, errno }
    );
    let line =
        said("recv() failed (104: Connection reset by peer) while reading client request body");
    assert_eq!(failure_kind(&line), FailureKind::Other);
}
