//! Several rules that fit: the first that the packet meets did it, counters decide where the
//! rules alone do not, and where nothing decides all of them are told.

use anyhow::{Context, Result, ensure};
use whyrefused_tests::contract::Failure;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::ruleset::{iptables, nft};
use whyrefused_tests::scene::{Scene, case, config_of, refused, timed_out};

use super::{ONCE_REPEATED, blocked_here, both, four, host_with, host_with_nft, listeners};

#[test]
fn the_first_of_several_tables_is_named() -> Result<()> {
    // Loaded last first: the priority counts.
    const RULESET: &str = "
table inet late { chain input { type filter hook input priority 10
  tcp dport { 26800, 26801, 26802 } drop
}
}
table ip middle { chain input { type filter hook input priority 5
  tcp dport { 26800, 26801 } counter reject with tcp reset
}
}
table ip6 middle { chain input { type filter hook input priority 5
  tcp dport { 26800, 26801 } counter reject with tcp reset
}
}
table inet early { chain input { type filter hook input priority -10
  tcp dport 26801 accept
  tcp dport 26800 reject with tcp reset
  tcp dport 26800 drop
}
}
table inet dormant { flags dormant
chain input { type filter hook input priority -100
  tcp dport { 26800, 26801, 26802, 26809 } drop
}
}
";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let reset = |place| refused("firewall-reject").by(nft(place, "input", "reject"));
    let late = timed_out("firewall-drop").by(nft("inet late input", "input", "drop"));
    let mut cases = both("early", 26800, &reset("inet early input")).to_vec();
    cases.push(four("middle", 26801, &reset("ip middle input")));
    cases.push(super::six("middle", 26801, &reset("ip6 middle input")));
    cases.extend(both("late", 26802, &late));
    blocked_here(&host, "127.0.0.1:26809", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

#[test]
fn the_first_of_several_backends_is_named() -> Result<()> {
    const NFT: &str = "
table inet early { chain input { type filter hook input priority -10
  tcp dport 26810 reject with tcp reset
}
}
table inet late { chain input { type filter hook input priority 10
  tcp dport { 26810, 26811 } reject with tcp reset
}
}";
    let programs = [
        ("nft", "nftables"),
        ("iptables-legacy", "iptables"),
        ("iptables-nft", "iptables"),
    ];
    let Some(host) = host_with(&programs) else {
        return Ok(());
    };
    let reset = |rule| refused("firewall-reject").by(rule);
    let of = |program| iptables(program, "filter INPUT", "input", "REJECT");
    let cases = [
        four(
            "nft",
            26810,
            &reset(nft("inet early input", "input", "reject")),
        ),
        four("legacy", 26811, &reset(of("iptables-legacy"))),
        four("iptables-nft", 26812, &reset(of("iptables-nft"))),
    ];
    blocked_here(&host, "127.0.0.1:26819", ONCE_REPEATED, &cases, |here| {
        here.nft(NFT)?;
        for (program, ports) in [
            ("iptables-legacy", "26810:26811"),
            ("iptables-nft", "26812"),
        ] {
            here.restore(
                program,
                &format!(
                    "*filter
-A INPUT -p udp -m udp --dport {ports} -j DROP
-A INPUT -p tcp -m tcp --dport {ports} -j REJECT --reject-with tcp-reset
COMMIT
"
                ),
            )?;
        }
        Ok(())
    })
}

/// Nobody can know which processor a packet met, so the counters must tell.
#[test]
fn counters_decide_between_rules_that_fit() -> Result<()> {
    const RULESET: &str = "table inet lab { chain output { type filter hook output priority 0
  tcp dport 26820 meta cpu 4000 counter reject with tcp reset
  tcp dport 26820 counter reject with tcp reset
  tcp dport 26821 meta cpu != 4000 counter reject with tcp reset
  tcp dport 26821 counter reject with tcp reset
  tcp dport 26822 meta cpu 4000 counter packets 7 bytes 420 reject with tcp reset
  tcp dport 26822 meta cpu != 4000 counter packets 9 bytes 540 reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let reset = |telling| {
        let rule = nft("inet lab output", "output", telling);
        refused("firewall-reject").by(rule)
    };
    let cases = [
        both("second", 26820, &reset("26820 counter")),
        both("first", 26821, &reset("26821 meta cpu")),
    ]
    .concat();
    blocked_here(&host, "127.0.0.1:26829", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

/// A SYN that is kept from connection tracking makes the answer to it invalid, not established.
#[test]
fn an_answer_that_connection_tracking_does_not_know_is_not_taken_for_its_own() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain output { type filter hook output priority raw
  tcp dport 26860 notrack
}
chain input { type filter hook input priority 0
  tcp sport 26860 ct state invalid counter drop
  tcp sport 26860 counter drop
  tcp sport 26861 ct state invalid counter drop
  tcp sport 26861 counter drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let dropped = |telling| timed_out("firewall-drop").by(nft("inet lab input", "input", telling));
    let cases = [
        both("unknown", 26860, &dropped("26860 ct state invalid")),
        both("known", 26861, &dropped("26861 counter")),
    ]
    .concat();
    blocked_here(&host, "127.0.0.1:26869", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

/// The counters stand at other numbers than zero when they are read for the first time; from
/// the second failure on their difference tells.
#[test]
fn counters_that_moved_decide_from_the_second_failure_on() -> Result<()> {
    const RULESET: &str = "table inet lab { chain output { type filter hook output priority 0
  tcp dport 26830 numgen inc mod 2 == 0 counter packets 7 bytes 420 reject with tcp reset
  tcp dport 26830 counter packets 9 bytes 540 reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let rule = |telling| nft("inet lab output", "output", telling);
    let cases = [case(
        "app",
        "127.0.0.1:26830",
        refused("firewall-reject").by(rule("numgen").or(1)),
    )];
    let _backend = listeners(&here, &cases, "127.0.0.1:26839")?;
    here.nft(RULESET)?;
    let mut scene = Scene::filtered(&host, here, &[], &config_of(&cases))?;
    scene.all_fail(&cases)?;
    let mut told = Vec::new();
    for _ in 0..4 {
        let failure = scene.fails("app", &refused("firewall-reject"))?;
        ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
        told.push(handle(&failure)?);
    }
    // The kernel takes turns.
    ensure!(
        told[0] != told[1] && told[0] == told[2] && told[1] == told[3],
        "{told:?}"
    );
    scene.end().map(drop)
}

fn handle(failure: &Failure) -> Result<u64> {
    let rule = failure.rule.as_ref().context("no rule")?;
    rule.handle.context("no handle")
}

#[test]
fn rules_between_which_nothing_decides_are_all_told() -> Result<()> {
    const RULESET: &str = "table inet lab { chain output { type filter hook output priority 0
  tcp dport 26840 meta cpu 4001 reject with tcp reset
  tcp dport 26840 meta cpu 4000 reject with tcp reset
  tcp dport 26840 reject with tcp reset
  tcp dport 26841 meta cpu != 4000 drop
  tcp dport 26841 reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let rule = |telling| nft("inet lab output", "output", telling);
    let cases = [
        both(
            "three",
            26840,
            &refused("firewall-reject").by(rule("26840 reject").or(2)),
        )
        .to_vec(),
        // A reset came, or none did: that decides between a rejection and a drop.
        both(
            "drop",
            26841,
            &timed_out("firewall-drop").by(rule("26841 meta")),
        )
        .to_vec(),
    ]
    .concat();
    blocked_here(&host, "127.0.0.1:26849", ONCE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

#[test]
fn a_limit_that_lets_some_through_is_named_when_it_does_not() -> Result<()> {
    const RULESET: &str = "table inet lab { chain input { type filter hook input priority 0
  tcp dport 26850 tcp flags syn / syn,ack limit rate over 1/hour burst 1 packets reject with tcp reset
  tcp dport 26851 tcp flags syn / syn,ack limit rate 1/hour burst 1 packets accept
  tcp dport 26851 tcp flags syn / syn,ack reject with tcp reset
  tcp dport 26852 tcp flags syn / syn,ack meter held { ip saddr limit rate over 1/hour burst 1 packets } reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let rule = |telling| refused("firewall-reject").by(nft("inet lab input", "input", telling));
    let cases = [
        four("over", 26850, &rule("26850")),
        four("within", 26851, &rule("26851*syn,ack reject")),
        four("each", 26852, &rule("26852")),
    ];
    let _backend = listeners(&here, &cases, "127.0.0.1:26859")?;
    here.nft(RULESET)?;
    let mut scene = Scene::filtered(&host, here, &[], &config_of(&cases))?;
    for case in &cases {
        scene.succeeds(&case.name)?;
    }
    scene.all_fail(&cases)?;
    scene.end().map(drop)
}
