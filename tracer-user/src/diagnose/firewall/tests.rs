use crate::case::*;
use crate::diagnose::diagnose;
use crate::diagnose::example::*;
use crate::event::Rule;
use crate::verdict::{Code, Confidence, Diagnosis};

const TARGET: &str = "127.0.0.1:9101";

fn fitting(handle: u64, action: Action) -> Fitting {
    Fitting {
        backend: Backend::Nft,
        family: FilterFamily::Inet,
        table: "filter".to_owned(),
        chain: "input".to_owned(),
        base_chain: "input".to_owned(),
        handle: Some(handle),
        position: Some(handle as u32),
        action,
        text: format!("the text of {handle}"),
        comment: None,
        certain: true,
        counted: None,
        never_met: false,
        leads_to: Vec::new(),
    }
}

fn policy(chain: &str) -> Fitting {
    Fitting {
        chain: chain.to_owned(),
        base_chain: chain.to_owned(),
        handle: None,
        position: None,
        ..fitting(0, Action::Drop)
    }
}

fn iptables(backend: Backend, position: u32, action: Action) -> Fitting {
    Fitting {
        backend,
        family: FilterFamily::Ip,
        chain: "INPUT".to_owned(),
        base_chain: "INPUT".to_owned(),
        handle: (backend == Backend::IptablesNft).then_some(u64::from(position) + 10),
        position: Some(position),
        ..fitting(0, action)
    }
}

fn reject(kind: u8, code: u8, v6: bool) -> Action {
    let icmp = Icmp { kind, code, v6 };
    Action::RejectWithIcmp { icmp }
}

fn filtering(fitting: Vec<Fitting>) -> Filtering {
    Filtering {
        netns: OWN,
        hook: Hook::Input,
        answer: false,
        neighbour: None,
        purpose: Purpose::Stopped,
        fitting,
        doubts: Vec::new(),
        changed: false,
        unread: Vec::new(),
        known_by: KnownBy::Evaluation,
        disagreement: None,
    }
}

/// nginx got a reset for a SYN that netfilter freed.
fn reset_by(fitting: Vec<Fitting>) -> Case {
    let mut case = refused_from_afar(TARGET);
    let dropped = drop_of(TARGET, OWN, "NETFILTER_DROP", Some(Hook::Input));
    case.timeline.insert(0, observed(15, dropped));
    case.host.filterings = vec![filtering(fitting)];
    case
}

/// Nothing came back for a SYN that netfilter freed.
fn dropped_by(fitting: Vec<Fitting>) -> Case {
    dropped_at(TARGET, fitting)
}

fn dropped_at(target: &str, fitting: Vec<Fitting>) -> Case {
    let mut case = silent(target, 2500);
    let dropped = drop_of(target, OWN, "NETFILTER_DROP", Some(Hook::Input));
    case.timeline = vec![observed(25, dropped)];
    case.host.filterings = vec![filtering(fitting)];
    case
}

fn on_stack(case: &mut Case, functions: &[&str]) {
    for observed in &mut case.timeline {
        if let Fact::Dropped { circumstances, .. } = &mut observed.fact {
            let functions = functions.iter().map(|name| (*name).to_owned()).collect();
            *circumstances = Some(Circumstances {
                functions,
                ..Circumstances::default()
            });
        }
    }
}

fn verdict(diagnosis: &Diagnosis) -> (Code, Confidence) {
    (diagnosis.verdict.code, diagnosis.verdict.confidence)
}

fn named(diagnosis: &Diagnosis) -> (Option<u64>, usize) {
    let rule = diagnosis.rule.as_ref();
    (
        rule.and_then(|rule| rule.handle),
        rule.map_or(0, |rule| rule.alternatives.len()),
    )
}

fn says(words: &[String], part: &str) -> bool {
    words.iter().any(|sentence| sentence.contains(part))
}

#[test]
fn the_only_rule_that_resets_is_named_among_those_that_match() {
    let diagnosis = diagnose(&reset_by(vec![
        fitting(5, Action::Drop),
        fitting(6, reject(3, 3, false)),
        fitting(7, Action::RejectWithReset),
    ]));
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallReject, Confidence::Certain)
    );
    assert_eq!(named(&diagnosis), (Some(7), 0));
    assert!(
        diagnosis
            .verdict
            .summary
            .starts_with("rule with handle 7 of chain input (table inet filter) rejected the SYN"),
        "{}",
        diagnosis.verdict.summary
    );
    assert_eq!(diagnosis.verdict.missing, Vec::<String>::new());
    assert_eq!(
        diagnosis.verdict.fix,
        [
            "nft insert rule inet filter input handle 7 ip saddr 127.0.0.1 ip daddr 127.0.0.1 tcp dport 9101 accept",
            "nft delete rule inet filter input handle 7"
        ]
    );
}

