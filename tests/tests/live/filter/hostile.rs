//! Rules whose words were chosen to do harm, and a host that lacks the programs which list rules.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::host::{Host, program};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Nginx;
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::process::Process;
use whyrefused_tests::ruleset::{iptables, nft};
use whyrefused_tests::scene::{Scene, config_of, refused, timed_out};
use whyrefused_tests::scratch;
use whyrefused_tests::tracer::Tracer;

use super::{ONCE_REPEATED, four, host_with, listeners};

/// An escape sequence, a bell, a carriage return, text that runs from right to left, quotes and
/// what a shell would run.
const COMMENT: &str =
    "\u{1b}[31mred\u{1b}]0;title\u{7}\r \u{202e}txet ünï 'a' $(reboot) `id` %s {}";

fn hostile_rules(here: &Namespace) -> Result<()> {
    here.nft(&format!(
        "table inet lab {{
chain output {{ type filter hook output priority 0
  tcp dport 27400 drop comment \"{COMMENT}\"
}}
}}"
    ))?;
    here.restore(
        "iptables-legacy",
        &format!(
            "*filter
:a\u{1b}[31m;$(id) - [0:0]
-A OUTPUT -p tcp -m tcp --dport 27401 -j a\u{1b}[31m;$(id)
-A a\u{1b}[31m;$(id) -p tcp -m comment --comment \"{COMMENT} \\\"b\\\" \\\\\" -j REJECT --reject-with tcp-reset
COMMIT
"
        ),
    )
}

/// Nothing that a terminal obeys, and nothing that turns text around.
fn is_harmless(text: &str) -> bool {
    text.chars()
        .all(|character| !character.is_control() && !('\u{202a}'..='\u{202e}').contains(&character))
}

#[test]
fn words_of_rules_do_no_harm() -> Result<()> {
    let Some(host) = host_with(&[("nft", "nftables"), ("iptables-legacy", "iptables")]) else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let cases = [
        four("nft", 27400, &timed_out("firewall-drop")),
        four("legacy", 27401, &refused("firewall-reject")),
    ];
    let _backend = listeners(&here, &cases, "127.0.0.1:27409")?;
    hostile_rules(&here)?;
    let config = config_of(&cases).connect_timeout(ONCE_REPEATED);
    let mut scene = Scene::filtered(&host, here, &[], &config)?;
    let directory = scratch::directory("hostile-")?;
    let path = directory.path().join("output");
    let pid = scene.nginx.pid().to_string();
    let mut command = Command::new(&host.whyrefused);
    command
        .args([
            "trace",
            "--format",
            "human",
            "--coalesce",
            "0",
            "--pid",
            &pid,
        ])
        .stdout(File::create(&path)?);
    let mut human = Process::start(&mut command)?;
    wait_for("the tool to attach", SOON, || {
        Ok((fs::metadata(&path)?.len() > 0).then_some(()))
    })?;
    for failure in scene.all_fail(&cases)? {
        // The rule's own text is as its owner has it: JSON escapes what a terminal obeys.
        ensure!(failure.rule.is_some(), "{failure:#?}");
        ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
        let verdict = &failure.verdict;
        let said = [&verdict.because[..], &verdict.fix, &verdict.missing].concat();
        ensure!(
            is_harmless(&said.join("")) && is_harmless(&verdict.summary),
            "{failure:#?}"
        );
    }
    wait_for("both explanations", SOON, || {
        let text = fs::read_to_string(&path)?;
        Ok((text.contains("27400") && text.contains("27401")).then_some(()))
    })?;
    human.signal(Signal::SIGINT)?;
    ensure!(human.wait(SOON)?.code() == Some(0));
    let text = fs::read_to_string(&path)?;
    ensure!(is_harmless(&text.replace('\n', "")), "{text:?}");
    scene.end().map(drop)
}

/// A whyrefused for which the host has no program that lists rules.
fn without_listing(host: &Host, directory: &std::path::Path) -> Result<Host> {
    let script = directory.join("whyrefused");
    let hidden: Vec<String> = [
        "nft",
        "iptables-nft-save",
        "iptables-legacy-save",
        "iptables-save",
    ]
    .iter()
    .filter_map(|name| program(name, "").ok()?.canonicalize().ok())
    .map(|path| format!("mount --bind /dev/null {}", path.display()))
    .collect();
    fs::write(
        &script,
        format!(
            "#!/bin/sh\nexec unshare -m sh -c '{}\nexec \"$0\" \"$@\"' {} \"$@\"\n",
            hidden.join("\n"),
            host.whyrefused.display()
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(Host {
        whyrefused: script,
        ..host.clone()
    })
}

#[test]
fn a_host_without_the_programs_that_list_rules_still_names_them() -> Result<()> {
    let programs = [
        ("nft", "nftables"),
        ("iptables-legacy", "iptables"),
        ("iptables-nft", "iptables"),
    ];
    let Some(host) = host_with(&programs) else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let reset = |rule| refused("firewall-reject").by(rule);
    let of = |program, port| iptables(program, "filter OUTPUT", "output", port).reworded();
    let cases = [
        four(
            "nft",
            27420,
            &reset(nft("inet lab output", "output", "27420 reject").reworded()),
        ),
        four("legacy", 27421, &reset(of("iptables-legacy", "27421"))),
        four("xtables", 27422, &reset(of("iptables-nft", "27422"))),
    ];
    let _backend = listeners(&here, &cases, "127.0.0.1:27429")?;
    here.nft(
        "table inet lab {
chain output { type filter hook output priority -1
  tcp dport 27420 tcp sport 1-1023 drop
  tcp dport 27420 reject with tcp reset
}
}",
    )?;
    for (program, port) in [("iptables-legacy", 27421), ("iptables-nft", 27422)] {
        here.restore(
            program,
            &format!("*filter\n-A OUTPUT -p tcp -m tcp --dport {port} -j REJECT --reject-with tcp-reset\nCOMMIT\n"),
        )?;
    }
    let directory = scratch::directory("bare-")?;
    let bare = without_listing(&host, directory.path())?;
    let nginx = Nginx::start(&host, &here, &config_of(&cases))?;
    let tracer = Tracer::watch(&bare, nginx.pid())?;
    let mut scene = Scene::of(&host, here, nginx, tracer);
    scene.let_no_filter_change(&[])?;
    scene.all_fail(&cases)?;
    scene.end().map(drop)
}
