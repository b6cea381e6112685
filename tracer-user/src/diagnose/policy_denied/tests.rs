use crate::case::*;
use crate::diagnose::coverage::Observation;
use crate::diagnose::diagnose;
use crate::diagnose::example::*;
use crate::verdict::{Code, Confidence, Verdict};

fn refused_by_call(errno: i32) -> Case {
    let ending = Ending::ConnectFailed {
        errno,
        reached_syn_sent: false,
    };
    let mut case = case("127.0.0.1:9101", ending);
    case.host.route = Some(Route {
        error: None,
        kind: Some("local".to_owned()),
        gateway: None,
        device: Some("lo".to_owned()),
        link_up: Some(true),
        source: None,
        table: None,
        line: None,
        by_rule: false,
    });
    case.host.policies = Some(Policies {
        modules: Some(vec!["capability".to_owned(), "landlock".to_owned()]),
        ..Policies::default()
    });
    let unobserved = Observation::SecurityAnswer.as_str().to_owned();
    case.coverage.unavailable.push(unobserved);
    case
}

fn program(attach_type: &str) -> AttachedProgram {
    AttachedProgram {
        id: 77,
        name: "deny_connect".to_owned(),
        place: ProgramPlace::Cgroup {
            cgroup: "/web.slice".to_owned(),
            attach_type: attach_type.to_owned(),
        },
    }
}

fn told(verdict: &Verdict) -> (Code, Confidence, Option<&str>) {
    (verdict.code, verdict.confidence, verdict.policy.as_deref())
}

#[test]
fn a_seccomp_filter_is_told_from_a_kernel_without_the_family() {
    let mut case = case(
        "[::1]:9101",
        Ending::SocketFailed {
            errno: libc::EAFNOSUPPORT,
        },
    );
    case.host.seccomp_filter = Some(true);
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        told(&verdict),
        (Code::PolicyDenied, Confidence::Probable, Some("seccomp"))
    );
    case.host.policies = Some(Policies {
        family_works: Some(false),
        ..Policies::default()
    });
    assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    case.host.policies = None;
    case.host.seccomp_filter = Some(false);
    assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
}

#[test]
fn a_refusal_that_connect_itself_returns_is_no_closed_port() {
    let case = refused_by_call(libc::ECONNREFUSED);
    assert_eq!(diagnose(&case).verdict.code, Code::PolicyDenied);
    assert_eq!(
        diagnose(&refused("127.0.0.1:9101", OWN)).verdict.code,
        Code::NoListener
    );
}

#[test]
fn a_call_that_was_never_entered_was_denied_by_seccomp_whatever_the_error() {
    for errno in [libc::EPERM, libc::EACCES, libc::EHOSTUNREACH] {
        let mut case = refused_by_call(errno);
        case.host.seccomp_filter = Some(true);
        let without = diagnose(&case).verdict;
        assert_ne!(without.policy.as_deref(), Some("seccomp"), "{errno}");
        case.timeline = vec![observed(10, Fact::CallIntercepted)];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            told(&verdict),
            (Code::PolicyDenied, Confidence::Certain, Some("seccomp"))
        );
    }
}

#[test]
fn a_call_without_an_entry_and_without_a_filter_is_not_seccomp() {
    let mut case = refused_by_call(libc::EPERM);
    case.timeline = vec![observed(10, Fact::CallIntercepted)];
    case.host.seccomp_filter = Some(false);
    assert_ne!(diagnose(&case).verdict.policy.as_deref(), Some("seccomp"));
}

#[test]
fn a_call_whose_entry_may_have_been_missed_is_not_seccomp() {
    let mut case = refused_by_call(libc::EPERM);
    case.timeline = vec![observed(10, Fact::CallIntercepted)];
    case.host.seccomp_filter = Some(true);
    case.coverage.lost_records = true;
    assert_ne!(diagnose(&case).verdict.policy.as_deref(), Some("seccomp"));
}

#[test]
fn a_landlock_denial_is_told_from_a_prohibit_route() {
    let mut case = refused_by_call(libc::EACCES);
    assert_eq!(
        told(&diagnose(&case).verdict),
        (Code::PolicyDenied, Confidence::Probable, Some("landlock"))
    );
    if let Some(route) = &mut case.host.route {
        route.error = Some(libc::EACCES);
        route.kind = Some("prohibit".to_owned());
    }
    assert_eq!(diagnose(&case).verdict.code, Code::RouteRefused);
}