#[test]
fn an_icmp_error_is_that_of_the_rule_to_its_code() {
    let mut case = case(
        TARGET,
        Ending::SocketError {
            errno: libc::EHOSTUNREACH,
        },
    );
    case.timeline = vec![observed(
        20,
        icmp_sent(TARGET, OWN, 3, 10, Some(Hook::Input)),
    )];
    case.host.filterings = vec![filtering(vec![
        fitting(5, reject(3, 3, false)),
        fitting(6, reject(3, 10, false)),
        fitting(7, Action::Drop),
    ])];
    let diagnosis = diagnose(&case);
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallReject, Confidence::Certain)
    );
    assert_eq!(named(&diagnosis), (Some(6), 0));
}

#[test]
fn several_rules_that_fit_are_alternatives_and_never_certain() {
    let mut case = dropped_by(vec![fitting(5, Action::Drop), fitting(6, Action::Drop)]);
    case.host.filterings[0].doubts = vec!["limit".to_owned()];
    let diagnosis = diagnose(&case);
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallDrop, Confidence::Probable)
    );
    assert_eq!(named(&diagnosis), (Some(5), 1));
    assert!(says(&diagnosis.verdict.missing, "which of 2 rules"));
    assert!(says(&diagnosis.verdict.missing, "limit"));
}

#[test]
fn counters_decide_between_rules_that_fit() {
    let mut case = dropped_by(vec![fitting(5, Action::Drop), fitting(6, Action::Drop)]);
    case.host.filterings[0].fitting[0].never_met = true;
    let diagnosis = diagnose(&case);
    assert_eq!(named(&diagnosis), (Some(6), 0));
    assert_eq!(diagnosis.verdict.confidence, Confidence::Certain);

    let mut case = dropped_by(vec![fitting(5, Action::Drop), fitting(6, Action::Drop)]);
    case.host.filterings[0].fitting[0].counted = Some(0);
    case.host.filterings[0].fitting[1].counted = Some(3);
    let diagnosis = diagnose(&case);
    assert_eq!(named(&diagnosis), (Some(6), 0));
    assert!(says(&diagnosis.verdict.because, "rose by 3"));
    // A rule without a counter stays possible.
    case.host.filterings[0].fitting[0].counted = None;
    assert_eq!(named(&diagnose(&case)), (Some(6), 1));
}

#[test]
fn counters_that_stood_still_everywhere_exclude_nothing() {
    let mut case = dropped_by(vec![fitting(5, Action::Drop)]);
    case.host.filterings[0].fitting[0].never_met = true;
    assert_eq!(named(&diagnose(&case)), (Some(5), 0));
}

#[test]
fn the_stack_tells_family_and_backend() {
    let ip = Fitting {
        family: FilterFamily::Ip,
        ..fitting(5, Action::Drop)
    };
    let inet = fitting(6, Action::Drop);
    let legacy = iptables(Backend::IptablesLegacy, 1, Action::Drop);
    let compat = iptables(Backend::IptablesNft, 2, Action::Drop);
    let all = vec![ip, inet, legacy, compat];
    for (functions, left) in [
        (
            &["nft_do_chain", "nft_do_chain_inet"][..],
            vec![(Some(6), None)],
        ),
        (
            &["nft_do_chain", "nft_do_chain_ipv4"],
            vec![(Some(5), None), (Some(12), Some(2))],
        ),
        (
            &["nft_target_eval_xt", "nft_do_chain", "nft_do_chain_ipv4"],
            vec![(Some(12), Some(2))],
        ),
        (&["ipt_do_table", "nf_hook_slow"], vec![(None, Some(1))]),
    ] {
        let mut case = dropped_by(all.clone());
        on_stack(&mut case, functions);
        let rule = diagnose(&case).rule.expect("a rule");
        let place = |rule: &Rule| (rule.handle, rule.position);
        let mut named = vec![place(&rule)];
        named.extend(rule.alternatives.iter().map(place));
        assert_eq!(named, left, "{functions:?}");
    }
    let mut case = dropped_by(all);
    on_stack(&mut case, &["nf_hook_slow"]);
    let rule = diagnose(&case).rule.expect("a rule");
    assert_eq!(rule.alternatives.len(), 3);
}

