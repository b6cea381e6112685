//! Rules that nothing known of a packet tells apart: where the kernel is seen to evaluate rules,
//! the one that it evaluated is named for certain, elsewhere all of them are.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::process::Process;
use whyrefused_tests::ruleset::{Apart, nft};
use whyrefused_tests::scene::{Expected, Scene, config_of, refused, timed_out};

use super::{blocked_here, both, four, host_with, host_with_nft, listeners, six};

/// Long enough for the SYN that is sent again after three seconds: by the one after the first
/// second an emulated machine may not have attached the probe yet.
const TWICE_REPEATED: &str = "3400ms";

#[test]
fn rules_that_reject_are_told_apart() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain output { type filter hook output priority 0
  tcp dport 28000 meta cpu 4001 reject with tcp reset
  tcp dport 28000 meta cpu != 4001 reject with tcp reset
  tcp dport 28000 reject with tcp reset
  tcp dport 28001 jump deep
}
chain deep {
  tcp dport 28001 meta cpu 4001 goto deeper
  tcp dport 28001 meta cpu != 4001 jump deeper
}
chain deeper {
  meta cpu 4001 reject with tcp reset
  ip daddr { 127.0.0.0/8, 10.0.0.0/8 } tcp sport 1-65535 meta cpu != { 4001, 4002 } reject with tcp reset
  ip6 daddr ::1 tcp sport 1-65535 meta cpu != { 4001, 4002 } reject with tcp reset
}
}
table ip lab { chain output { type filter hook output priority 5
  tcp dport 28002 meta cpu 4001 reject with tcp reset
  tcp dport 28002 reject with tcp reset
}
}
table ip6 lab { chain output { type filter hook output priority 5
  tcp dport 28002 meta cpu 4001 reject with tcp reset
  tcp dport 28002 reject with tcp reset
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let rule = |place: &str, telling: &str, others| {
        refused("firewall-reject").by(nft(place, "output", telling).or(others))
    };
    let mut cases = both("row", 28000, &rule("inet lab output", "!= 4001", 2)).to_vec();
    cases.push(four("deep", 28001, &rule("inet lab deeper", "ip daddr", 1)));
    cases.push(six("deep", 28001, &rule("inet lab deeper", "ip6 daddr", 1)));
    cases.push(four("own", 28002, &rule("ip lab output", "#2", 1)));
    cases.push(six("own", 28002, &rule("ip6 lab output", "#2", 1)));
    blocked_here(&host, "127.0.0.1:28009", TWICE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

/// The first packet of each finds the probe not attached yet, the repeated one does.
#[test]
fn rules_that_drop_are_told_apart() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain input { type filter hook input priority 0
  ct state established accept
  tcp dport 28010 meta cpu 4001 drop
  tcp dport 28010 meta cpu != 4001 drop
  tcp dport 28010 drop
  tcp dport 28011 tcp flags syn / syn,ack meta cpu 4001 accept
  tcp dport 28011 meta cpu 4002 drop
}
chain last { type filter hook input priority 10
  tcp dport 28011 counter packets 7 bytes 420 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let rule = |chain: &str, telling: &str, others| {
        let place = format!("inet lab {chain}");
        timed_out("firewall-drop").by(nft(&place, "input", telling).or(others))
    };
    let cases = [
        both("row", 28010, &rule("input", "!= 4001", 2)),
        both("chains", 28011, &rule("last", "28011", 1)),
    ]
    .concat();
    blocked_here(&host, "127.0.0.1:28019", TWICE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

/// Each table counts its handles by itself.
#[test]
fn tables_that_are_the_same_but_for_their_names_are_told_apart() -> Result<()> {
    let table = |name: &str, priority: u32, condition: &str| {
        format!(
            "table inet {name} {{ chain input {{ type filter hook input priority {priority}
  tcp dport 28020 meta cpu {condition} drop
  tcp dport 28021 meta cpu {condition} reject with tcp reset
}}
}}
"
        )
    };
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let ruleset = [
        table("one", 0, "4001"),
        table("two", 5, "!= 4001"),
        table("three", 10, "4002"),
    ]
    .concat();
    let by = |expected: Expected| {
        let telling = if expected.code == "firewall-drop" {
            "28020"
        } else {
            "28021"
        };
        let rule = nft("inet two input", "input", telling).or(2);
        expected.by(rule.told(Apart::ByOwner))
    };
    let cases = [
        both("dropped", 28020, &by(timed_out("firewall-drop"))),
        both("rejected", 28021, &by(refused("firewall-reject"))),
    ]
    .concat();
    blocked_here(&host, "127.0.0.1:28029", TWICE_REPEATED, &cases, |here| {
        here.nft(&ruleset)
    })
}

/// None of the rules that drop was evaluated to its end.
#[test]
fn a_policy_is_told_from_rules_that_may_have_dropped() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain input { type filter hook input priority 0; policy drop;
  tcp dport != 28030 accept
  tcp dport 28030 meta cpu 4001 drop
  tcp dport 28030 meta cpu 4002 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let policy = nft("inet lab input", "input", "").policy().or(2);
    let expected = timed_out("firewall-drop").by(policy);
    let cases = both("app", 28030, &expected);
    blocked_here(&host, "127.0.0.1:28039", TWICE_REPEATED, &cases, |here| {
        here.nft(RULESET)
    })
}

/// A verdict out of a map is none that a function of its own gives: the policy is not concluded.
#[test]
fn a_map_of_verdicts_is_not_taken_for_a_policy() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain input { type filter hook input priority 0; policy drop;
  tcp dport != 28040 accept
  tcp dport 28040 meta cpu vmap { 4001 : accept, 0-4000 : drop }
  tcp dport 28040 meta cpu 4002 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let cases = [four("app", 28040, &timed_out("firewall-drop"))];
    let _backend = listeners(&here, &cases, "127.0.0.1:28049")?;
    here.nft(RULESET)?;
    let config = config_of(&cases).connect_timeout(TWICE_REPEATED);
    let mut scene = Scene::filtered(&host, here, &[], &config)?;
    let failure = scene.fails(&cases[0].name, &cases[0].expected)?;
    let rule = failure.rule.context("no rule")?;
    let mut all = [&rule].into_iter().chain(&rule.alternatives);
    ensure!(
        all.clone().any(|rule| rule.policy) && all.any(|rule| rule.text.contains("vmap")),
        "{rule:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn rules_of_iptables_that_reject_are_told_apart() -> Result<()> {
    const RULES: &str = "*filter
:deep - [0:0]
-A OUTPUT -p tcp -m tcp --dport 28050 -m limit --limit 1/hour --limit-burst 1 -j REJECT --reject-with tcp-reset
-A OUTPUT -p tcp -m tcp --dport 28050 -j deep
-A OUTPUT -p tcp -m tcp --dport 28050 -j REJECT --reject-with tcp-reset
-A deep -p tcp -m limit --limit 1/hour --limit-burst 1 -j REJECT --reject-with tcp-reset
-A deep -p tcp -j REJECT --reject-with tcp-reset
COMMIT
";
    for (program, address) in [
        ("iptables-nft", "127.0.0.1:28050"),
        ("ip6tables-nft", "[::1]:28050"),
        ("iptables-legacy", "127.0.0.1:28050"),
        ("ip6tables-legacy", "[::1]:28050"),
    ] {
        let Some(host) = host_with(&[(program, "iptables")]) else {
            return Ok(());
        };
        let here = Namespace::new()?;
        let case = whyrefused_tests::scene::case("app", address, refused("firewall-reject"));
        let cases = [case.clone()];
        let _backend = listeners(&here, &cases, "127.0.0.1:28059")?;
        here.restore(program, RULES)?;
        let mut scene = Scene::filtered(&host, here, &[], &config_of(&cases))?;
        let mut told = Vec::new();
        for _ in 0..3 {
            let failure = scene.fails("app", &case.expected)?;
            let because = failure.verdict.because.join("\n");
            ensure!(
                !scene.tracer.sees_rules()
                    || because.contains("the kernel evaluated this very rule"),
                "{program}: {because}"
            );
            let rule = failure.rule.context("no rule")?;
            told.push((rule.chain, failure.verdict.confidence));
        }
        let places =
            ["OUTPUT", "deep", "deep"].map(|chain| (chain.to_owned(), "certain".to_owned()));
        ensure!(told == places, "{program}: {told:?}");
        scene.end().context(program)?;
    }
    Ok(())
}

/// The kernel's own trace is the witness.
#[test]
fn the_kernel_s_trace_tells_the_same_rule() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain trace { type filter hook output priority -300
  tcp dport { 28060, 28061 } meta nftrace set 1
}
chain output { type filter hook output priority 0
  tcp dport 28060 numgen random mod 2 == 0 reject with tcp reset comment \"one\"
  tcp dport 28060 numgen random mod 2 == 0 reject with tcp reset comment \"two\"
  tcp dport 28060 reject with tcp reset comment \"three\"
  tcp dport 28061 jhash tcp sport mod 2 == 0 drop comment \"four\"
  tcp dport 28061 drop comment \"five\"
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let cases = [
        four("rejected", 28060, &refused("firewall-reject")),
        four("dropped", 28061, &timed_out("firewall-drop")),
    ];
    let _backend = listeners(&here, &cases, "127.0.0.1:28069")?;
    here.nft(RULESET)?;
    let mut monitor = here.command("nft");
    monitor.args(["monitor", "trace"]).stdout(Stdio::piped());
    let mut monitor = Process::start(&mut monitor)?;
    let output = monitor.child().stdout.take().context("no output")?;
    let mut witness = BufReader::new(output).lines();
    let config = config_of(&cases).connect_timeout(TWICE_REPEATED);
    let mut scene = Scene::filtered(&host, here, &[], &config)?;
    let sees_rules = scene.tracer.sees_rules();
    for case in [&cases[0], &cases[0], &cases[0], &cases[0], &cases[1]] {
        let failure = scene.fails(&case.name, &case.expected)?;
        let ended = ending(&mut witness)?;
        if !sees_rules {
            continue;
        }
        let rule = failure.rule.context("no rule")?;
        let comment = rule.comment.context("no comment")?;
        ensure!(
            ended.contains(&format!("{comment:?}")),
            "{ended} is not {rule:?}",
            rule = rule.text
        );
        ensure!(failure.verdict.confidence == "certain" && rule.alternatives.is_empty());
    }
    scene.end().map(drop)
}

/// The next line of the trace that tells where a packet ended.
fn ending(witness: &mut impl Iterator<Item = std::io::Result<String>>) -> Result<String> {
    loop {
        let line = witness.next().context("the trace ended")??;
        if line.contains("(verdict drop)") || line.contains(" rule ") && line.contains(" reject ") {
            return Ok(line);
        }
    }
}
