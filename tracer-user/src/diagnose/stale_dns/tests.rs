use super::*;
use crate::case::Death;
use crate::diagnose::diagnose;
use crate::diagnose::example::*;
use crate::verdict::{Confidence, Verdict};

const OLD: &str = "203.0.113.7:9101";

fn name(host: &str, has: &[&str], source: NameSource) -> ConfiguredName {
    ConfiguredName {
        host: host.to_owned(),
        upstream: Some("backend".to_owned()),
        places: vec!["/etc/nginx/nginx.conf:3".to_owned()],
        had_it: false,
        now: Resolution::Resolved(Resolved {
            addresses: has
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            source,
            at: START,
            passed_over: Vec::new(),
        }),
    }
}

fn hosts(changed: bool) -> NameSource {
    NameSource::Hosts {
        changed: Some(changed),
    }
}

fn dns(steady: bool) -> NameSource {
    NameSource::Dns {
        server: address("10.0.0.53:53"),
        steady,
    }
}

fn unresolved(host: &str) -> ConfiguredName {
    ConfiguredName {
        now: Resolution::Unresolved("no DNS server answered in time".to_owned()),
        ..name(host, &[], dns(true))
    }
}

fn names(at_start: Vec<ConfiguredName>) -> Names {
    Names {
        at_start,
        configuration_changed: Some(false),
        ..Names::default()
    }
}

fn verdict(mut case: Case, names: Names) -> Verdict {
    case.host.names = Some(names);
    diagnose(&case).verdict
}

fn said(names: Names) -> (Code, Confidence) {
    let verdict = verdict(refused_from_afar(OLD), names);
    (verdict.code, verdict.confidence)
}

#[test]
fn a_name_that_moved_in_a_hosts_file_that_changed_is_certain() {
    let moved = names(vec![name("app", &["203.0.113.8"], hosts(true))]);
    let verdict = verdict(refused_from_afar(OLD), moved);
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::StaleDns, Confidence::Certain)
    );
    for words in [OLD, "app", "203.0.113.8"] {
        assert!(verdict.summary.contains(words), "{}", verdict.summary);
    }
    assert!(
        verdict
            .because
            .iter()
            .any(|words| words.contains("remote-refused"))
    );
    assert!(verdict.fix[0].starts_with("kill -HUP 4200"));
}

#[test]
fn what_the_trace_itself_saw_needs_no_time_of_change() {
    let mut seen = name("app", &["203.0.113.8"], NameSource::Hosts { changed: None });
    seen.had_it = true;
    let open = Names {
        open_ended: true,
        configuration_changed: None,
        ..names(vec![seen])
    };
    assert_eq!(said(open), (Code::StaleDns, Confidence::Certain));
}

#[test]
fn dns_makes_it_probable_at_most_and_says_what_is_not_known() {
    let moved = names(vec![name("app", &["203.0.113.8"], dns(true))]);
    let verdict = verdict(refused_from_afar(OLD), moved);
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::StaleDns, Confidence::Probable)
    );
    assert!(!verdict.missing.is_empty());
    assert!(
        verdict
            .fix
            .iter()
            .any(|step| step.contains("server app:9101 resolve;"))
    );
}

#[test]
fn a_name_that_still_has_the_address_among_others_changes_nothing() {
    let kept = names(vec![name(
        "app",
        &["203.0.113.8", "203.0.113.7"],
        hosts(true),
    )]);
    assert_eq!(
        verdict(refused_from_afar(OLD), kept),
        diagnose(&refused_from_afar(OLD)).verdict
    );
    let mapped = names(vec![name("app", &["::ffff:203.0.113.7"], hosts(true))]);
    assert_eq!(said(mapped).0, Code::RemoteRefused);
}

#[test]
fn of_two_names_one_that_has_the_address_or_may_have_it_leaves_the_ordinary_verdict() {
    let moved = || name("app", &["203.0.113.8"], hosts(true));
    let both = names(vec![moved(), name("other", &["203.0.113.7"], hosts(true))]);
    assert_eq!(said(both).0, Code::RemoteRefused);
    let unsure = verdict(
        refused_from_afar(OLD),
        names(vec![moved(), unresolved("other")]),
    );
    assert_eq!(unsure.code, Code::RemoteRefused);
    assert!(unsure.missing.iter().any(|words| words.contains("other")));
}