#[test]
fn a_changed_or_partly_unread_ruleset_takes_the_certainty() {
    let mut case = dropped_by(vec![fitting(5, Action::Drop)]);
    case.host.filterings[0].changed = true;
    let diagnosis = diagnose(&case);
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallDrop, Confidence::Probable)
    );
    assert!(says(&diagnosis.verdict.missing, "changed"));
    case.host.filterings[0].changed = false;
    case.host.filterings[0].unread = vec!["legacy table mangle".to_owned()];
    let diagnosis = diagnose(&case);
    assert_eq!(diagnosis.verdict.confidence, Confidence::Probable);
    assert!(says(&diagnosis.verdict.missing, "legacy table mangle"));
}

#[test]
fn what_no_rule_explains_names_none_and_says_so() {
    let diagnosis = diagnose(&dropped_by(vec![fitting(5, Action::Accept)]));
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallDrop, Confidence::Certain)
    );
    assert_eq!(diagnosis.rule, None);
    assert!(says(&diagnosis.verdict.missing, "which rule or policy"));
    assert!(says(&diagnosis.verdict.missing, "a rule that fits"));
}

#[test]
fn rules_of_another_place_are_no_suspects() {
    for change in [
        (|filtering: &mut Filtering| filtering.netns = OTHER) as fn(&mut Filtering),
        |filtering| filtering.hook = Hook::Output,
        |filtering| filtering.answer = true,
        |filtering| filtering.purpose = Purpose::Translated,
    ] {
        let mut case = dropped_by(vec![fitting(5, Action::Drop)]);
        change(&mut case.host.filterings[0]);
        assert_eq!(diagnose(&case).rule, None);
    }
}

#[test]
fn a_rejection_whose_icmp_error_was_held_back_is_told_from_a_drop() {
    let remote = "10.99.1.2:9101";
    let case = dropped_at(remote, vec![fitting(5, reject(3, 3, false))]);
    let diagnosis = diagnose(&case);
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallReject, Confidence::Certain)
    );
    assert!(says(&diagnosis.verdict.because, "icmp_ratelimit"));
    let both = vec![fitting(5, reject(3, 3, false)), fitting(6, Action::Drop)];
    let diagnosis = diagnose(&dropped_at(remote, both.clone()));
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallDrop, Confidence::Probable)
    );
    assert_eq!(named(&diagnosis).1, 1);
    // On loopback nothing is held back.
    let diagnosis = diagnose(&dropped_at(TARGET, both));
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallDrop, Confidence::Certain)
    );
    assert_eq!(named(&diagnosis), (Some(6), 0));
}

#[test]
fn over_ipv6_the_only_rule_decides_between_rejection_and_drop() {
    let rejecting = dropped_at("[::1]:9101", vec![fitting(5, reject(1, 4, true))]);
    assert_eq!(diagnose(&rejecting).verdict.code, Code::FirewallReject);
    let dropping = dropped_at("[::1]:9101", vec![fitting(5, Action::Drop)]);
    assert_eq!(diagnose(&dropping).verdict.code, Code::FirewallDrop);
}

#[test]
fn a_policy_is_no_rule_and_its_fix_lets_both_ways_pass_on_one_machine() {
    let diagnosis = diagnose(&dropped_by(vec![policy("input")]));
    let rule = diagnosis.rule.expect("a rule");
    assert!(rule.policy && rule.handle.is_none() && rule.position.is_none());
    assert!(
        diagnosis
            .verdict
            .summary
            .starts_with("the policy of chain input (table inet filter) dropped")
    );
    let fix = &diagnosis.verdict.fix;
    assert!(fix[0].starts_with("nft 'add rule inet filter input"));
    assert!(fix[0].contains("tcp dport 9101") && fix[0].contains("tcp sport 9101"));
    assert_eq!(fix[1], "nft 'chain inet filter input { policy accept; }'");
}

