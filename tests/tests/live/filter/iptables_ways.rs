//! The tables, chains, jumps and targets of iptables, for both families and both backends.

use anyhow::{Context, Result};
use whyrefused_tests::ruleset::iptables;
use whyrefused_tests::scene::{Case, refused, reported, timed_out};

use super::iptables::{FOUR, Family, SIX};
use super::{ANSWERED_LATE, ONCE_REPEATED, blocked_here, host_with};

/// Tables, chains, jumps and targets; `port` begins a range of twenty.
fn ways(family: &Family, port: u16) -> (String, Vec<Case>) {
    let rules = format!(
        "*raw
-A PREROUTING -p tcp -m multiport --dports {p0},1:5 -m tcp --sport 1:1023 -j DROP
-A PREROUTING -p tcp -m multiport --dports {p0},1:5 -j DROP
COMMIT
*mangle
-A INPUT -p tcp -m tcp --dport {p1} -j DROP
-A POSTROUTING -o eth0 -p tcp -m tcp --dport {p2} -j DROP
-A POSTROUTING -p tcp -m tcp --dport {p2} -j DROP
COMMIT
*filter
:first - [0:0]
:second - [0:0]
:third - [0:0]
:fourth - [0:0]
-A first -i eth+ -j DROP
-A first -j second
-A second -p tcp -m tcp --dport {p4} -j RETURN
-A second -p tcp -m tcp --dport {p5} -g fourth
-A second -p tcp -m tcp --dport {p3} -j REJECT --reject-with tcp-reset
-A third -m comment --comment nobody -j DROP
-A fourth -p udp -j DROP
-A INPUT -p tcp -m tcp --dport {p3}:{p5} -j first
-A INPUT -p tcp -m tcp --dport {p4}:{p5} -j REJECT --reject-with tcp-reset
-A INPUT -p tcp -m tcp --dport {p6} --sport 1:1023 -j NFQUEUE --queue-num 3
-A INPUT -p tcp -m tcp --dport {p9} -j NFQUEUE --queue-num 3 --queue-bypass
-A INPUT -p tcp -m tcp --dport {p9} -j DROP
-A INPUT -p tcp -m tcp --dport {p6} -j NFQUEUE --queue-num 4
-A INPUT -p tcp -m tcp --sport {p7} --tcp-flags SYN,ACK SYN -j DROP
-A INPUT -p tcp -m tcp --sport {p7} -j DROP
-A INPUT -p tcp -m tcp --dport {p8} -j LOG --log-prefix \"refused \"
-A INPUT -p tcp -m tcp --dport {p8} -j REJECT --reject-with tcp-reset
COMMIT
",
        p0 = port,
        p1 = port + 1,
        p2 = port + 2,
        p3 = port + 3,
        p4 = port + 4,
        p5 = port + 5,
        p6 = port + 6,
        p7 = port + 7,
        p8 = port + 8,
        // A queue that may be bypassed ends the chain, too: it lets through (`nf_hook_slow`).
        p9 = port + 19,
    );
    let at = |place, hook, telling: &str| iptables(family.program, place, hook, telling);
    let dropped = |rule| timed_out("firewall-drop").by(rule);
    let reset = |rule| refused("firewall-reject").by(rule);
    let filter = |telling: &str| at("filter INPUT", "input", telling);
    let cases = vec![
        family.case(
            "raw",
            port,
            dropped(at("raw PREROUTING", "prerouting", "#2")),
        ),
        family.case(
            "mangle",
            port + 1,
            dropped(at("mangle INPUT", "input", "#1")),
        ),
        family.case(
            "leaving",
            port + 2,
            dropped(at("mangle POSTROUTING", "postrouting", "#2")),
        ),
        family.case(
            "jump",
            port + 3,
            reset(at("filter second", "input", "REJECT")),
        ),
        family.case("return", port + 4, reset(filter("#2"))),
        family.case("goto", port + 5, reset(filter("#2"))),
        family.case("queue", port + 6, dropped(filter("--queue-num 4"))),
        family.case(
            "answer",
            port + 7,
            dropped(filter(&format!("--sport {} -j", port + 7))),
        ),
        family.case(
            "log",
            port + 8,
            reset(filter(&format!("{} -j REJECT", port + 8))),
        ),
    ];
    (rules, cases)
}