#[test]
fn of_two_names_that_both_moved_none_is_picked() {
    let both = names(vec![
        name("app", &["203.0.113.8"], hosts(true)),
        name("other", &["203.0.113.9"], hosts(true)),
    ]);
    let verdict = verdict(refused_from_afar(OLD), both);
    assert_eq!(
        (verdict.code, verdict.confidence),
        (Code::StaleDns, Confidence::Probable)
    );
    assert!(verdict.summary.contains("app") && verdict.summary.contains("other"));
}

#[test]
fn a_name_that_cannot_be_resolved_or_rotates_is_missing_and_no_more() {
    for open in [unresolved("app"), name("app", &["203.0.113.8"], dns(false))] {
        let verdict = verdict(refused_from_afar(OLD), names(vec![open]));
        assert_eq!(verdict.code, Code::RemoteRefused);
        assert!(
            verdict
                .missing
                .iter()
                .any(|words| words.contains("whether app still has"))
        );
    }
}

#[test]
fn a_name_that_nginx_follows_itself_may_have_led_there() {
    let followed = Names {
        at_work: vec!["other".to_owned()],
        ..names(vec![name("app", &["203.0.113.8"], hosts(true))])
    };
    assert_eq!(said(followed).0, Code::RemoteRefused);
}

#[test]
fn a_configuration_that_was_edited_may_have_had_the_address_itself() {
    let edited = |source| Names {
        configuration_changed: Some(true),
        ..names(vec![name("app", &["203.0.113.8"], source)])
    };
    assert_eq!(said(edited(hosts(false))).0, Code::RemoteRefused);
    assert_eq!(
        said(edited(hosts(true))),
        (Code::StaleDns, Confidence::Possible)
    );
    assert_eq!(
        said(edited(dns(true))),
        (Code::StaleDns, Confidence::Possible)
    );
}

#[test]
fn where_variables_lead_anywhere_a_common_port_proves_nothing() {
    let open = || Names {
        open_ended: true,
        ..names(vec![name("app", &["203.0.113.8"], hosts(true))])
    };
    assert_eq!(said(open()), (Code::StaleDns, Confidence::Possible));
    let common = verdict(refused_from_afar("203.0.113.7:80"), open());
    assert_eq!(common.code, Code::RemoteRefused);
}

#[test]
fn a_source_that_was_not_asked_takes_certainty() {
    let mut moved = name("app", &["203.0.113.8"], hosts(true));
    if let Resolution::Resolved(resolved) = &mut moved.now {
        resolved.passed_over = vec!["ldap".to_owned()];
    }
    let verdict = verdict(refused_from_afar(OLD), names(vec![moved]));
    assert_eq!(verdict.confidence, Confidence::Probable);
    assert!(verdict.missing.iter().any(|words| words.contains("ldap")));
}

#[test]
fn what_this_host_did_and_what_is_no_upstream_stay_what_they_are() {
    let moved = || names(vec![name("app", &["127.0.0.3"], hosts(true))]);
    let mut stood = after_connect(
        crate::case::Phase::AwaitingResponse,
        crate::case::Met::Timeout,
        None,
    );
    let ordinary = diagnose(&stood).verdict.code;
    stood.attempt.dialled = Some(crate::case::Endpoint::Inet(address(OLD)));
    assert_eq!(verdict(stood, moved()).code, ordinary);
    let mut other = refused_from_afar(OLD);
    let line = b"2026/11/22 06:10:00 [error] 4242#4242: connect() failed (111: Connection refused) while requesting certificate status, responder: ocsp.test";
    other.log = crate::nginx::error_log::parse(line);
    assert!(other.log.is_some());
    assert_eq!(verdict(other, moved()).code, Code::RemoteRefused);
}

#[test]
fn a_listener_that_ended_is_the_answer_unless_its_service_goes_on_where_the_name_is() {
    let mut case = refused("127.0.0.2:9101", OWN);
    case.host.ended = vec![ended("127.0.0.2:9101", OWN, Death::Exited { status: 0 })];
    let moved = || names(vec![name("app", &["127.0.0.3"], hosts(true))]);
    assert_eq!(verdict(case.clone(), moved()).code, Code::ListenerExited);
    case.host.listeners = vec![listener("127.0.0.3:9101", OWN, "app")];
    case.host.names = Some(moved());
    let diagnosis = diagnose(&case);
    assert_eq!(diagnosis.verdict.code, Code::StaleDns);
    assert_eq!(diagnosis.candidates, case.host.listeners);
    assert!(diagnosis.ended.is_some());
}
