//! Addresses that are translated on the way: the verdict speaks of where the packet really went.

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::ruleset::{iptables, nft};
use whyrefused_tests::scene::{Case, Scene, case, config_of, refused, timed_out};

use super::{ONCE_REPEATED, blocked, host_with, host_with_nft, listeners};

#[test]
fn a_translation_to_a_closed_port_of_this_host_is_told() -> Result<()> {
    const RULESET: &str = "table inet lab {
map ports { type inet_service : ipv4_addr . inet_service
  elements = { 26902 : 127.0.0.1 . 26922, 26992 : 127.0.0.1 . 26993 }
}
chain output { type nat hook output priority -100
  ip daddr 127.0.0.2 tcp dport 26900 dnat ip to 127.0.0.1:26990
  ip daddr 127.0.0.1 tcp dport 26900 dnat ip to 127.0.0.1:26920
  ip6 daddr ::1 tcp dport 26900 dnat ip6 to [::1]:26920
  tcp dport 26901 redirect to :26921
  tcp dport 26909 redirect to :26908
  ip daddr 127.0.0.1 dnat ip to tcp dport map @ports
}
}";
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let told = |address: &str, words: &str| refused("no-listener").sent_to(address).because(words);
    let cases = [
        case(
            "dnat-four",
            "127.0.0.1:26900",
            told("127.0.0.1:26920", "127.0.0.1:26920"),
        ),
        case(
            "dnat-six",
            "[::1]:26900",
            told("[::1]:26920", "[::1]:26920"),
        ),
        case(
            "redirect-four",
            "127.0.0.1:26901",
            told("127.0.0.1:26921", "redirect to :26921"),
        ),
        case(
            "redirect-six",
            "[::1]:26901",
            told("[::1]:26921", "redirect to :26921"),
        ),
        case(
            "map",
            "127.0.0.1:26902",
            told("127.0.0.1:26922", "dport map @ports"),
        ),
    ];
    let here = Namespace::new()?;
    // They stand where nginx dials; nobody stands where its packets go.
    let _dialled = listeners(&here, &cases, "127.0.0.1:26908")?;
    here.nft(RULESET)?;
    // What is translated to a listener is no failure.
    blocked(&host, here, &[], "127.0.0.1:26909", ONCE_REPEATED, &cases)
}

#[test]
fn a_translation_of_iptables_is_told() -> Result<()> {
    let programs = [
        ("iptables-nft", "127.0.0.1", 26930),
        ("ip6tables-nft", "::1", 26940),
        ("iptables-legacy", "127.0.0.1", 26950),
        ("ip6tables-legacy", "::1", 26960),
    ];
    let names = programs.map(|(program, ..)| (program, "iptables"));
    let Some(host) = host_with(&names) else {
        return Ok(());
    };
    for (program, local, port) in programs {
        let at = |port: u16| match local {
            "::1" => format!("[::1]:{port}"),
            _ => format!("{local}:{port}"),
        };
        let (redirected, translated) = (at(port + 5), at(port + 6));
        let cases = [
            case(
                "redirect",
                &at(port),
                refused("no-listener")
                    .sent_to(&redirected)
                    .because("-j REDIRECT"),
            ),
            case(
                "dnat",
                &at(port + 1),
                refused("no-listener")
                    .sent_to(&translated)
                    .because("-j DNAT"),
            ),
        ];
        let here = Namespace::new()?;
        let healthy = at(port + 9);
        let _dialled = listeners(&here, &cases, &healthy)?;
        here.restore(
            program,
            &format!(
                "*nat
-A OUTPUT -p udp -m udp --dport {port} -j REDIRECT --to-ports 1
-A OUTPUT -p tcp -m tcp --dport {port} -j REDIRECT --to-ports {redirected}
-A OUTPUT -d {local} -p tcp -m tcp --dport {dnat} -j DNAT --to-destination {translated}
COMMIT
",
                redirected = port + 5,
                dnat = port + 1,
            ),
        )?;
        blocked(&host, here, &[], &healthy, ONCE_REPEATED, &cases)?;
    }
    Ok(())
}

/// nginx on a host that publishes ports of a container, as Docker does it.
fn published(ports: &[(u16, &str)]) -> Result<(Namespace, Namespace)> {
    let (here, container) = (Namespace::new()?, Namespace::new()?);
    here.address("lo", &["203.0.113.7/32"])?;
    here.link(
        ("docker0", &["172.17.0.1/16"]),
        &container,
        ("eth0", &["172.17.0.2/16"]),
    )?;
    container.ip("route add default via 172.17.0.1")?;
    here.forward()?;
    let rules: String = ports
        .iter()
        .map(|(port, to)| format!("-A DOCKER ! -i docker0 -p tcp -m tcp --dport {port} -j DNAT --to-destination {to}\n"))
        .collect();
    here.restore(
        "iptables-nft",
        &format!(
            "*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
{rules}COMMIT
"
        ),
    )?;
    Ok((here, container))
}

