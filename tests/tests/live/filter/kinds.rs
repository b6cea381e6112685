//! Every kind of rejection, the policy of a chain, and a queue that nobody reads.

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::queue_reader::QueueReader;
use whyrefused_tests::ruleset::{iptables, nft};
use whyrefused_tests::scene::{Case, Scene, refused, reported, timed_out};

use super::{
    ANSWERED_LATE, ONCE_REPEATED, blocked_here, both, four, host_with, host_with_nft, six,
};

/// What nginx reads after each kind: `icmp_err_convert`.
const KINDS: [(&str, &str); 7] = [
    ("port-unreachable", "ECONNREFUSED"),
    ("host-unreachable", "EHOSTUNREACH"),
    ("net-unreachable", "ENETUNREACH"),
    ("prot-unreachable", "ENOPROTOOPT"),
    ("net-prohibited", "ENETUNREACH"),
    ("host-prohibited", "EHOSTUNREACH"),
    ("admin-prohibited", "EHOSTUNREACH"),
];

/// The same: `tab_unreach`.
const KINDS_SIX: [(&str, &str); 6] = [
    ("no-route", "ENETUNREACH"),
    ("admin-prohibited", "EACCES"),
    ("addr-unreachable", "EHOSTUNREACH"),
    ("port-unreachable", "ECONNREFUSED"),
    ("policy-fail", "EACCES"),
    ("reject-route", "EACCES"),
];

#[test]
fn every_icmp_error_of_a_rule_is_named() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let mut rules = String::new();
    let mut cases: Vec<Case> = Vec::new();
    for (port, (kind, errno)) in (26100..).zip(KINDS) {
        rules += &format!(
            "ip daddr != 127.0.0.0/8 tcp dport {port} reject with icmp {kind}
ip protocol tcp tcp dport {port} reject with icmp {kind}\n"
        );
        let telling = format!("<ip protocol tcp tcp dport {port} reject with icmp {kind}>");
        let expected = reported("firewall-reject", errno);
        let rule = nft("inet lab input", "input", &telling);
        cases.push(four(kind, port, &expected.by(rule)));
    }
    for (port, (kind, errno)) in (26110..).zip(KINDS_SIX) {
        rules += &format!(
            "ip6 saddr fe80::/10 tcp dport {port} reject with icmpv6 {kind}
ip6 saddr ::1 tcp dport {port} reject with icmpv6 {kind}\n"
        );
        let telling = format!("saddr ::1 tcp dport {port}");
        let expected = reported("firewall-reject", errno);
        let rule = nft("inet lab input", "input", &telling);
        cases.push(six(kind, port, &expected.by(rule)));
    }
    let ruleset = format!(
        "table inet lab {{\nchain input {{\ntype filter hook input priority 0\n{rules}}}\n}}"
    );
    blocked_here(&host, "[::1]:26119", ANSWERED_LATE, &cases, |here| {
        here.nft(&ruleset)
    })
}

#[test]
fn an_icmp_error_for_either_family_is_named() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain output { type filter hook output priority 0
  tcp dport 26120 reject
  tcp dport 26121 reject with icmpx no-route
  tcp dport 26122 reject with icmpx host-unreachable
  tcp dport 26123 reject with icmpx admin-prohibited
}
chain early { type filter hook output priority -1
  tcp dport 26120-26123 tcp dport != 26120-26123 reject
  accept
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let mut cases = Vec::new();
    for (name, port, at_four, at_six) in [
        ("plain", 26120, "ECONNREFUSED", "ECONNREFUSED"),
        ("no-route", 26121, "ENETUNREACH", "ENETUNREACH"),
        ("host", 26122, "EHOSTUNREACH", "EHOSTUNREACH"),
        ("admin", 26123, "EHOSTUNREACH", "EACCES"),
    ] {
        let rule = nft("inet lab output", "output", &port.to_string());
        let expected = |errno| reported("firewall-reject", errno).by(rule.clone());
        cases.push(four(name, port, &expected(at_four)));
        cases.push(six(name, port, &expected(at_six)));
    }
    blocked_here(&host, "127.0.0.1:26129", ANSWERED_LATE, &cases, |here| {
        here.nft(RULESET)
    })
}