fn ways_of(family: &Family, port: u16) -> Result<()> {
    let Some(host) = host_with(&[(family.program, "iptables")]) else {
        return Ok(());
    };
    let (rules, cases) = ways(family, port);
    let healthy = family.address(port + 19);
    blocked_here(&host, &healthy, ONCE_REPEATED, &cases, |here| {
        here.restore(family.program, &rules).context("the rules")
    })
}

#[test]
fn tables_and_chains_of_iptables_nft_are_followed() -> Result<()> {
    ways_of(&FOUR.nft(), 26500)
}

#[test]
fn tables_and_chains_of_ip6tables_nft_are_followed() -> Result<()> {
    ways_of(&SIX.nft(), 26520)
}

#[test]
fn tables_and_chains_of_iptables_legacy_are_followed() -> Result<()> {
    ways_of(&FOUR.legacy(), 26540)
}

#[test]
fn tables_and_chains_of_ip6tables_legacy_are_followed() -> Result<()> {
    ways_of(&SIX.legacy(), 26560)
}

/// Rejections by ICMP, which differ between the families.
fn rejections(family: &Family, port: u16, kinds: &[(&str, &'static str)]) -> Result<()> {
    let Some(host) = host_with(&[(family.program, "iptables")]) else {
        return Ok(());
    };
    let mut rules = String::new();
    let mut cases = Vec::new();
    for (port, (kind, errno)) in (port..).zip(kinds) {
        rules += &format!(
            "-A INPUT -p tcp -m tcp --dport {port} -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP
-A INPUT -p tcp -m tcp --dport {port} -j REJECT --reject-with {kind}\n"
        );
        let telling = format!("--dport {port} -j");
        let rule = iptables(family.program, "filter INPUT", "input", &telling);
        let expected = reported("firewall-reject", errno).by(rule);
        cases.push(family.case(kind, port, expected));
    }
    let healthy = family.address(port + 9);
    blocked_here(&host, &healthy, ANSWERED_LATE, &cases, |here| {
        here.restore(family.program, &format!("*filter\n{rules}COMMIT\n"))
    })
}

#[test]
fn every_icmp_error_of_iptables_is_named() -> Result<()> {
    let kinds = [
        ("icmp-net-unreachable", "ENETUNREACH"),
        ("icmp-host-unreachable", "EHOSTUNREACH"),
        ("icmp-proto-unreachable", "ENOPROTOOPT"),
        ("icmp-port-unreachable", "ECONNREFUSED"),
        ("icmp-net-prohibited", "ENETUNREACH"),
        ("icmp-host-prohibited", "EHOSTUNREACH"),
        ("icmp-admin-prohibited", "EHOSTUNREACH"),
    ];
    rejections(&FOUR.nft(), 26600, &kinds)?;
    rejections(&FOUR.legacy(), 26620, &kinds)
}

#[test]
fn every_icmp_error_of_ip6tables_is_named() -> Result<()> {
    let kinds = [
        ("icmp6-no-route", "ENETUNREACH"),
        ("icmp6-adm-prohibited", "EACCES"),
        ("icmp6-addr-unreachable", "EHOSTUNREACH"),
        ("icmp6-port-unreachable", "ECONNREFUSED"),
        ("icmp6-policy-fail", "EACCES"),
        ("icmp6-reject-route", "EACCES"),
    ];
    rejections(&SIX.nft(), 26640, &kinds)?;
    rejections(&SIX.legacy(), 26660, &kinds)
}
