//! Rules that eat ARP or neighbour discovery: the SYN never leaves, and the neighbour seems gone.

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::process::run;
use whyrefused_tests::ruleset::{Culprit, iptables, nft};
use whyrefused_tests::scene::{Case, Scene, case, timed_out};

use super::{ONCE_REPEATED, blocked, host_with, host_with_nft, listeners};

const HEALTHY: &str = "10.76.0.5:26899";

/// nginx's namespace, and one that is a cable away.
fn neighbours() -> Result<(Namespace, Namespace)> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("eth0", &["10.76.0.1/24", "fd76::1/64"]),
        &there,
        (
            "eth0",
            &["10.76.0.2/24", "10.76.0.5/24", "fd76::2/64", "fd76::5/64"],
        ),
    )?;
    Ok((here, there))
}

/// Each culprit eats what is to find the neighbour at its case's address.
fn eaten(culprits: [(&str, u16, Culprit); 2], ruleset: &str) -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let (here, there) = neighbours()?;
    here.nft(ruleset)?;
    let cases = culprits.map(|(ip, port, culprit)| {
        let expected = timed_out("firewall-drop").by(culprit);
        case(&format!("app{port}"), &format!("{ip}:{port}"), expected)
    });
    let _backend = listeners(&there, &cases, HEALTHY)?;
    blocked(&host, here, &[], HEALTHY, ONCE_REPEATED, &cases)
}

#[test]
fn a_rule_that_drops_the_question_for_the_next_hop_is_named() -> Result<()> {
    const RULES: &str = "table arp lab {
chain c {
type filter hook output priority 0
arp operation reply arp daddr ip 10.76.0.2 drop
arp operation request arp daddr ip 10.76.0.9 drop
oifname \"eth1\" arp operation request drop
arp htype 1 arp ptype ip arp operation request arp daddr ip 10.76.0.2 drop
arp operation request arp daddr ip 10.76.0.2 drop
}
}
table ip6 lab {
chain c {
type filter hook output priority 0
icmpv6 type nd-neighbor-advert drop
icmpv6 type nd-neighbor-solicit ip6 daddr ff02::1:ff00:9 drop
icmpv6 type nd-neighbor-solicit @th,64,128 0xfd760000000000000000000000000009 drop
meta l4proto tcp ip6 daddr ff02::1:ff00:2 drop
ip6 hoplimit 255 meta l4proto ipv6-icmp icmpv6 type nd-neighbor-solicit ip6 daddr ff02::1:ff00:2 ct state untracked drop
}
}";
    eaten(
        [
            ("10.76.0.2", 26800, nft("arp lab c", "output", "htype")),
            ("[fd76::2]", 26801, nft("ip6 lab c", "output", "hoplimit")),
        ],
        RULES,
    )
}

#[test]
fn a_rule_that_drops_the_next_hops_answer_is_named() -> Result<()> {
    const RULES: &str = "table arp lab {
chain c {
type filter hook input priority 0
arp operation request arp saddr ip 10.76.0.2 drop
arp operation reply arp saddr ip 10.76.0.9 drop
iifname \"eth0\" meta protocol arp arp operation reply arp saddr ip 10.76.0.2 jump eat
}
chain eat {
arp daddr ip != 10.76.0.1 drop
drop
}
}
table inet lab {
chain c {
type filter hook input priority 0
icmpv6 type nd-neighbor-advert ip6 saddr fd76::9 drop
icmpv6 type nd-neighbor-advert @th,64,128 0xfd760000000000000000000000000002 drop
}
}";
    eaten(
        [
            ("10.76.0.2", 26810, nft("arp lab eat", "input", "<drop>")),
            ("[fd76::2]", 26811, nft("inet lab c", "input", "@th")),
        ],
        RULES,
    )
}

#[test]
fn the_policy_of_a_chain_that_lets_no_neighbour_be_found_is_named() -> Result<()> {
    const RULES: &str = "table arp lab {
chain c {
type filter hook output priority 0; policy drop
arp daddr ip 10.76.0.5 accept
}
}
table ip6 lab {
chain c {
type filter hook output priority 0; policy drop
icmpv6 type nd-neighbor-advert accept
icmpv6 type nd-neighbor-solicit ip6 daddr { fd76::5, ff02::1:ff00:5 } accept
meta l4proto tcp accept
}
}";
    eaten(
        [
            ("10.76.0.2", 26820, nft("arp lab c", "output", "").policy()),
            ("[fd76::2]", 26821, nft("ip6 lab c", "output", "").policy()),
        ],
        RULES,
    )
}