#[test]
fn the_policy_of_a_chain_is_named() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain input { type filter hook input priority 0; policy drop
  tcp dport { 8080, 26139 } accept
  tcp sport { 8080, 26139 } accept
  tcp dport 26130 ip daddr 127.0.0.2 accept
  tcp dport 26131 jump maybe
}
chain maybe {
  ip saddr 10.0.0.0/8 accept
  return
}
}
table ip later {
chain input { type filter hook input priority 5
  tcp dport 26130 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let rule = nft("inet lab input", "input", "").policy();
    let expected = timed_out("firewall-drop").by(rule);
    let cases = [
        both("plain", 26130, &expected),
        both("after-a-jump", 26131, &expected),
    ]
    .concat();
    blocked_here(&host, "127.0.0.1:26139", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

#[test]
fn the_policy_of_a_chain_of_iptables_is_named() -> Result<()> {
    let programs = ["iptables-nft", "iptables-legacy"].map(|name| (name, "iptables"));
    let Some(host) = host_with(&programs) else {
        return Ok(());
    };
    for (program, port) in [("iptables-nft", 26140), ("iptables-legacy", 26150)] {
        let healthy = format!("127.0.0.1:{}", port + 9);
        let rule = iptables(program, "filter INPUT", "input", "").policy();
        let cases = [four("app", port, &timed_out("firewall-drop").by(rule))];
        blocked_here(&host, &healthy, ONCE_REPEATED, &cases, |here| {
            here.restore(
                program,
                &format!(
                    "*filter
:INPUT DROP [0:0]
-A INPUT -d 127.0.0.2/32 -p tcp -m tcp --dport {port} -j ACCEPT
-A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT
-A INPUT -p tcp -m tcp --sport 8080 -j ACCEPT
-A INPUT -p tcp -m tcp --dport {p9} -j ACCEPT
-A INPUT -p tcp -m tcp --sport {p9} -j ACCEPT
COMMIT
",
                    p9 = port + 9
                ),
            )
        })?;
    }
    Ok(())
}

#[test]
fn a_queue_of_iptables_that_nobody_reads_is_named_with_what_helps() -> Result<()> {
    for (program, port) in [
        ("iptables-nft", 26170),
        ("iptables-legacy", 26173),
        ("ip6tables-nft", 26176),
        ("ip6tables-legacy", 26179),
    ] {
        let Some(host) = host_with(&[(program, "iptables")]) else {
            return Ok(());
        };
        let address = match program.starts_with("ip6") {
            true => format!("[::1]:{port}"),
            false => format!("127.0.0.1:{port}"),
        };
        let here = Namespace::new()?;
        let _backend = Backend::listen(&here, &address)?;
        here.restore(
            program,
            &format!(
                "*filter
-A INPUT -p tcp -m tcp --dport {} -j NFQUEUE --queue-num 2
-A INPUT -p tcp -m tcp --dport {port} -j NFQUEUE --queue-num 3
COMMIT
",
                port + 1
            ),
        )?;
        let config = Config::passing(&[("app", &address)]).connect_timeout(ONCE_REPEATED);
        let mut scene = Scene::new(&host, here, &config)?;
        let failure = scene.fails("app", &timed_out("firewall-drop"))?;
        let rule = failure.rule.as_ref().context("no rule")?;
        let fixes = failure.verdict.fix.join("\n");
        ensure!(
            rule.action == "queue to 3" && rule.text.contains("--queue-num 3"),
            "{failure:#?}"
        );
        ensure!(
            fixes.contains("start the program that reads queue 3")
                && fixes.contains("--queue-bypass"),
            "{failure:#?}"
        );
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_queue_whose_reader_drops_is_named() -> Result<()> {
    const RULES: &str = "*filter
-A INPUT -p tcp -m tcp --dport 26191 -j NFQUEUE --queue-num 8
-A INPUT -p tcp -m tcp --dport 26190 -j NFQUEUE --queue-num 9
COMMIT
";
    const APP: &str = "127.0.0.1:26190";
    let Some(host) = host_with(&[("iptables-nft", "iptables")]) else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, APP)?;
    here.restore("iptables-nft", RULES)?;
    let _reader = QueueReader::start(&here, 9)?;
    let config = Config::passing(&[("app", APP)]).connect_timeout(ONCE_REPEATED);
    let mut scene = Scene::new(&host, here, &config)?;
    let failure = scene.fails("app", &timed_out("firewall-drop"))?;
    let rule = failure.rule.as_ref().context("no rule")?;
    ensure!(rule.action == "queue to 9", "{failure:#?}");
    ensure!(
        failure.verdict.summary.contains("which had it dropped"),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn two_rules_that_differ_by_the_family_alone_are_told_apart() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain input { type filter hook input priority 0
  meta nfproto ipv4 tcp dport 26160 reject with tcp reset
  meta nfproto ipv6 tcp dport 26160 reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    // nft lists both with the same words.
    let rule = |place| nft("inet lab input", "input", place);
    let cases = [
        four("app", 26160, &refused("firewall-reject").by(rule("#1"))),
        six("app", 26160, &refused("firewall-reject").by(rule("#2"))),
    ];
    blocked_here(&host, "127.0.0.1:26169", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}
