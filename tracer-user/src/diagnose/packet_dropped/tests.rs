use crate::case::*;
use crate::diagnose::diagnose;
use crate::diagnose::example::*;
use crate::verdict::{Code, Confidence};

#[test]
fn a_blackhole_on_the_way_is_routing_and_names_its_namespace() {
    let mut case = silent("10.99.1.2:9101", 2000);
    let mut drop = drop_of("10.99.1.2:9101", OTHER, "NOT_SPECIFIED", None);
    if let Fact::Dropped { location, .. } = &mut drop {
        *location = Some("ip_forward".to_owned());
    }
    case.timeline = vec![observed(25, drop.clone())];
    assert_eq!(diagnose(&case).verdict.code, Code::PacketDropped);
    if let Fact::Dropped { location, .. } = &mut drop {
        *location = Some("ip_error".to_owned());
    }
    case.timeline = vec![observed(25, drop)];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::RouteRefused, Confidence::Certain)
    );
    assert!(verdict.summary.contains("network namespace 200"));
    assert!(
        verdict.fix[0].contains("ip route get 10.99.1.2 from 127.0.0.1 iif <device>"),
        "{:?}",
        verdict.fix
    );
}

#[test]
fn what_a_bridge_frees_without_a_reason_may_be_a_rules_doing() {
    let mut case = silent("10.99.1.2:9101", 2000);
    let mut drop = drop_of("10.99.1.2:9101", OTHER, "NOT_SPECIFIED", None);
    if let Fact::Dropped { location, .. } = &mut drop {
        *location = Some("br_handle_frame".to_owned());
    }
    case.timeline = vec![observed(25, drop)];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::PacketDropped, Confidence::Possible)
    );
    let mut ruled_out = verdict.ruled_out.iter();
    assert!(ruled_out.all(|other| other.code != Code::FirewallDrop));
    assert!(!verdict.missing.is_empty());
}

fn on_eth0(id: u32, ingress: bool) -> AttachedProgram {
    AttachedProgram {
        id,
        name: "guard".to_owned(),
        place: ProgramPlace::TrafficControl {
            netns: OTHER,
            device: "eth0".to_owned(),
            ingress,
        },
    }
}

#[test]
fn one_program_is_named_and_of_several_none() {
    let mut case = silent("10.99.1.2:9101", 2000);
    let drop = drop_of("10.99.1.2:9101", OTHER, "TC_INGRESS", None);
    case.timeline = vec![observed(25, drop)];
    case.host.programs = vec![on_eth0(7, true), on_eth0(8, false)];
    let verdict = diagnose(&case).verdict;
    assert!(
        verdict
            .summary
            .contains("tc program guard (id 7) on eth0 ingress"),
        "{}",
        verdict.summary
    );
    assert!(verdict.missing.is_empty(), "{:?}", verdict.missing);
    case.host.programs.push(on_eth0(9, true));
    let verdict = diagnose(&case).verdict;
    assert!(!verdict.summary.contains("guard"));
    assert!(verdict.because.iter().any(|words| words.contains("(id 9)")));
    assert_eq!(verdict.code, Code::PacketDropped);
    assert_eq!(verdict.missing.len(), 1);
}

#[test]
fn xdp_in_a_driver_is_suspected_and_never_certain() {
    let mut case = silent("10.99.1.2:9101", 2000);
    case.host.owners = vec![OTHER];
    case.host.far_end = Some(OTHER);
    case.host.listeners = vec![listener("10.99.1.2:9101", OTHER, "app")];
    case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
    let before = diagnose(&case).verdict.code;
    assert_ne!(before, Code::PacketDropped);
    let program = |netns, id| AttachedProgram {
        id,
        name: "guard".to_owned(),
        place: ProgramPlace::Xdp {
            netns,
            device: "eth0".to_owned(),
            mode: "native".to_owned(),
        },
    };
    case.host.programs = vec![program(OTHER, 7)];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::PacketDropped, Confidence::Probable)
    );
    case.host.programs.push(program(OWN, 8));
    assert_eq!(diagnose(&case).verdict.confidence, Confidence::Possible);
    case.host.programs = vec![program(300, 7)];
    assert_eq!(diagnose(&case).verdict.code, before);
}

#[test]
fn a_socket_filter_is_told_from_a_cgroup_program_only_where_the_receiver_is_known() {
    let mut case = silent("10.99.1.2:9101", 2000);
    let drop = drop_of("10.99.1.2:9101", OTHER, "SOCKET_FILTER", None);
    case.timeline = vec![observed(25, drop)];
    case.host.owners = vec![OTHER];
    let mut receiver = listener("10.99.1.2:9101", OTHER, "app");
    case.host.listeners = vec![receiver.clone()];
    let told = diagnose(&case).verdict.summary;
    assert!(told.contains("): a filter of the socket itself"), "{told}");
    receiver.owners.clear();
    case.host.listeners = vec![receiver];
    let told = diagnose(&case).verdict.summary;
    assert!(
        told.contains("a cgroup BPF program on ingress or"),
        "{told}"
    );
}

#[test]
fn a_reset_that_nginx_consumes_is_no_drop() {
    let mut case = refused("127.0.0.1:9101", OWN);
    case.timeline.push(observed(
        39,
        answer_drop("127.0.0.1:9101", OWN, "TCP_RESET", None),
    ));
    assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
}

#[test]
fn a_late_answer_to_a_closed_socket_is_no_drop() {
    let mut case = silent("203.0.113.7:9101", 2000);
    case.timeline = vec![
        observed(1_000_000, Fact::Retransmitted { error: Some(0) }),
        observed(
            2_100_000,
            answer_drop("203.0.113.7:9101", OWN, "NO_SOCKET", None),
        ),
    ];
    assert_eq!(diagnose(&case).verdict.code, Code::NoAnswer);
}

#[test]
fn what_the_queueing_discipline_drops_is_told_from_what_leaves() {
    let mut case = silent("203.0.113.7:9101", 2000);
    case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(1) })];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::PacketDropped, Confidence::Probable)
    );
    case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
    assert_eq!(diagnose(&case).verdict.code, Code::NoAnswer);
}