#[test]
fn a_rule_of_a_bridge_that_drops_arp_is_named() -> Result<()> {
    const RULES: &str = "table bridge lab {
chain forward {
type filter hook forward priority 0
arp operation request arp daddr ip 10.77.0.9 drop
arp operation request arp daddr ip 10.77.0.2 drop
icmpv6 type nd-neighbor-advert drop
icmpv6 type nd-neighbor-solicit ip6 daddr ff02::1:ff00:2 drop
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let (here, bridge, there) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    here.link(
        ("eth0", &["10.77.0.1/24", "fd77::1/64"]),
        &bridge,
        ("port0", &[]),
    )?;
    there.link(
        ("eth0", &["10.77.0.2/24", "10.77.0.5/24", "fd77::2/64"]),
        &bridge,
        ("port1", &[]),
    )?;
    bridge.ip("link add br0 type bridge
link set port0 master br0
link set port1 master br0
link set br0 up")?;
    bridge.nft(RULES)?;
    let drop = |telling| {
        let rule = nft("bridge lab forward", "forward", telling);
        timed_out("firewall-drop").by(rule.at(&bridge).unsure())
    };
    let cases = [
        case("four", "10.77.0.2:26830", drop("daddr ip 10.77.0.2")),
        case("six", "[fd77::2]:26831", drop("solicit")),
    ];
    let _backend = listeners(&there, &cases, "10.77.0.5:26839")?;
    blocked(
        &host,
        here,
        &[&bridge],
        "10.77.0.5:26839",
        ONCE_REPEATED,
        &cases,
    )
}

/// The rules of `program`, and the one that drops the answer of the neighbour in the case.
fn by_iptables(
    program: &'static str,
    rules: &[&str],
    case_of: impl Fn(&str) -> Case,
) -> Result<()> {
    let Some(host) = host_with(&[(program, "arptables, iptables")]) else {
        return Ok(());
    };
    let (here, there) = neighbours()?;
    for rule in rules {
        run(here.command(program).args(rule.split(' ')))?;
    }
    let cases = [case_of(program)];
    let _backend = listeners(&there, &cases, HEALTHY)?;
    blocked(&host, here, &[], HEALTHY, ONCE_REPEATED, &cases)
}

const ARPTABLES: [&str; 4] = [
    "-A INPUT -s 10.76.0.9 -j DROP",
    "-A INPUT -i eth1 -s 10.76.0.2 -j DROP",
    "-A INPUT --opcode Request -s 10.76.0.2 -j DROP",
    "-A INPUT --opcode Reply -s 10.76.0.2 -j DROP",
];

#[test]
fn a_rule_of_arptables_that_drops_the_next_hops_answer_is_no_dead_neighbour() -> Result<()> {
    by_iptables("arptables-nft", &ARPTABLES, |program| {
        let rule = iptables(program, "filter INPUT", "input", "#4");
        let expected = timed_out("firewall-drop").by(rule);
        case("app", "10.76.0.2:26840", expected)
    })
}

/// No program saves these rules: `arptables-legacy-save` prints what `arptables` has.
#[test]
fn a_rule_of_legacy_arptables_is_named_by_its_position() -> Result<()> {
    const APP: &str = "10.76.0.2:26845";
    let Some(host) = host_with(&[("arptables-legacy", "arptables")]) else {
        return Ok(());
    };
    let (here, there) = neighbours()?;
    for rule in ARPTABLES {
        run(here.command("arptables-legacy").args(rule.split(' ')))?;
    }
    let _backend = Backend::listen(&there, APP)?;
    let config = Config::passing(&[("app", APP)]).connect_timeout(ONCE_REPEATED);
    let mut scene = Scene::new(&host, here, &config)?;
    let failure = scene.fails("app", &timed_out("firewall-drop"))?;
    let rule = failure.rule.as_ref().context("no rule")?;
    ensure!(
        (rule.backend.as_str(), rule.family.as_str(), rule.position)
            == ("iptables-legacy", "arp", Some(4))
            && rule.text.contains("arp operation 2")
            && rule.alternatives.is_empty(),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn a_rule_of_ip6tables_that_drops_the_next_hops_answer_is_no_dead_neighbour() -> Result<()> {
    for program in ["ip6tables-nft", "ip6tables-legacy"] {
        by_iptables(
            program,
            &[
                "-A INPUT -p tcp -s fd76::2 --dport 1:100 -j DROP",
                "-A INPUT -p ipv6-icmp --icmpv6-type neighbour-solicitation -s fd76::2 -j DROP",
                "-A INPUT -p ipv6-icmp --icmpv6-type neighbour-advertisement -s fd76::9 -j DROP",
                "-A INPUT -p ipv6-icmp --icmpv6-type neighbour-advertisement -m conntrack --ctstate NEW -j DROP",
                "-A INPUT -p ipv6-icmp --icmpv6-type neighbour-advertisement -m hl --hl-eq 255 -s fd76::2 -j DROP",
            ],
            |program| {
                let rule = iptables(program, "filter INPUT", "input", "#5");
                case(
                    "app",
                    "[fd76::2]:26850",
                    timed_out("firewall-drop").by(rule),
                )
            },
        )?;
    }
    Ok(())
}
