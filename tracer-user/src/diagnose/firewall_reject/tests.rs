use crate::case::*;
use crate::diagnose::diagnose;
use crate::diagnose::example::*;
use crate::event::Surface;
use crate::verdict::{Code, Confidence};

#[test]
fn a_forged_reset_is_told_from_that_of_a_closed_port() {
    let mut case = refused_from_afar("127.0.0.1:9101");
    case.timeline.push(observed(
        25,
        drop_of("127.0.0.1:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
    ));
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::FirewallReject, Confidence::Certain)
    );
    let mut closed = refused("127.0.0.1:9101", OWN);
    closed.timeline.push(observed(
        5,
        drop_of("127.0.0.1:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
    ));
    assert_eq!(diagnose(&closed).verdict.code, Code::NoListener);
}

/// The first SYN was dropped, and the second one was sent after a second.
fn dropped_once(mut case: Case) -> Case {
    let first = drop_of(
        "203.0.113.7:9101",
        OWN,
        "NETFILTER_DROP",
        Some(Hook::Output),
    );
    let again = Fact::Retransmitted { error: Some(0) };
    case.timeline.push(observed(25, first));
    case.timeline.push(observed(1_000_000, again));
    case
}

#[test]
fn a_reset_of_the_second_syn_is_no_rejection_of_the_first() {
    let mut case = dropped_once(refused_from_afar("203.0.113.7:9101"));
    case.timeline[0].at = START + SECOND + MILLISECOND;
    case.attempt.ended = case.timeline[0].at;
    case.timeline.sort_by_key(|seen| seen.at);
    assert_eq!(diagnose(&case).verdict.code, Code::RemoteRefused);
    case.timeline
        .retain(|seen| !matches!(seen.fact, Fact::Retransmitted { .. }));
    assert_eq!(diagnose(&case).verdict.code, Code::RemoteRefused);
    case.timeline[0].at = START + SECOND + MILLISECOND;
    assert_eq!(diagnose(&case).verdict.code, Code::FirewallReject);
}

#[test]
fn a_neighbour_that_the_second_syn_did_not_find_is_no_rejection_of_the_first() {
    let unreachable = Ending::SocketError {
        errno: libc::EHOSTUNREACH,
    };
    let mut case = dropped_once(case("203.0.113.7:9101", unreachable));
    case.attempt.ended = START + 4 * SECOND;
    case.timeline.extend([
        observed(4_000_000, icmp_sent("203.0.113.7:9101", OWN, 3, 1, None)),
        observed(
            4_000_000,
            drop_of("203.0.113.7:9101", OWN, "NEIGH_FAILED", None),
        ),
    ]);
    assert_eq!(diagnose(&case).verdict.code, Code::NeighbourUnreachable);
}

#[test]
fn a_drop_of_the_first_syn_alone_is_not_certain_to_be_why_none_was_answered() {
    let case = dropped_once(silent("203.0.113.7:9101", 2500));
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::FirewallDrop, Confidence::Probable)
    );
    assert!(
        verdict
            .missing
            .iter()
            .any(|words| words.contains("sent again"))
    );
    let mut all = case;
    let again = drop_of(
        "203.0.113.7:9101",
        OWN,
        "NETFILTER_DROP",
        Some(Hook::Output),
    );
    all.timeline.push(observed(1_000_010, again));
    assert_eq!(diagnose(&all).verdict.confidence, Confidence::Certain);
}

#[test]
fn a_rejection_that_nginx_does_not_hear_is_told_from_a_drop() {
    let mut case = silent("[::1]:9101", 500);
    case.timeline.push(observed(
        25,
        drop_of("[::1]:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
    ));
    assert_eq!(diagnose(&case).verdict.code, Code::FirewallDrop);
    case.timeline.push(observed(30, icmp_received("::1", 1, 4)));
    let diagnosis = diagnose(&case);
    assert_eq!(diagnosis.verdict.code, Code::FirewallReject);
    assert_eq!((diagnosis.surface, diagnosis.errno), (Surface::Timer, None));
}

#[test]
fn an_icmp_error_that_only_filters_send_is_probably_a_rejection() {
    let mut case = case("127.0.0.1:9101", Ending::GaveUp);
    case.timeline
        .push(observed(30, icmp_sent("127.0.0.1:9101", OWN, 3, 3, None)));
    let diagnosis = diagnose(&case);
    assert_eq!(diagnosis.verdict.code, Code::FirewallReject);
    assert_eq!(diagnosis.verdict.confidence, Confidence::Probable);
    assert_eq!(diagnosis.errno, Some(libc::ECONNREFUSED));
}