#[test]
fn rules_of_iptables_go_by_position_and_by_the_command_that_shows_them() {
    for (backend, default, command) in [
        (Backend::IptablesLegacy, None, "iptables-legacy"),
        (
            Backend::IptablesLegacy,
            Some(Backend::IptablesLegacy),
            "iptables",
        ),
        (
            Backend::IptablesNft,
            Some(Backend::IptablesLegacy),
            "iptables-nft",
        ),
        (Backend::IptablesNft, Some(Backend::IptablesNft), "iptables"),
    ] {
        let mut case = reset_by(vec![iptables(backend, 3, Action::RejectWithReset)]);
        case.host.iptables = default;
        let diagnosis = diagnose(&case);
        assert_eq!(
            diagnosis.verdict.fix[..2],
            [
                format!(
                    "{command} -I INPUT 3 -p tcp -s 127.0.0.1 -d 127.0.0.1 --dport 9101 -j ACCEPT"
                ),
                format!("{command} -D INPUT 3"),
            ]
        );
        let rule = diagnosis.rule.expect("a rule");
        assert_eq!(rule.position, Some(3));
        assert_eq!(rule.handle.is_some(), backend == Backend::IptablesNft);
    }
}

#[test]
fn a_dropped_answer_is_let_pass_by_its_source_port() {
    let mut case = silent(TARGET, 2500);
    let dropped = answer_drop(TARGET, OWN, "NETFILTER_DROP", Some(Hook::Input));
    case.timeline = vec![observed(25, dropped)];
    case.host.filterings = vec![Filtering {
        answer: true,
        ..filtering(vec![fitting(5, Action::RejectWithReset)])
    }];
    let diagnosis = diagnose(&case);
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallDrop, Confidence::Certain)
    );
    assert!(diagnosis.verdict.fix[0].ends_with("tcp sport 9101 accept"));
}

#[test]
fn a_queue_without_reader_is_named_by_its_number() {
    let mut case = dropped_by(vec![
        fitting(5, Action::Drop),
        fitting(
            6,
            Action::Queue {
                number: 3,
                bypass: false,
            },
        ),
    ]);
    if let Fact::Dropped {
        location, reason, ..
    } = &mut case.timeline[0].fact
    {
        *location = Some("nf_queue".to_owned());
        "NOT_SPECIFIED".clone_into(reason);
    }
    let diagnosis = diagnose(&case);
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallDrop, Confidence::Certain)
    );
    assert_eq!(named(&diagnosis), (Some(6), 0));
    assert!(says(&diagnosis.verdict.fix, "reads queue 3"));
}

#[test]
fn managers_are_known_by_their_chains_and_told_first() {
    for (chain, comment, manager, first) in [
        (
            "ufw-user-input",
            None,
            "ufw",
            "ufw insert 1 allow proto tcp from 127.0.0.1 to 127.0.0.1 port 9101",
        ),
        (
            "filter_IN_public_deny",
            None,
            "firewalld",
            "firewall-cmd --zone=public --add-rich-rule=",
        ),
        (
            "DOCKER-ISOLATION-STAGE-2",
            None,
            "docker",
            "docker network connect",
        ),
        (
            "KUBE-SERVICES",
            Some("default/app:http has no endpoints"),
            "kube-proxy",
            "kubectl -n default get endpointslices -l kubernetes.io/service-name=app",
        ),
        (
            "f2b-nginx",
            None,
            "fail2ban",
            "fail2ban-client set nginx unbanip 127.0.0.1",
        ),
        (
            "cali-fw-1234",
            None,
            "calico",
            "kubectl get networkpolicies -A",
        ),
    ] {
        let rule = Fitting {
            chain: chain.to_owned(),
            comment: comment.map(str::to_owned),
            table: if manager == "firewalld" {
                "firewalld"
            } else {
                "filter"
            }
            .to_owned(),
            ..iptables(Backend::IptablesNft, 2, Action::RejectWithReset)
        };
        let diagnosis = diagnose(&reset_by(vec![rule]));
        let named = diagnosis.rule.expect("a rule").manager;
        assert_eq!(named.as_deref(), Some(manager));
        assert!(
            diagnosis.verdict.fix[0].starts_with(first),
            "{:?}",
            diagnosis.verdict.fix
        );
        assert!(says(&diagnosis.verdict.because, &format!("{manager}'s")));
    }
    let own = Fitting {
        chain: "DOCKER-USER".to_owned(),
        ..iptables(Backend::IptablesNft, 2, Action::RejectWithReset)
    };
    let rule = diagnose(&reset_by(vec![own])).rule.expect("a rule");
    assert_eq!(rule.manager, None);
}

#[test]
fn a_policy_belongs_to_whom_its_chain_leads_to() {
    let input = Fitting {
        leads_to: vec!["ufw-before-input".to_owned()],
        backend: Backend::IptablesNft,
        ..policy("INPUT")
    };
    let diagnosis = diagnose(&dropped_by(vec![input]));
    assert_eq!(
        diagnosis.rule.expect("a rule").manager.as_deref(),
        Some("ufw")
    );
    assert!(diagnosis.verdict.fix[0].starts_with("ufw allow proto tcp"));
}

