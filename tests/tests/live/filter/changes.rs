//! Rules that come, change and go while nginx is watched: what is named is what stood when the
//! packet was stopped.

use std::process::Command;

use anyhow::{Context, Result};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::process::run;
use whyrefused_tests::ruleset::{Culprit, iptables, nft};
use whyrefused_tests::scene::{Case, Scene, config_of, refused};

use super::{four, host_with, host_with_nft, listeners};

/// A watched nginx and one upstream behind no rule yet.
fn open(host: &Host, port: u16) -> Result<(Scene, Case, Backend)> {
    let here = Namespace::new()?;
    let case = four("app", port, &refused("firewall-reject"));
    let cases = [case.clone()];
    let backend = listeners(&here, &cases, "[::1]:27599")?;
    let mut scene = Scene::filtered(host, here, &[], &config_of(&cases))?;
    scene.succeeds(&case.name)?;
    scene.let_filters_change()?;
    Ok((scene, case, backend))
}

/// The rules are as they are now, and the request meets the one that is meant.
fn meets(scene: &mut Scene, case: &Case, culprit: Culprit) -> Result<()> {
    scene.let_no_filter_change(&[])?;
    let expected = refused("firewall-reject").by(culprit);
    scene.fails(&case.name, &expected)?;
    scene.let_filters_change()
}

#[test]
fn rules_of_nft_are_named_as_they_change() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let (mut scene, case, _backend) = open(&host, 27500)?;
    let here = scene.namespace.clone();
    let rule = |place: &str, telling: &str| nft(place, "output", telling);
    here.nft(
        "table inet lab {
set banned { type inet_service; }
chain output { type filter hook output priority 0
  tcp dport @banned reject with tcp reset
  tcp dport 27501 reject with tcp reset
}
}",
    )?;
    scene.succeeds(&case.name)?;
    here.nft("add element inet lab banned { 27500 }")?;
    meets(&mut scene, &case, rule("inet lab output", "@banned"))?;
    here.nft("delete element inet lab banned { 27500 }\nadd rule inet lab output tcp dport 27500 reject with tcp reset")?;
    meets(&mut scene, &case, rule("inet lab output", "27500"))?;
    here.nft(
        "delete table inet lab
table ip lab { chain late { type filter hook output priority 5
  tcp dport 27500 reject with tcp reset
}
}",
    )?;
    meets(&mut scene, &case, rule("ip lab late", "27500"))?;
    here.nft("flush ruleset")?;
    scene.succeeds(&case.name)?;
    scene.end().map(drop)
}

#[test]
fn rules_of_iptables_are_named_as_they_change() -> Result<()> {
    for (program, port) in [("iptables-legacy", 27510), ("iptables-nft", 27520)] {
        let Some(host) = host_with(&[(program, "iptables")]) else {
            return Ok(());
        };
        let (mut scene, case, _backend) = open(&host, port)?;
        let here = scene.namespace.clone();
        let reject = format!("-p tcp --dport {port} -j REJECT --reject-with tcp-reset");
        here.iptables(program, &format!("-A OUTPUT {reject}"))?;
        meets(
            &mut scene,
            &case,
            iptables(program, "filter OUTPUT", "output", "REJECT"),
        )?;
        // The same rule moves to the second place, and then to another chain.
        here.iptables(program, "-I OUTPUT -p udp -j DROP")?;
        meets(
            &mut scene,
            &case,
            iptables(program, "filter OUTPUT", "output", "REJECT"),
        )?;
        here.iptables(program, "-N elsewhere")?;
        here.iptables(program, &format!("-A elsewhere {reject}"))?;
        here.iptables(program, "-I OUTPUT -p tcp -j elsewhere")?;
        meets(
            &mut scene,
            &case,
            iptables(program, "filter elsewhere", "output", "REJECT"),
        )?;
        here.iptables(program, "-F")?;
        scene.succeeds(&case.name)?;
        scene.end().context(program)?;
    }
    Ok(())
}

/// Nothing counts the changes of an ipset, and rules that refer to it stay the same.
#[test]
fn rules_that_ask_an_ipset_are_named_as_it_changes() -> Result<()> {
    for (program, port) in [("iptables-legacy", 27530), ("iptables-nft", 27540)] {
        let Some(host) = host_with(&[(program, "iptables"), ("ipset", "ipset")]) else {
            return Ok(());
        };
        let (mut scene, case, _backend) = open(&host, port)?;
        let here = scene.namespace.clone();
        let ipset = |words: &str| -> Result<()> {
            let mut command: Command = here.command("ipset");
            run(command.args(words.split(' '))).map(drop)
        };
        ipset("create one bitmap:port range 1-65535")?;
        ipset("create two bitmap:port range 1-65535")?;
        for set in ["one", "two"] {
            here.iptables(
                program,
                &format!("-A OUTPUT -p tcp -m set --match-set {set} dst -j REJECT --reject-with tcp-reset"),
            )?;
        }
        scene.succeeds(&case.name)?;
        for set in ["one", "two"] {
            ipset(&format!("add {set} {port}"))?;
            let rule = iptables(program, "filter OUTPUT", "output", set);
            meets(&mut scene, &case, rule)?;
            ipset(&format!("del {set} {port}"))?;
        }
        scene.succeeds(&case.name)?;
        scene.end().context(program)?;
    }
    Ok(())
}
