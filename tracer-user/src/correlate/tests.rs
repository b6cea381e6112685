use zerocopy::FromBytes;

use tracer_common::record::{CALLERS, Outcome};

use super::*;
use crate::{
    case::{Connection, Endpoint, Icmp, Netns, Segment},
    evidence::{Fate, UpstreamClosed},
};

mod joining;

const MS: KernelTime = 1_000_000;

struct NoSymbols;

impl Symbols for NoSymbols {
    fn hook(&self, _frames: &[u64]) -> Option<Hook> {
        None
    }

    fn filters(&self, _frames: &[u64]) -> Vec<String> {
        Vec::new()
    }

    fn function(&self, _address: u64) -> Option<String> {
        None
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn worker() -> Thread {
    Thread {
        pid: 42,
        tid: 42,
        comm: "nginx".to_owned(),
    }
}

fn refused(at: KernelTime, local: &str) -> Evidence {
    ended(at, local, 111)
}

fn ended(at: KernelTime, local: &str, error: i32) -> Evidence {
    Evidence {
        at,
        what: What::AttemptEnded {
            thread: worker(),
            socket: 7,
            started: at - MS / 10,
            reset_at: (error == 111).then_some(at),
            reset_sent: None,
            no_socket: None,
            dialled: Some(address("127.0.0.1:9101")),
            local: Some(address(local)),
            remote: Some(address("127.0.0.1:9101")),
            error,
            initial_sequence: 1000,
            netns: 1,
            outcome: Outcome::read_from_bytes(&[0; 56]).expect("an outcome"),
        },
    }
}

/// The other end of a connection within the namespace.
fn peer_reset(at: KernelTime, netns: Netns) -> Evidence {
    Evidence {
        at,
        what: What::PeerEnded {
            nginx: address("127.0.0.1:40112"),
            target: address("127.0.0.1:9101"),
            ended: crate::case::PeerEnded {
                how: crate::case::PeerEnd::Reset,
                netns,
                reason: None,
                pid: 977,
                comm: "app".to_owned(),
                accepted: true,
                listening: false,
                exit_code: None,
                death: None,
            },
            callers: [0; CALLERS],
        },
    }
}

fn reset_sent(at: KernelTime, from: &str, to: &str, sequence: u32) -> Evidence {
    Evidence {
        at,
        what: What::ResetSent {
            netns: 1,
            reason: Some("NO_SOCKET".to_owned()),
            segment: Segment {
                from: address(from),
                to: address(to),
                sequence,
                flags: 2,
            },
        },
    }
}

fn line(at: KernelTime, text: &str) -> Evidence {
    Evidence {
        at,
        what: What::LogLine {
            thread: worker(),
            descriptor: 4,
            text: format!(
                "2026/11/22 06:10:00 [error] 42#42: *5 {text}, client: 127.0.0.1, server: , \
                 request: \"GET / HTTP/1.1\", upstream: \"http://127.0.0.1:9101/\", host: \"x\""
            ),
        },
    }
}

const REFUSED: &str = "connect() failed (111: Connection refused) while connecting to upstream";
const TIMED_OUT: &str =
    "upstream timed out (110: Connection timed out) while connecting to upstream";

fn run(evidence: Vec<Evidence>) -> Vec<Ended> {
    let mut correlator = Correlator::default();
    for one in evidence {
        correlator.observe(one, &NoSymbols);
    }
    correlator.ready(KernelTime::MAX)
}

#[test]
fn a_syn_is_found_behind_a_translation_of_its_source() {
    let mut correlator = Correlator::default();
    let translated = reset_sent(100 * MS, "10.0.0.1:61000", "127.0.0.1:9101", 1000);
    let foreign = reset_sent(100 * MS, "10.0.0.1:61000", "127.0.0.1:9101", 1001);
    for one in [translated, foreign, refused(100 * MS, "127.0.0.1:4000")] {
        correlator.observe(one, &NoSymbols);
    }
    let ready = correlator.ready(KernelTime::MAX);
    assert_eq!(ready[0].timeline.len(), 2);
    assert_eq!(correlator.forgotten(), 0);
}

#[test]
fn a_reset_of_the_same_addresses_belongs_to_the_attempt() {
    let ready = run(vec![
        reset_sent(100 * MS, "127.0.0.1:4000", "127.0.0.1:9101", 1000),
        refused(100 * MS, "127.0.0.1:4000"),
    ]);
    assert_eq!(ready.len(), 1);
    let facts: Vec<_> = ready[0].timeline.iter().map(|seen| &seen.fact).collect();
    assert!(matches!(
        facts[0],
        Fact::ResetSent { .. } | Fact::ResetReceived
    ));
    assert_eq!(facts.len(), 2);
}

#[test]
fn a_reset_behind_a_translation_is_known_by_its_sequence_number() {
    let ready = run(vec![
        reset_sent(100 * MS, "127.0.0.1:4000", "10.9.1.2:80", 1000),
        refused(100 * MS, "127.0.0.1:4000"),
    ]);
    assert_eq!(ready[0].timeline.len(), 2);
}

#[test]
fn a_reset_of_another_connection_is_left_alone() {
    let ready = run(vec![
        reset_sent(100 * MS, "127.0.0.1:4001", "127.0.0.1:9101", 1001),
        reset_sent(100 * MS, "127.0.0.1:4000", "127.0.0.1:9102", 2000),
        reset_sent(100 * MS, "127.0.0.1:4000", "127.0.0.1:9101", 2000),
        reset_sent(50 * MS, "127.0.0.1:4000", "127.0.0.1:9101", 1000),
        refused(100 * MS, "127.0.0.1:4000"),
    ]);
    assert_eq!(ready[0].timeline.len(), 1, "{:?}", ready[0].timeline);
}

fn socket_closed(at: KernelTime) -> Evidence {
    Evidence {
        at,
        what: What::SocketClosed { socket: 7 },
    }
}

#[test]
fn an_attempt_waits_until_the_worker_has_closed_its_socket() {
    let mut correlator = Correlator::default();
    correlator.observe(refused(100 * MS, "127.0.0.1:4000"), &NoSymbols);
    assert!(correlator.ready(300 * MS).is_empty());
    correlator.observe(line(310 * MS, REFUSED), &NoSymbols);
    correlator.observe(socket_closed(310 * MS), &NoSymbols);
    let ready = correlator.ready(315 * MS);
    assert!(ready[0].log.is_some());
}

#[test]
fn a_socket_closed_without_a_line_ends_the_wait() {
    let mut correlator = Correlator::default();
    correlator.observe(refused(100 * MS, "127.0.0.1:4000"), &NoSymbols);
    correlator.observe(socket_closed(101 * MS), &NoSymbols);
    assert_eq!(correlator.ready(106 * MS).len(), 1);
}

#[test]
fn a_line_that_comes_late_is_not_taken_for_the_next_attempts() {
    let mut correlator = Correlator::default();
    correlator.observe(refused(100 * MS, "127.0.0.1:4000"), &NoSymbols);
    assert_eq!(correlator.ready(601 * MS).len(), 1);
    correlator.observe(refused(610 * MS, "127.0.0.1:4000"), &NoSymbols);
    correlator.observe(line(611 * MS, REFUSED), &NoSymbols);
    let ready = correlator.ready(KernelTime::MAX);
    assert!(ready[0].log.is_none(), "the line is the first attempt's");
}

#[test]
fn lines_and_attempts_pair_up_in_order() {
    let ready = run(vec![
        refused(100 * MS, "127.0.0.1:4000"),
        line(101 * MS, REFUSED),
        refused(102 * MS, "127.0.0.1:4001"),
        line(103 * MS, REFUSED),
    ]);
    assert!(ready.iter().all(|ended| ended.log.is_some()));
}

#[test]
fn the_line_of_a_timeout_comes_before_the_end() {
    let ready = run(vec![
        line(100 * MS, TIMED_OUT),
        ended(101 * MS, "127.0.0.1:4000", 0),
    ]);
    assert!(ready[0].log.is_none(), "older than the attempt");
    let mut late = ended(101 * MS, "127.0.0.1:4000", 0);
    if let What::AttemptEnded { started, .. } = &mut late.what {
        *started = 1;
    }
    let ready = run(vec![line(100 * MS, TIMED_OUT), late]);
    assert!(ready[0].log.is_some());
}

#[test]
fn a_line_about_another_failure_is_not_taken() {
    let ready = run(vec![
        refused(100 * MS, "127.0.0.1:4000"),
        line(
            101 * MS,
            "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        ),
    ]);
    assert!(ready[0].log.is_none());
}

#[test]
fn an_icmp_error_is_joined_by_the_addresses_that_it_quotes() {
    let icmp = Evidence {
        at: 100 * MS,
        what: What::IcmpReceived {
            netns: 1,
            from: "10.0.0.1".parse().expect("address"),
            icmp: Icmp {
                kind: 3,
                code: 1,
                v6: false,
            },
            segment_from: address("127.0.0.1:4000"),
            segment_to: address("127.0.0.1:9101"),
            sequence: None,
        },
    };
    let ready = run(vec![icmp, ended(100 * MS, "127.0.0.1:4000", 113)]);
    assert!(matches!(
        ready[0].timeline[0].fact,
        Fact::IcmpReceived { .. }
    ));
}

#[test]
fn the_end_of_a_trace_forgets_nothing_that_attempts_in_waiting_need() {
    let dropped = Evidence {
        at: 99 * MS,
        what: What::NeighbourPacketDropped {
            netns: 1,
            wanted: "127.0.0.1".parse().expect("address"),
            asker: None,
            answer: true,
            frames: [0; tracer_common::record::FRAMES],
            circumstances: crate::case::Circumstances::default(),
        },
    };
    let ready = run(vec![
        dropped,
        ended(100 * MS, "127.0.0.1:4000", libc::EHOSTUNREACH),
        reset_sent(101 * MS, "127.0.0.1:4000", "127.0.0.1:9101", 1000),
    ]);
    let facts: Vec<_> = ready[0].timeline.iter().map(|seen| &seen.fact).collect();
    assert!(
        matches!(
            facts[..],
            [Fact::NeighbourPacketDropped { .. }, Fact::ResetSent { .. }]
        ),
        "{facts:?}"
    );
}

#[test]
fn retransmissions_of_an_earlier_socket_at_the_same_place_are_not_counted() {
    let again = |at| Evidence {
        at,
        what: What::Retransmitted {
            socket: 7,
            error: Some(0),
        },
    };
    let mut last = ended(1000 * MS, "127.0.0.1:4000", 0);
    if let What::AttemptEnded { started, .. } = &mut last.what {
        *started = 500 * MS;
    }
    let ready = run(vec![again(100 * MS), again(900 * MS), last]);
    assert_eq!(ready[0].timeline.len(), 1);
}

#[test]
fn the_client_that_left_is_noted_with_the_attempt_given_up() {
    let closed = Evidence {
        at: 101 * MS,
        what: What::ClientClosed {
            thread: worker(),
            client: Some(address("127.0.0.1:5000")),
        },
    };
    let ready = run(vec![ended(100 * MS, "127.0.0.1:4000", 0), closed.clone()]);
    assert!(matches!(
        ready[0].timeline[0].fact,
        Fact::ClientClosed { .. }
    ));
    let ready = run(vec![refused(100 * MS, "127.0.0.1:4000"), closed]);
    assert!(
        !ready[0]
            .timeline
            .iter()
            .any(|seen| matches!(seen.fact, Fact::ClientClosed { .. }))
    );
}

#[test]
fn what_became_of_the_syn_inside_the_call_is_part_of_the_story() {
    let mut evidence = refused(100 * MS, "127.0.0.1:4000");
    if let What::AttemptEnded { reset_sent, .. } = &mut evidence.what {
        *reset_sent = Some(Fate {
            at: 100 * MS - 1,
            to: address("127.0.0.1:9199"),
            netns: 1,
            reason: "NO_SOCKET".to_owned(),
        });
    }
    let ready = run(vec![evidence]);
    let Fact::ResetSent { segment, .. } = &ready[0].timeline[0].fact else {
        panic!("{:?}", ready[0].timeline);
    };
    assert_eq!(segment.to, address("127.0.0.1:9199"));
    assert_eq!(segment.from, address("127.0.0.1:4000"));
    assert!(ready[0].outcome.is_some());
}

#[test]
fn a_packet_of_another_namespace_with_the_same_addresses_is_left_alone() {
    let ready = run(vec![
        reset_sent(100 * MS, "127.0.0.1:4000", "127.0.0.1:9101", 2000),
        ended(100 * MS, "127.0.0.1:4000", 0),
    ]);
    assert!(ready[0].timeline.is_empty(), "{:?}", ready[0].timeline);
}

fn closed(at: KernelTime, dialled: &str) -> Evidence {
    let closed = UpstreamClosed {
        thread: worker(),
        started: at - 50 * MS,
        reset_at: Some(at - MS),
        fin_at: None,
        dialled: address(dialled),
        local: Some(address("127.0.0.1:40112")),
        remote: Some(address(dialled)),
        netns: 1,
        connection: Connection {
            established: at - 50 * MS,
            broken: Some(at - MS),
            error: Some(104),
            bytes_sent: None,
            bytes_received: None,
            last_sent: None,
            last_received: None,
            tick: 4 * MS,
            unacknowledged: None,
            unsent: None,
            retransmissions: None,
            round_trip_us: None,
        },
    };
    Evidence {
        at,
        what: What::UpstreamClosed(Box::new(closed)),
    }
}

fn said(at: KernelTime, level: &str, said: &str) -> Evidence {
    let text = format!(
        r#"2026/11/22 18:06:57 [{level}] 42#42: *9 {said}, client: 127.0.0.1, server: front, request: "GET / HTTP/1.1", upstream: "http://127.0.0.1:9101/""#
    );
    Evidence {
        at,
        what: What::LogLine {
            thread: worker(),
            descriptor: 4,
            text,
        },
    }
}

const RECV: &str =
    "recv() failed (104: Connection reset by peer) while reading response header from upstream";

#[test]
fn a_complaint_and_the_connection_that_is_closed_next_are_one_failure() {
    let mut correlator = Correlator::default();
    let at = 1000 * MS;
    correlator.observe(peer_reset(at - MS, 1), &NoSymbols);
    // Another namespace has the same connection within itself.
    correlator.observe(peer_reset(at - MS, 2), &NoSymbols);
    correlator.observe(said(at, "error", RECV), &NoSymbols);
    correlator.observe(closed(at + MS / 10, "127.0.0.1:9101"), &NoSymbols);
    let ready = correlator.ready(at + 5 * MS);
    assert_eq!(ready.len(), 1);
    assert!(ready[0].connection.is_some());
    assert_eq!(ready[0].attempt.started, at + MS / 10 - 50 * MS);
    let facts: Vec<&Fact> = ready[0].timeline.iter().map(|seen| &seen.fact).collect();
    assert!(
        matches!(facts[..], [Fact::PeerEnded(_), Fact::ResetReceived]),
        "{facts:?}"
    );
    assert!(correlator.ready(KernelTime::MAX).is_empty());
}

#[test]
fn a_complaint_waits_in_vain_for_the_connection_of_another_upstream() {
    let mut correlator = Correlator::default();
    let at = 1000 * MS;
    correlator.observe(said(at, "error", RECV), &NoSymbols);
    correlator.observe(closed(at + MS / 10, "127.0.0.1:9102"), &NoSymbols);
    assert!(correlator.ready(at + 5 * MS).is_empty());
    let ready = correlator.ready(at + PATIENCE);
    assert_eq!(ready.len(), 1);
    assert!(ready[0].connection.is_none());
}

#[test]
fn what_nginx_copes_with_is_no_failure_and_neither_is_a_close() {
    let mut correlator = Correlator::default();
    correlator.observe(said(MS, "info", RECV), &NoSymbols);
    correlator.observe(closed(1000 * MS, "127.0.0.1:9101"), &NoSymbols);
    assert!(correlator.ready(KernelTime::MAX).is_empty());
}

#[test]
fn a_kept_connection_that_broke_is_complained_of_as_if_it_was_dialled() {
    let mut correlator = Correlator::default();
    let at = 1000 * MS;
    let line = "connect() failed (104: Connection reset by peer) while connecting to upstream";
    correlator.observe(said(at, "error", line), &NoSymbols);
    correlator.observe(closed(at + MS / 10, "127.0.0.1:9101"), &NoSymbols);
    let ready = correlator.ready(at + 5 * MS);
    assert_eq!(ready.len(), 1);
    assert_eq!(
        ready[0].attempt.ending,
        Ending::AfterConnect {
            phase: crate::case::Phase::Connecting,
            met: crate::case::Met::SocketError,
            errno: Some(104),
        }
    );
}

#[test]
fn a_response_that_was_complained_of_ends_once() {
    let mut correlator = Correlator::default();
    let garbage =
        "upstream sent no valid HTTP/1.0 header while reading response header from upstream";
    let end = "readv() failed (104: Connection reset by peer) while reading upstream";
    correlator.observe(said(MS, "error", garbage), &NoSymbols);
    correlator.observe(said(200 * MS, "error", end), &NoSymbols);
    assert_eq!(correlator.ready(KernelTime::MAX).len(), 1);
}

#[test]
fn an_attempt_whose_end_was_missed_is_told_by_its_line() {
    let mut correlator = Correlator::default();
    correlator.observe(line(100 * MS, REFUSED), &NoSymbols);
    correlator.missed(900 * MS);
    assert!(correlator.ready(1000 * MS).is_empty());
    let ready = correlator.ready(1200 * MS);
    assert_eq!(ready.len(), 1);
    assert!(ready[0].unseen && ready[0].timeline.is_empty() && ready[0].log.is_some());
    let attempt = &ready[0].attempt;
    assert_eq!(attempt.ending, Ending::SocketError { errno: 111 });
    let dialled = Endpoint::Inet(address("127.0.0.1:9101"));
    assert_eq!(attempt.dialled, Some(dialled));
    assert!(correlator.ready(2400 * MS).is_empty());
}

#[test]
fn a_line_without_its_attempt_tells_nothing_where_nothing_was_missed() {
    let mut correlator = Correlator::default();
    correlator.observe(line(100 * MS, REFUSED), &NoSymbols);
    assert!(correlator.ready(1200 * MS).is_empty());
    correlator.missed(1300 * MS);
    assert!(correlator.ready(2400 * MS).is_empty());
}

#[test]
fn a_line_without_its_attempt_tells_nothing_new_of_an_upstream_that_was_seen_to_fail() {
    let mut correlator = Correlator::default();
    correlator.missed(50 * MS);
    correlator.observe(refused(90 * MS, "127.0.0.1:4000"), &NoSymbols);
    correlator.observe(line(100 * MS, REFUSED), &NoSymbols);
    correlator.observe(line(100 * MS, REFUSED), &NoSymbols);
    assert_eq!(correlator.ready(1200 * MS).len(), 1);
    assert!(correlator.ready(2400 * MS).is_empty());
}
