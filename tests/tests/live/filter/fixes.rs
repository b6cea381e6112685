//! The first of the commands that are offered lets the same request through.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::process::run;
use whyrefused_tests::ruleset::{iptables, nft};
use whyrefused_tests::scene::{Case, Scene, config_of, refused, timed_out};

use super::{ONCE_REPEATED, both, four, host_with, host_with_nft, listeners, six};

/// Each case fails, its fix is applied, and then it works; what is behind another rule stays
/// refused.
fn are_mended(
    host: &whyrefused_tests::host::Host,
    here: Namespace,
    cases: &[Case],
    refused_still: Option<&Case>,
) -> Result<()> {
    let all: Vec<Case> = cases.iter().chain(refused_still).cloned().collect();
    let mut scene = Scene::filtered(
        host,
        here,
        &[],
        &config_of(&all).connect_timeout(ONCE_REPEATED),
    )?;
    let failures = scene.all_fail(cases)?;
    scene.let_filters_change()?;
    for (case, failure) in cases.iter().zip(failures) {
        let fix = failure.verdict.fix.first().context("no fix")?;
        run(Command::new("sh").args(["-c", fix])).with_context(|| format!("{failure:#?}"))?;
        scene
            .succeeds(&case.name)
            .with_context(|| format!("after {fix}: {failure:#?}"))?;
    }
    if let Some(case) = refused_still {
        ensure!(
            scene.get(&case.name)?.status == 502,
            "the fix opened more than was asked for"
        );
        scene.explained(&case.name, &case.expected)?;
    }
    scene.end().map(drop)
}

#[test]
fn the_fix_of_an_nft_rule_lets_the_request_through() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain ours { tcp dport 27202 drop; }
chain output { type filter hook output priority 0
  tcp dport 27200 reject with tcp reset
  tcp dport 27201 drop
  tcp dport 27202 jump ours
  tcp dport { 27203, 27204 } reject with tcp reset
}
}
table netdev lab {
chain in { type filter hook ingress device lo priority 0
  tcp dport 27205 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let reset = |telling| refused("firewall-reject").by(nft("inet lab output", "output", telling));
    let drop = |place, hook, telling| timed_out("firewall-drop").by(nft(place, hook, telling));
    let cases = [
        four("reset", 27200, &reset("27200")),
        six("drop", 27201, &drop("inet lab output", "output", "27201")),
        four("jump", 27202, &drop("inet lab ours", "output", "27202")),
        four("set", 27203, &reset("27203")),
        four("netdev", 27205, &drop("netdev lab in", "ingress", "27205")),
    ];
    let _backend = listeners(&here, &cases, "127.0.0.1:27204")?;
    here.nft(RULESET)?;
    are_mended(&host, here, &cases, None)
}

#[test]
fn the_fix_of_a_policy_lets_the_request_through() -> Result<()> {
    const RULESET: &str = "table inet lab {
chain input { type filter hook input priority 0; policy drop
  ct state established,related accept
  tcp dport 8080 accept
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let rule = nft("inet lab input", "input", "").policy();
    let cases = both("app", 27220, &timed_out("firewall-drop").by(rule));
    let _backend = listeners(&here, &cases, "127.0.0.1:27229")?;
    here.nft(RULESET)?;
    are_mended(&host, here, &cases, None)
}

#[test]
fn the_fix_of_an_iptables_rule_lets_the_request_through() -> Result<()> {
    let programs = [
        ("iptables-nft", 27240),
        ("ip6tables-nft", 27250),
        ("iptables-legacy", 27260),
        ("ip6tables-legacy", 27270),
    ];
    let names = programs.map(|(program, _)| (program, "iptables"));
    let Some(host) = host_with(&names) else {
        return Ok(());
    };
    for (program, port) in programs {
        let here = Namespace::new()?;
        let on_loopback = if program.starts_with("ip6") {
            six
        } else {
            four
        };
        let rule = |place, telling: &str| iptables(program, place, "input", telling);
        let cases = [
            on_loopback(
                "reset",
                port,
                &refused("firewall-reject").by(rule("filter INPUT", "REJECT")),
            ),
            on_loopback(
                "jump",
                port + 1,
                &timed_out("firewall-drop").by(rule("filter ours", "comment")),
            ),
            on_loopback(
                "policy",
                port + 2,
                &timed_out("firewall-drop").by(rule("filter INPUT", "").policy()),
            ),
        ];
        let _backend = listeners(&here, &cases, &format!("127.0.0.1:{}", port + 9))?;
        here.restore(
            program,
            &format!(
                "*filter
:INPUT DROP [0:0]
:ours - [0:0]
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT
-A INPUT -p tcp -m tcp --dport {port} -j REJECT --reject-with tcp-reset
-A INPUT -p tcp -m tcp --dport {jump} -j ours
-A ours -m comment --comment \"not for 'us' or \\\"them\\\"\" -j DROP
COMMIT
",
                jump = port + 1
            ),
        )?;
        are_mended(&host, here, &cases, None).context(program)?;
    }
    Ok(())
}