#[test]
fn the_rule_that_translated_is_told() {
    let mut case = refused("10.99.1.2:80", OTHER);
    case.attempt.dialled = Some(Endpoint::Inet(address("127.0.0.1:8090")));
    case.attempt.remote = Some(address("127.0.0.1:8090"));
    let to = |to: Option<&str>| Action::Translate {
        to: to.map(address),
    };
    case.host.filterings = vec![Filtering {
        hook: Hook::Output,
        purpose: Purpose::Translated,
        ..filtering(vec![
            fitting(3, to(Some("10.99.1.3:80"))),
            fitting(4, to(Some("10.99.1.2:80"))),
        ])
    }];
    let diagnosis = diagnose(&case);
    assert_eq!(diagnosis.verdict.code, Code::NoListener);
    assert!(
        says(&diagnosis.verdict.because, "rule with handle 4"),
        "{:?}",
        diagnosis.verdict.because
    );
    assert!(!says(&diagnosis.verdict.because, "rule with handle 3"));
}

#[test]
fn a_hostile_name_stays_one_word_of_every_command() {
    let hostile = Fitting {
        table: "x; reboot #".to_owned(),
        ..fitting(5, Action::RejectWithReset)
    };
    let fix = diagnose(&reset_by(vec![hostile])).verdict.fix;
    assert!(
        fix.iter().all(|step| step.contains("'x; reboot #'")),
        "{fix:?}"
    );
}

#[test]
fn the_rules_to_read_are_those_of_the_family() {
    for (dialled, tool) in [("[::1]:9101", "ip6tables"), ("127.0.0.1:9101", "iptables")] {
        let mut case = silent(dialled, 2000);
        case.timeline = vec![observed(
            25,
            drop_of(dialled, OWN, "NETFILTER_DROP", Some(Hook::Input)),
        )];
        let fix = diagnose(&case).verdict.fix;
        assert_eq!(
            fix[..3],
            [
                "nft -a list ruleset",
                &format!("{tool}-save -c"),
                &format!("{tool}-legacy-save -c")
            ]
        );
    }
}

#[test]
fn a_rule_that_has_counted_nothing_is_not_certain_to_have_done_it() {
    let mut case = dropped_by(vec![fitting(5, Action::Drop)]);
    assert_eq!(
        verdict(&diagnose(&case)),
        (Code::FirewallDrop, Confidence::Certain)
    );
    case.host.filterings[0].fitting[0].never_met = true;
    let diagnosis = diagnose(&case);
    assert_eq!(
        verdict(&diagnosis),
        (Code::FirewallDrop, Confidence::Probable)
    );
    assert!(diagnosis.verdict.summary.contains("most likely by"));
    assert!(says(&diagnosis.verdict.missing, "stood at zero"));
}

#[test]
fn an_icmp_error_that_did_not_arrive_is_not_told_as_one_that_the_socket_kept_back() {
    let mut case = silent(TARGET, 2500);
    let sent = icmp_sent(TARGET, OTHER, 3, 3, Some(Hook::Forward));
    case.timeline = vec![observed(25, sent)];
    case.host.filterings = vec![Filtering {
        netns: OTHER,
        hook: Hook::Forward,
        ..filtering(vec![fitting(5, reject(3, 3, false))])
    }];
    let lost = diagnose(&case).verdict;
    assert_eq!(lost.code, Code::FirewallReject);
    assert!(says(&lost.missing, "was not seen to arrive"));
    assert!(!says(&lost.because, "soft"));
}

#[test]
fn the_evidence_says_by_which_means_the_rule_is_known() {
    let mut case = dropped_by(vec![fitting(5, Action::Drop)]);
    let says = |case: &Case, words: &str| {
        let because = diagnose(case).verdict.because;
        because.iter().any(|line| line.contains(words))
    };
    assert!(!says(&case, "the kernel evaluated"));
    case.host.filterings[0].known_by = KnownBy::Kernel;
    assert!(says(&case, "the kernel evaluated this very rule"));
    case.host.filterings[0].fitting = vec![policy("input")];
    case.host.filterings[0].known_by = KnownBy::Silence;
    assert!(says(&case, "the kernel evaluated none of them"));
    assert_eq!(verdict(&diagnose(&case)).1, Confidence::Certain);
}
