use crate::case::*;
use crate::diagnose::diagnose;
use crate::diagnose::example::*;
use crate::verdict::{Code, Confidence};

#[test]
fn a_full_queue_is_told_from_one_at_its_limit() {
    let mut case = silent("127.0.0.1:9101", 2000);
    case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
    let mut full = listener("127.0.0.1:9101", OWN, "python3");
    full.queue = Some(Queue {
        length: 129,
        limit: 128,
    });
    case.host.listeners = vec![full];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::AcceptQueueFull, Confidence::Certain)
    );
    case.host.listeners[0].queue = Some(Queue {
        length: 128,
        limit: 128,
    });
    assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
}

#[test]
fn a_full_queue_of_another_namespace_is_not_to_blame() {
    let mut case = silent("127.0.0.1:9101", 2000);
    let mut full = listener("127.0.0.1:9101", OTHER, "python3");
    full.queue = Some(Queue {
        length: 129,
        limit: 128,
    });
    case.host.listeners = vec![full];
    assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
}

#[test]
fn a_full_queue_behind_the_same_address_is_blamed_only_where_the_route_leads_there() {
    let mut case = silent("10.99.9.2:9101", 2000);
    case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
    let mut full = listener("0.0.0.0:9101", OTHER, "python3");
    full.queue = Some(Queue {
        length: 129,
        limit: 128,
    });
    case.host.listeners = vec![full];
    case.host.owners = vec![OTHER];
    let diagnosis = diagnose(&case);
    assert_eq!(diagnosis.verdict.code, Code::NoAnswer);
    assert_eq!(diagnosis.listener, None);
    let mut blind = case.clone();
    blind.coverage.unavailable = vec!["packet-drop".to_owned()];
    let diagnosis = diagnose(&blind);
    assert_eq!(
        (diagnosis.verdict.code, diagnosis.verdict.confidence),
        (Code::AcceptQueueFull, Confidence::Possible)
    );
    assert_eq!(diagnosis.listener, None);
    case.host.far_end = Some(OTHER);
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::AcceptQueueFull, Confidence::Certain)
    );
}

#[test]
fn a_copy_that_is_freed_explains_less_than_a_full_queue() {
    let mut case = silent("127.0.0.1:9101", 2000);
    let mut full = listener("127.0.0.1:9101", OWN, "python3");
    full.queue = Some(Queue {
        length: 129,
        limit: 128,
    });
    case.host.listeners = vec![full];
    case.timeline = vec![
        observed(25, drop_of("127.0.0.1:9101", OTHER, "OTHERHOST", None)),
        observed(
            26,
            drop_of("127.0.0.1:9101", OWN, "PACKET_SOCK_ERROR", None),
        ),
        observed(1_000_000, Fact::Retransmitted { error: Some(0) }),
    ];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::AcceptQueueFull, Confidence::Certain)
    );
    assert!(verdict.because.iter().any(|words| words.contains("a copy")));
    case.host.listeners.clear();
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::PacketDropped, Confidence::Possible)
    );
}

#[test]
fn a_full_queue_behind_a_translation_is_blamed() {
    let mut case = silent("10.96.0.10:80", 2000);
    case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
    case.host.tracked_to = Some(address("10.99.1.2:8080"));
    let mut full = listener("0.0.0.0:8080", OTHER, "python3");
    full.queue = Some(Queue {
        length: 129,
        limit: 128,
    });
    case.host.listeners = vec![full];
    case.host.owners = vec![OTHER];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::NoAnswer, Confidence::Possible)
    );
    case.host.far_end = Some(OTHER);
    let diagnosis = diagnose(&case);
    assert_eq!(
        (diagnosis.verdict.code, diagnosis.verdict.confidence),
        (Code::AcceptQueueFull, Confidence::Certain)
    );
    assert_eq!(diagnosis.translated_to, Some(address("10.99.1.2:8080")));
}

#[test]
fn a_drop_explains_more_than_a_full_queue() {
    let mut case = silent("127.0.0.1:9101", 2000);
    let mut full = listener("127.0.0.1:9101", OWN, "python3");
    full.queue = Some(Queue {
        length: 129,
        limit: 128,
    });
    case.host.listeners = vec![full];
    case.timeline = vec![observed(
        25,
        drop_of("127.0.0.1:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
    )];
    assert_eq!(diagnose(&case).verdict.code, Code::FirewallDrop);
}
