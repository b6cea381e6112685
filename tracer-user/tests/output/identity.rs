//! What makes two failures one kind, and what does not.

use std::time::Duration;

use whyrefused::case::{Case, Death, Endpoint, Fact, Icmp, Observed, Process};
use whyrefused::coalesce::Coalescer;
use whyrefused::event::Surface;
use whyrefused::verdict::{Code, Confidence, Diagnosis};

use crate::cases;

fn diagnosis() -> Diagnosis {
    let mut diagnosis = cases::diagnosis(Code::ListenerKilled, "it was killed");
    diagnosis.listener = Some(cases::listener("127.0.0.1:9101"));
    diagnosis.ended = Some((7, killed_by(9)));
    diagnosis
}

fn killed_by(signal: i32) -> Death {
    Death::Killed {
        signal,
        core: false,
        sender: None,
    }
}

/// Whether a change to the case or its diagnosis makes it another kind of failure.
fn told_apart(change: impl FnOnce(&mut Case, &mut Diagnosis)) -> bool {
    let coalescer = Coalescer::new(Duration::from_secs(1));
    let (mut case, mut diagnosis) = (cases::refused_case(), diagnosis());
    let before = coalescer.identity(&case, &diagnosis, None);
    change(&mut case, &mut diagnosis);
    before != coalescer.identity(&case, &diagnosis, None)
}

#[test]
fn the_same_failure_of_another_worker_port_time_and_request_is_folded() {
    assert!(!told_apart(|case, diagnosis| {
        case.worker.pid += 1;
        case.attempt.local = Some("127.0.0.1:50000".parse().unwrap());
        case.attempt.started += 5;
        case.attempt.ended += 9;
        case.log = Some(cases::log_line());
        diagnosis.verdict.because.push("another time".into());
        diagnosis.verdict.summary.push_str(", 3 s before");
    }));
}

#[test]
fn whoever_was_dialled_from_where_is_told_apart() {
    assert!(told_apart(|case, _| case.worker.master_pid = Some(1)));
    assert!(told_apart(|case, _| case.worker.netns = 1));
    assert!(told_apart(|case, _| {
        let other = Endpoint::Inet("127.0.0.1:9102".parse().unwrap());
        case.attempt.dialled = Some(other);
    }));
    assert!(told_apart(|case, _| case.attempt.upstream_name = None));
    assert!(told_apart(|case, _| case.attempt.upstream_server = None));
}

#[test]
fn what_nginx_met_and_what_is_concluded_is_told_apart() {
    assert!(told_apart(|_, diagnosis| diagnosis.errno = Some(110)));
    assert!(told_apart(|_, diagnosis| diagnosis.surface = Surface::Timer));
    assert!(told_apart(
        |_, diagnosis| diagnosis.verdict.code = Code::NoListener
    ));
    assert!(told_apart(
        |_, diagnosis| diagnosis.verdict.confidence = Confidence::Possible
    ));
    assert!(told_apart(|_, diagnosis| diagnosis
        .verdict
        .missing
        .push("a record".into())));
    assert!(told_apart(|_, diagnosis| {
        diagnosis.translated_to = Some("10.0.0.1:80".parse().unwrap());
    }));
}

fn icmp_received(at: u64, code: u8) -> Observed {
    Observed {
        at,
        fact: Fact::IcmpReceived {
            from: [10, 0, 0, 1].into(),
            icmp: Icmp {
                kind: 3,
                code,
                v6: false,
            },
        },
    }
}

#[test]
fn other_evidence_is_told_apart_and_more_of_the_same_is_not() {
    let coalescer = Coalescer::new(Duration::from_secs(1));
    let identity = |timeline: Vec<Observed>| {
        let mut case = cases::refused_case();
        case.timeline = timeline;
        coalescer.identity(&case, &diagnosis(), None)
    };
    let unreachable = identity(vec![icmp_received(1, 1)]);
    assert_ne!(unreachable, identity(vec![icmp_received(1, 13)]));
    assert_ne!(unreachable, identity(Vec::new()));
    let twice = identity(vec![icmp_received(2, 1), icmp_received(3, 1)]);
    assert_eq!(unreachable, twice);
}

#[test]
fn another_listener_or_another_death_of_it_is_told_apart() {
    assert!(told_apart(
        |_, diagnosis| diagnosis.ended = Some((7, killed_by(11)))
    ));
    assert!(told_apart(
        |_, diagnosis| diagnosis.ended = Some((8, killed_by(9)))
    ));
    assert!(told_apart(|_, diagnosis| diagnosis.ended = None));
    assert!(told_apart(|_, diagnosis| diagnosis.listener = None));
    assert!(told_apart(|_, diagnosis| {
        diagnosis.candidates = diagnosis.listener.take().into_iter().collect();
    }));
    assert!(told_apart(|_, diagnosis| diagnosis
        .candidates
        .extend(diagnosis.listener.clone())));
    assert!(told_apart(|_, diagnosis| {
        let owners = diagnosis
            .listener
            .iter_mut()
            .flat_map(|listener| &mut listener.owners);
        owners.for_each(|owner: &mut Process| owner.pid += 1);
    }));
}
