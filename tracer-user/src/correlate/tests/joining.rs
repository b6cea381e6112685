//! Lines, and the attempts and connections that they are about.

use super::*;

/// The same line to another error log.
fn copy(line: &Evidence) -> Evidence {
    let mut copy = line.clone();
    if let What::LogLine { descriptor, .. } = &mut copy.what {
        *descriptor += 1;
    }
    copy
}

const NO_LIVE: &str = "no live upstreams while connecting to upstream";

#[test]
fn a_line_in_two_logs_is_one_and_a_line_that_is_said_again_is_another() {
    for text in [NO_LIVE, RECV] {
        let line = said(MS, "error", text);
        let lines = vec![line.clone(), copy(&line), line.clone(), copy(&line)];
        assert_eq!(run(lines).len(), 2, "{text}");
    }
}

#[test]
fn the_copy_of_a_line_is_not_given_to_another_attempt() {
    let first = line(102 * MS, REFUSED);
    let ready = run(vec![
        refused(100 * MS, "127.0.0.1:4000"),
        refused(101 * MS, "127.0.0.1:4001"),
        first.clone(),
        copy(&first),
    ]);
    let with_line = ready.iter().filter(|ended| ended.log.is_some());
    assert_eq!(with_line.count(), 1);
}

#[test]
fn a_response_that_was_complained_of_may_wait_in_vain_for_the_default_timeout() {
    let mut correlator = Correlator::default();
    let garbage =
        "upstream sent no valid HTTP/1.0 header while reading response header from upstream";
    let end = "upstream timed out (110: Connection timed out) while reading upstream";
    correlator.observe(said(MS, "error", garbage), &NoSymbols);
    correlator.observe(said(60_005 * MS, "error", end), &NoSymbols);
    assert_eq!(correlator.ready(KernelTime::MAX).len(), 1);
}

fn closed_in_good_health(at: KernelTime) -> Evidence {
    let mut evidence = closed(at, "127.0.0.1:9101");
    if let What::UpstreamClosed(closed) = &mut evidence.what {
        closed.reset_at = None;
        closed.connection.broken = None;
        closed.connection.error = None;
    }
    evidence
}

#[test]
fn a_connection_in_good_health_is_not_the_one_complained_of() {
    const CLOSED: &str =
        "upstream prematurely closed connection while reading response header from upstream";
    for text in [RECV, CLOSED] {
        let mut correlator = Correlator::default();
        let at = 1000 * MS;
        correlator.observe(said(at, "error", text), &NoSymbols);
        correlator.observe(closed_in_good_health(at + MS), &NoSymbols);
        let ready = correlator.ready(KernelTime::MAX);
        assert_eq!(ready.len(), 1);
        assert!(ready[0].connection.is_none(), "{text}");
    }
}

#[test]
fn a_connection_in_good_health_has_not_failed_by_the_line_of_a_counted_refusal() {
    let ready = run(vec![
        line(100 * MS, REFUSED),
        closed_in_good_health(101 * MS),
    ]);
    assert!(ready.is_empty(), "{ready:?}");
}

#[test]
fn a_timer_and_an_error_at_once_keep_their_lines() {
    let refusal = line(
        102 * MS,
        "connect() failed (113: No route to host) while connecting to upstream",
    );
    let ready = run(vec![
        ended(100 * MS, "127.0.0.1:4000", 0),
        ended(101 * MS, "127.0.0.1:4001", 113),
        refusal,
        line(103 * MS, TIMED_OUT),
    ]);
    for ended in &ready {
        let line = ended.log.as_ref().and_then(|line| line.message.as_deref());
        let timer = line.is_some_and(|line| line.starts_with("upstream timed out"));
        assert_eq!(timer, ended.attempt.ending == Ending::GaveUp, "{line:?}");
    }
}

#[test]
fn a_socket_that_was_closed_without_a_line_does_not_claim_the_next_attempts() {
    let mut correlator = Correlator::default();
    correlator.observe(refused(100 * MS, "127.0.0.1:4000"), &NoSymbols);
    correlator.observe(socket_closed(101 * MS), &NoSymbols);
    assert_eq!(correlator.ready(110 * MS).len(), 1);
    correlator.observe(refused(120 * MS, "127.0.0.1:4000"), &NoSymbols);
    correlator.observe(line(121 * MS, REFUSED), &NoSymbols);
    let ready = correlator.ready(KernelTime::MAX);
    assert!(ready[0].log.is_some());
}

#[test]
fn a_call_that_failed_without_a_line_does_not_claim_that_of_a_later_one() {
    let failed = |at| Evidence {
        at,
        what: What::SocketFailed {
            thread: worker(),
            errno: 24,
        },
    };
    let mut correlator = Correlator::default();
    correlator.observe(failed(100 * MS), &NoSymbols);
    assert_eq!(correlator.ready(200 * MS).len(), 1);
    correlator.observe(failed(300 * MS), &NoSymbols);
    let text = "socket() failed (24: Too many open files) while connecting to upstream";
    correlator.observe(line(301 * MS, text), &NoSymbols);
    assert!(correlator.ready(KernelTime::MAX)[0].log.is_some());
}

/// A line of a request so long that its end, which names the upstream, is cut off.
fn cut(at: KernelTime, text: &str) -> Evidence {
    let mut evidence = line(at, text);
    if let What::LogLine { text, .. } = &mut evidence.what {
        *text = text.replace("GET /", &format!("GET /{}", "a".repeat(2047)));
        text.truncate(2047);
    }
    evidence
}

#[test]
fn a_line_whose_end_is_cut_off_is_joined_by_its_thread() {
    let ready = run(vec![
        refused(100 * MS, "127.0.0.1:4000"),
        cut(101 * MS, REFUSED),
    ]);
    assert!(ready[0].log.is_some());
    let mut correlator = Correlator::default();
    correlator.observe(cut(100 * MS, RECV), &NoSymbols);
    correlator.observe(closed(101 * MS, "127.0.0.1:9101"), &NoSymbols);
    let ready = correlator.ready(110 * MS);
    assert!(ready[0].connection.is_some());
    let dialled = Endpoint::Inet(address("127.0.0.1:9101"));
    assert_eq!(ready[0].attempt.dialled, Some(dialled));
}
