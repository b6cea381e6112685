use super::*;
use crate::host::packet_filter::tests::{chain, filtered, run, table};
use crate::host::packet_filter::{generation, read};
use crate::host::testing::{Sandbox, root_or_skip};

const RULES: &str = "table inet lab {
    set ports { type inet_service; elements = { 80, 81 } }
    chain in {
        type filter hook input priority 0;
        comment \"mine\"
        tcp dport @ports counter packets 7 bytes 9 drop comment \"a # handle 2\"
        ip saddr { 10.0.0.1, 10.0.0.2 } tcp dport 9101 reject with tcp reset
    }
}";

#[test]
fn rules_read_as_nft_prints_them() {
    let Some(sandbox) = filtered(RULES) else {
        return;
    };
    let namespace = sandbox.namespace();
    let ruleset = read(&namespace).unwrap();
    let lab = table(&ruleset, Family::Inet, "lab");
    let input = chain(lab, "in");
    let texts = texts(&namespace, &[(lab, input)]);
    let told: Vec<String> = input
        .rules
        .iter()
        .map(|rule| texts.of(lab, input, rule))
        .collect();
    assert_eq!(
        told,
        [
            "tcp dport @ports counter drop comment \"a # handle 2\"",
            "ip saddr { 10.0.0.1, 10.0.0.2 } tcp dport 9101 reject with tcp reset"
        ]
    );
    assert_eq!(generation(&namespace).unwrap(), ruleset.generation);
}

#[test]
fn a_listing_of_other_rules_is_not_used() {
    let Some(sandbox) = filtered(RULES) else {
        return;
    };
    let namespace = sandbox.namespace();
    let ruleset = read(&namespace).unwrap();
    let lab = table(&ruleset, Family::Inet, "lab");
    let input = chain(lab, "in");
    assert!(run(
        &sandbox,
        "nft",
        "insert rule inet lab in tcp dport 1 drop"
    ));
    assert!(matches!(
        nft_texts(&namespace, lab, input),
        Err(ToolError::Mismatch { .. })
    ));
    let own = Texts::default().of(lab, input, &input.rules[1]);
    assert!(
        own.ends_with("tcp dport 9101 reject with tcp reset"),
        "{own}"
    );
}

/// What a rule of both backends reads as.
const RULE: &str = "INPUT -p tcp -m tcp --dport 80 -m comment --comment \"a -j DROP\" -j REJECT --reject-with tcp-reset";

fn add(sandbox: &Sandbox, program: &'static str) -> bool {
    let added = sandbox.run(move || {
        std::process::Command::new(program)
            .args(["-A", "INPUT", "-p", "tcp", "--dport", "80"])
            .args(["-m", "comment", "--comment", "a -j DROP"])
            .args(["-j", "REJECT", "--reject-with", "tcp-reset"])
            .status()
    });
    added.is_ok_and(|status| status.success())
}

#[test]
fn rules_read_as_iptables_saves_them() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let namespace = sandbox.namespace();
    let variants = [
        ("iptables-nft", Family::Ip, Backend::IptablesNft),
        ("ip6tables-nft", Family::Ip6, Backend::IptablesNft),
        ("iptables-legacy", Family::Ip, Backend::IptablesLegacy),
        ("ip6tables-legacy", Family::Ip6, Backend::IptablesLegacy),
    ];
    for (program, family, backend) in variants {
        if !add(&sandbox, program) {
            println!("skipped: {program} cannot add a rule here");
            continue;
        }
        let texts = iptables_texts(&namespace, family, backend).unwrap();
        let key = ("filter".to_owned(), "INPUT".to_owned());
        assert_eq!(texts[&key], [format!("-A {RULE}")], "{program}");
    }
    let ruleset = read(&namespace).unwrap();
    let filter = table(&ruleset, Family::Ip, "filter");
    let input = chain(filter, "INPUT");
    let texts = texts(&namespace, &[(filter, input)]);
    assert_eq!(
        texts.of(filter, input, &input.rules[0]),
        format!("-A {RULE}")
    );
}

#[test]
fn asking_the_tools_makes_no_tables() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let namespace = sandbox.namespace();
    let before = generation(&namespace).unwrap();
    for family in [Family::Ip, Family::Ip6, Family::Arp, Family::Bridge] {
        for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
            let texts = iptables_texts(&namespace, family, backend);
            assert!(texts.unwrap_or_default().is_empty());
        }
    }
    assert_eq!(generation(&namespace).unwrap(), before);
    let names = sandbox.run(|| std::fs::read("/proc/thread-self/net/ip_tables_names"));
    assert_eq!(names.unwrap_or_default(), b"");
}

#[test]
fn a_tool_that_hangs_or_is_absent_is_an_error() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let namespace = sandbox.namespace();
    assert!(matches!(
        tool::run(&namespace, "sleep", &["100"]),
        Err(ToolError::Hangs { .. })
    ));
    assert!(matches!(
        tool::run(&namespace, "yes", &[]),
        Err(ToolError::TooMuch { .. })
    ));
    assert!(matches!(
        tool::run(&namespace, "no-such-tool", &[]),
        Err(ToolError::Start { .. })
    ));
    assert!(matches!(
        tool::run(&namespace, "false", &[]),
        Err(ToolError::Failed { .. })
    ));
}