#[test]
fn a_published_port_leads_to_the_container() -> Result<()> {
    let Some(host) = host_with(&[("iptables-nft", "iptables"), ("nft", "nftables")]) else {
        return Ok(());
    };
    let (here, container) = published(&[
        (27000, "172.17.0.2:80"),
        (27001, "172.17.0.2:81"),
        (27002, "172.17.0.2:82"),
        (27003, "172.17.0.9:80"),
        (27009, "172.17.0.2:89"),
    ])?;
    container.nft(
        "table inet lab { chain input { type filter hook input priority 0
  tcp dport { 27001, 27002 } drop
  tcp dport 81 reject with tcp reset
  tcp dport 82 drop
}
}",
    )?;
    let rule = |telling| nft("inet lab input", "input", telling).at(&container);
    let cases: Vec<Case> = vec![
        case(
            "closed",
            "203.0.113.7:27000",
            refused("no-listener")
                .sent_to("172.17.0.2:80")
                .because("DOCKER"),
        ),
        case(
            "rejected",
            "203.0.113.7:27001",
            refused("firewall-reject")
                .sent_to("172.17.0.2:81")
                .by(rule("<tcp dport 81 reject with tcp reset>")),
        ),
        case(
            "dropped",
            "203.0.113.7:27002",
            timed_out("firewall-drop")
                .sent_to("172.17.0.2:82")
                .by(rule("<tcp dport 82 drop>")),
        ),
        case(
            "vanished",
            "203.0.113.7:27003",
            timed_out("neighbour-unreachable").sent_to("172.17.0.9:80"),
        ),
    ];
    let _backend = Backend::start(
        &container,
        &["tcp", "172.17.0.2:81", "172.17.0.2:82", "172.17.0.2:89"],
    )?;
    // Somebody stands at the published ports themselves.
    let _decoy = Backend::start(&here, &["tcp", "203.0.113.7:27000", "203.0.113.7:27003"])?;
    blocked(
        &host,
        here,
        &[&container],
        "203.0.113.7:27009",
        ONCE_REPEATED,
        &cases,
    )
}

#[test]
fn a_service_address_leads_to_one_of_its_endpoints() -> Result<()> {
    let Some(host) = host_with(&[("iptables-nft", "iptables")]) else {
        return Ok(());
    };
    let here = Namespace::new()?;
    here.address("lo", &["10.96.0.10/32"])?;
    here.restore(
        "iptables-nft",
        "*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ERIFXISQEP7F7OF4 - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment \"app/app:web cluster IP\" -m tcp --dport 27020 -j KUBE-SVC-ERIFXISQEP7F7OF4
-A KUBE-SVC-ERIFXISQEP7F7OF4 -m comment --comment \"app/app:web -> 127.0.0.1:27021\" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SVC-ERIFXISQEP7F7OF4 -m comment --comment \"app/app:web -> 127.0.0.1:27022\" -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment \"app/app:web\" -m tcp -j DNAT --to-destination 127.0.0.1:27021
-A KUBE-SEP-BBBBBBBBBBBBBBBB -p tcp -m comment --comment \"app/app:web\" -m tcp -j DNAT --to-destination 127.0.0.1:27022
COMMIT
",
    )?;
    let cases = [case("app", "10.96.0.10:27020", refused("no-listener"))];
    let mut scene = Scene::filtered(&host, here, &[], &config_of(&cases))?;
    for _ in 0..4 {
        ensure!(scene.get("app")?.status == 502);
        let failure = scene
            .tracer
            .failure(whyrefused_tests::patience::SOON, |_| true)?;
        told_an_endpoint(&failure).with_context(|| format!("{failure:#?}"))?;
    }
    Ok(())
}

fn told_an_endpoint(failure: &Failure) -> Result<()> {
    ensure!(failure.verdict.code == "no-listener", "another verdict");
    let told = failure
        .attempt
        .translated_to
        .as_deref()
        .context("no endpoint")?;
    ensure!(
        ["127.0.0.1:27021", "127.0.0.1:27022"].contains(&told),
        "no endpoint"
    );
    let because = failure.verdict.because.join("\n");
    ensure!(
        because.contains(told) && because.contains("KUBE-SEP-"),
        "the rule is not told"
    );
    Ok(())
}

#[test]
fn a_rule_that_refuses_what_was_translated_is_named() -> Result<()> {
    let Some(host) = host_with(&[("iptables-legacy", "iptables")]) else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let rule = iptables(
        "iptables-legacy",
        "filter OUTPUT",
        "output",
        "--dport 27041",
    );
    let expected = refused("firewall-reject")
        .sent_to("127.0.0.1:27041")
        .by(rule);
    let cases = [case("app", "127.0.0.1:27040", expected)];
    let _backend = Backend::start(
        &here,
        &[
            "tcp",
            "127.0.0.1:27040",
            "127.0.0.1:27041",
            "127.0.0.1:27049",
        ],
    )?;
    here.restore(
        "iptables-legacy",
        "*nat
-A OUTPUT -p tcp -m tcp --dport 27040 -j REDIRECT --to-ports 27041
COMMIT
*filter
-A OUTPUT -p tcp -m tcp --dport 27040 -j DROP
-A OUTPUT -p tcp -m tcp --dport 27041 -j REJECT --reject-with tcp-reset
COMMIT
",
    )?;
    blocked(&host, here, &[], "127.0.0.1:27049", ONCE_REPEATED, &cases)
}
