use super::unresolved;
use crate::case::*;
use crate::diagnose::diagnose;
use crate::diagnose::example::*;
use crate::verdict::{Code, Confidence};

#[test]
fn a_host_that_does_not_answer_arp_is_told_from_a_router_that_says_so() {
    let mut case = case(
        "10.99.1.2:9101",
        Ending::SocketError {
            errno: libc::EHOSTUNREACH,
        },
    );
    case.attempt.ended = START + 3 * SECOND;
    case.timeline = vec![
        observed(3_000_000, icmp_sent("10.99.1.2:9101", OWN, 3, 1, None)),
        observed(
            3_000_001,
            drop_of("10.99.1.2:9101", OWN, "NEIGH_FAILED", None),
        ),
    ];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::NeighbourUnreachable, Confidence::Certain)
    );
    case.timeline = vec![
        observed(3_000_000, icmp_sent("10.99.1.2:9101", OTHER, 3, 1, None)),
        observed(
            3_000_001,
            drop_of("10.99.1.2:9101", OTHER, "NEIGH_FAILED", None),
        ),
        observed(3_000_002, icmp_received("10.0.0.254", 3, 1)),
    ];
    assert_eq!(diagnose(&case).verdict.code, Code::IcmpUnreachable);
}

#[test]
fn a_neighbour_that_had_no_time_to_answer_is_not_said_to_be_silent() {
    let mut case = silent("10.99.1.2:9101", 300);
    case.host.neighbour = Some(neighbour("10.99.1.2", "incomplete"));
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::NeighbourUnreachable, Confidence::Possible)
    );
    assert!(verdict.summary.contains("may not have left"));
    assert!(verdict.ruled_out.iter().all(|it| it.code != Code::NoAnswer));
    case.attempt.ended = START + 2 * SECOND;
    let verdict = diagnose(&case).verdict;
    assert_eq!(verdict.confidence, Confidence::Probable);
    assert!(verdict.summary.contains("never left"));
}

#[test]
fn nobody_is_asked_for_an_address_of_this_host() {
    let mut case = silent("203.0.113.7:9101", 2000);
    case.timeline = vec![observed(
        1_000_000,
        Fact::Retransmitted { error: Some(-16) },
    )];
    case.host.route = Some(route(None, "local", None));
    case.host.owners = vec![OWN];
    assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
}

#[test]
fn what_waits_for_another_reason_is_not_the_neighbours() {
    let mut case = silent("203.0.113.7:9101", 4000);
    let waits = Fact::Retransmitted { error: Some(-16) };
    case.timeline = vec![observed(1_000_000, waits)];
    let mut by_eth0 = route(None, "unicast", None);
    by_eth0.device = Some("eth0".to_owned());
    assert_eq!(
        diagnose(&case).verdict.code,
        Code::NeighbourUnreachable,
        "nothing is known of it"
    );
    case.host.route = Some(by_eth0);
    assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    case.host.neighbour = Some(neighbour("203.0.113.7", "reachable"));
    assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    case.host.neighbour = Some(neighbour("203.0.113.7", "incomplete"));
    assert_eq!(diagnose(&case).verdict.code, Code::NeighbourUnreachable);
}

#[test]
fn a_program_on_the_device_that_may_have_eaten_arp_takes_certainty() {
    let mut case = silent("10.99.1.2:9101", 2000);
    case.timeline = vec![observed(
        1_000_000,
        Fact::Retransmitted { error: Some(-16) },
    )];
    case.host.neighbour = Some(neighbour("10.99.1.2", "incomplete"));
    let device = unresolved(&case).map(|neighbour| neighbour.device.clone());
    let on = |device: &str| AttachedProgram {
        id: 7,
        name: "guard".to_owned(),
        place: ProgramPlace::TrafficControl {
            netns: OWN,
            device: device.to_owned(),
            ingress: false,
        },
    };
    case.host.programs = vec![on("another")];
    assert_eq!(diagnose(&case).verdict.confidence, Confidence::Certain);
    case.host.programs.push(on(&device.expect("a device")));
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::NeighbourUnreachable, Confidence::Probable)
    );
    assert!(verdict.missing[0].contains("guard (id 7)"));
}

#[test]
fn a_syn_that_waits_for_the_neighbour_is_told_from_one_that_left() {
    let mut case = silent("10.99.1.2:9101", 2000);
    case.timeline = vec![observed(
        1_000_000,
        Fact::Retransmitted { error: Some(-16) },
    )];
    case.host.neighbour = Some(neighbour("10.99.1.2", "incomplete"));
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::NeighbourUnreachable, Confidence::Certain)
    );
    case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
    case.host.neighbour = Some(neighbour("10.99.1.2", "reachable"));
    assert_eq!(diagnose(&case).verdict.code, Code::NoAnswer);
}