#[test]
fn a_program_on_the_cgroup_is_named_and_not_where_it_is_for_the_other_family() {
    let mut case = refused_by_call(libc::EPERM);
    assert_eq!(diagnose(&case).verdict.policy, None);
    case.host.programs = vec![program("cgroup_inet6_connect")];
    assert_eq!(diagnose(&case).verdict.policy, None);
    case.host.programs = vec![program("cgroup_inet4_connect")];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        told(&verdict),
        (Code::PolicyDenied, Confidence::Probable, Some("cgroup-bpf"))
    );
    let because = verdict.because.join("\n");
    assert!(
        because.contains("deny_connect")
            && because.contains("77")
            && because.contains("/web.slice")
    );
}

#[test]
fn two_that_can_have_done_it_are_both_told_and_neither_is_blamed() {
    let mut case = refused_by_call(libc::EACCES);
    case.host.programs = vec![program("cgroup_inet4_connect")];
    let verdict = diagnose(&case).verdict;
    assert_eq!(verdict.policy, None);
    let missing = verdict.missing.join("\n");
    assert!(missing.contains("cgroup-bpf") && missing.contains("landlock"));
}

#[test]
fn the_answer_of_the_security_modules_decides_between_them_and_a_program() {
    let mut case = refused_by_call(libc::EACCES);
    case.host.programs = vec![program("cgroup_inet4_connect")];
    case.coverage.unavailable.clear();
    assert_eq!(
        told(&diagnose(&case).verdict),
        (Code::PolicyDenied, Confidence::Probable, Some("cgroup-bpf"))
    );
    let errno = libc::EACCES;
    case.timeline = vec![observed(10, Fact::SecurityDenied { errno })];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        told(&verdict),
        (Code::PolicyDenied, Confidence::Certain, Some("landlock"))
    );
    assert!(verdict.missing.is_empty(), "{:?}", verdict.missing);
}

#[test]
fn a_denial_by_a_module_that_is_not_known_is_certain_and_names_none() {
    let mut case = refused_by_call(libc::EPERM);
    let errno = libc::EPERM;
    case.timeline = vec![observed(10, Fact::SecurityDenied { errno })];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        told(&verdict),
        (Code::PolicyDenied, Confidence::Certain, None)
    );
    assert_eq!(verdict.missing.len(), 1, "{:?}", verdict.missing);
}

#[test]
fn an_audited_denial_is_certain_and_names_the_boolean() {
    let mut case = refused_by_call(libc::EACCES);
    let denial = Denial {
        module: Module::Selinux,
        request: Some("name_connect".to_owned()),
        subject: Some("system_u:system_r:httpd_t:s0".to_owned()),
        object: Some("system_u:object_r:unreserved_port_t:s0".to_owned()),
        class: Some("tcp_socket".to_owned()),
        permissive: false,
        text: "avc:  denied  { name_connect }".to_owned(),
    };
    case.timeline = vec![observed(
        10,
        Fact::Audited {
            denial: denial.clone(),
        },
    )];
    let verdict = diagnose(&case).verdict;
    assert_eq!(
        told(&verdict),
        (Code::PolicyDenied, Confidence::Certain, Some("selinux"))
    );
    assert!(
        verdict
            .fix
            .iter()
            .any(|fix| fix == "setsebool -P httpd_can_network_connect 1")
    );
    let permissive = Denial {
        permissive: true,
        ..denial
    };
    case.timeline = vec![observed(10, Fact::Audited { denial: permissive })];
    assert_ne!(diagnose(&case).verdict.policy.as_deref(), Some("selinux"));
}

#[test]
fn a_landlock_record_about_another_port_is_not_this_denial() {
    let record = |port: u16| Fact::Audited {
        denial: Denial {
            module: Module::Landlock,
            request: Some("net.connect_tcp".to_owned()),
            subject: None,
            object: None,
            class: None,
            permissive: false,
            text: format!("domain=1 blockers=net.connect_tcp daddr=127.0.0.1 dest={port}"),
        },
    };
    let mut case = refused_by_call(libc::EACCES);
    case.host.policies = None;
    case.timeline = vec![observed(10, record(9102))];
    assert_eq!(diagnose(&case).verdict.policy, None);
    case.timeline = vec![observed(10, record(9101))];
    assert_eq!(diagnose(&case).verdict.policy.as_deref(), Some("landlock"));
}
