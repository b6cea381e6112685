//! Rulesets as the usual managers of packet filters make them, and large ones.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::skip;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::ruleset::{iptables, nft};
use whyrefused_tests::scene::{Case, Scene, case, config_of, refused, reported, timed_out};

use super::{
    ANSWERED_LATE, ONCE_REPEATED, blocked, blocked_here, four, host_with, host_with_nft, listeners,
    six,
};

const UFW: &str = include_str!("shapes/ufw.rules");
const FIREWALLD: &str = include_str!("shapes/firewalld.nft");
const DOCKER: &str = include_str!("shapes/docker.rules");
const KUBE_PROXY: &str = include_str!("shapes/kube-proxy.rules");

/// nginx's namespace and the backend's, one hop away.
fn neighbours() -> Result<(Namespace, Namespace)> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.76.0.1/24", "fd76::1/64"]),
        &there,
        ("eth0", &["10.76.0.2/24", "fd76::2/64"]),
    )?;
    Ok((here, there))
}

/// The cases fail, and the rule of each is the manager's.
fn managed(scene: &mut Scene, cases: &[Case], manager: &str) -> Result<()> {
    for failure in scene.all_fail(cases)? {
        let rule = failure.rule.as_ref().context("no rule")?;
        ensure!(rule.manager.as_deref() == Some(manager), "{failure:#?}");
    }
    Ok(())
}

#[test]
fn rules_of_ufw_are_named() -> Result<()> {
    let Some(host) = host_with(&[
        ("iptables-nft", "iptables"),
        ("iptables-legacy", "iptables"),
    ]) else {
        return Ok(());
    };
    for program in ["iptables-nft", "iptables-legacy"] {
        let (here, there) = neighbours()?;
        let rule = |chain: &str, telling: &str| {
            iptables(program, &format!("filter {chain}"), "input", telling).at(&there)
        };
        let user = |telling: &str| rule("ufw-user-input", telling);
        let policy = rule("INPUT", "").policy();
        let cases = [
            case(
                "reject",
                "10.76.0.2:27300",
                refused("firewall-reject").by(user("REJECT")),
            ),
            case(
                "deny",
                "10.76.0.2:27301",
                timed_out("firewall-drop").by(user("27301*DROP")),
            ),
        ];
        let unmanaged = case(
            "default",
            "10.76.0.2:27302",
            timed_out("firewall-drop").by(policy),
        );
        let all = [&cases[..], std::slice::from_ref(&unmanaged)].concat();
        let _backend = listeners(&there, &all, "10.76.0.2:27309")?;
        there.restore(program, UFW)?;
        let config = config_of(&all).connect_timeout(ONCE_REPEATED);
        let mut scene = Scene::filtered(&host, here, &[&there], &config)?;
        managed(&mut scene, &all, "ufw")?;
        scene.end()?;
    }
    Ok(())
}

#[test]
fn rules_of_firewalld_are_named() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let (here, there) = neighbours()?;
    let rule = |chain: &str, telling: &str| {
        nft(&format!("inet firewalld {chain}"), "input", telling).at(&there)
    };
    let zone = rule("filter_IN_public", "reject");
    let rich = rule("filter_IN_public_deny", "27321");
    let cases = [
        case(
            "zone",
            "10.76.0.2:27320",
            reported("firewall-reject", "EHOSTUNREACH").by(zone.clone()),
        ),
        case(
            "zone-six",
            "[fd76::2]:27320",
            reported("firewall-reject", "EACCES").by(zone),
        ),
        case(
            "rich",
            "10.76.0.2:27321",
            refused("firewall-reject").by(rich),
        ),
    ];
    let _backend = listeners(&there, &cases, "10.76.0.2:27329")?;
    there.nft(FIREWALLD)?;
    let config = config_of(&cases).connect_timeout(ANSWERED_LATE);
    let mut scene = Scene::filtered(&host, here, &[&there], &config)?;
    managed(&mut scene, &cases, "firewalld")?;
    scene.end().map(drop)
}

#[test]
fn rules_of_docker_between_two_networks_are_named() -> Result<()> {
    let Some(host) = host_with(&[("iptables-nft", "iptables")]) else {
        return Ok(());
    };
    let (nginx, docker, there) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    nginx.link(
        ("eth0", &["172.18.0.2/16"]),
        &docker,
        ("br-a", &["172.18.0.1/16"]),
    )?;
    there.link(
        ("eth0", &["172.19.0.2/16"]),
        &docker,
        ("br-b", &["172.19.0.1/16"]),
    )?;
    docker.forward()?;
    nginx.ip("route add default via 172.18.0.1")?;
    there.ip("route add default via 172.19.0.1")?;
    docker.restore("iptables-nft", DOCKER)?;
    let rule = |chain: &str, telling: &str| {
        let place = format!("filter {chain}");
        iptables("iptables-nft", &place, "forward", telling).at(&docker)
    };
    let cases = [
        case(
            "isolated",
            "172.19.0.2:27340",
            timed_out("firewall-drop").by(rule("DOCKER-ISOLATION-STAGE-2", "-o br-b -j DROP")),
        ),
        case(
            "by-the-administrator",
            "172.19.0.2:27341",
            refused("firewall-reject").by(rule("DOCKER-USER", "27341")),
        ),
    ];
    let _backend = listeners(&there, &cases, "172.19.0.2:27349")?;
    blocked(
        &host,
        nginx,
        &[&docker],
        "172.19.0.2:27349",
        ONCE_REPEATED,
        &cases,
    )
}

#[test]
fn a_service_without_endpoints_is_named() -> Result<()> {
    let Some(host) = host_with(&[
        ("iptables-nft", "iptables"),
        ("iptables-legacy", "iptables"),
    ]) else {
        return Ok(());
    };
    for program in ["iptables-nft", "iptables-legacy"] {
        let (here, there) = neighbours()?;
        here.ip("route add default via 10.76.0.2")?;
        here.restore(program, KUBE_PROXY)?;
        let rule = iptables(
            program,
            "filter KUBE-SERVICES",
            "output",
            "shop/cart:http has no",
        );
        let expected = refused("firewall-reject").by(rule);
        let cases = [case("cart", "10.96.0.20:80", expected)];
        // Somebody else listens on the same port, and the service beside it has an endpoint.
        let _backend = Backend::start(&there, &["tcp", "10.76.0.2:80", "10.76.0.2:27369"])?;
        let mut scene = Scene::filtered(&host, here, &[], &config_of(&cases))?;
        managed(&mut scene, &cases, "kube-proxy")?;
        scene.end()?;
    }
    Ok(())
}

/// Rules that have nothing to do with it, in number.
fn crowd(number: u32, rule: impl Fn(&str) -> String) -> String {
    (0..number).fold(String::new(), |mut text, index| {
        let address = format!("10.{}.{}.{}", index >> 16, index >> 8 & 255, index & 255);
        let _ = writeln!(text, "{}", rule(&address));
        text
    })
}

/// The set `many` of table `lab`, with so many elements beside that of the port 27390.
fn set_of(number: u32) -> String {
    let others = crowd(number, |address| format!("{address} . 1-65535,"));
    format!(
        "table inet lab {{
set many {{ type ipv4_addr . inet_service; flags interval
elements = {{ {others} 127.0.0.1 . 27390 }}
}}
}}"
    )
}

#[test]
fn a_rule_behind_ten_thousand_others_is_named() -> Result<()> {
    let programs = [("nft", "nftables"), ("iptables-legacy", "iptables")];
    let Some(host) = host_with(&programs) else {
        return Ok(());
    };
    let of_nft = nft("inet lab output", "output", "27380");
    let of_legacy = iptables("iptables-legacy", "filter OUTPUT", "output", "27381");
    let cases = [
        four("nft", 27380, &refused("firewall-reject").by(of_nft.clone())),
        six("nft", 27380, &refused("firewall-reject").by(of_nft)),
        four("legacy", 27381, &refused("firewall-reject").by(of_legacy)),
    ];
    blocked_here(&host, "127.0.0.1:27389", ONCE_REPEATED, &cases, |here| {
        let rules = crowd(10_000, |address| {
            format!("ip saddr {address} tcp dport 1-65535 drop")
        });
        here.nft(&format!(
            "table inet lab {{\nchain output {{\ntype filter hook output priority 0\n{rules}\
             tcp dport 27380 reject with tcp reset\n}}\n}}\n"
        ))?;
        let rules = crowd(10_000, |address| {
            format!("-A OUTPUT -s {address}/32 -j DROP")
        });
        here.restore(
            "iptables-legacy",
            &format!(
                "*filter\n{rules}-A OUTPUT -p tcp -m tcp --dport 27381 -j REJECT --reject-with tcp-reset\nCOMMIT\n"
            ),
        )
    })
}

#[test]
fn a_set_of_ten_thousand_elements_is_looked_up() -> Result<()> {
    let Some(host) = host_with_nft() else {
        return Ok(());
    };
    let began = Instant::now();
    Namespace::new()?.nft(&set_of(1_000))?;
    let thousand = began.elapsed();
    if thousand > Duration::from_secs(3) {
        skip(&format!(
            "this kernel takes {thousand:?} for a set of a thousand ranges, and a hundred times that \
             for ten thousand (pipapo_resize copies the set for each element)"
        ));
        return Ok(());
    }
    let rule = |telling| refused("firewall-reject").by(nft("inet lab output", "output", telling));
    let cases = [
        four(
            "in",
            27390,
            &rule("<ip daddr . tcp dport @many reject with tcp reset>"),
        ),
        four(
            "between",
            27391,
            &rule("<tcp dport 27391 reject with tcp reset>"),
        ),
    ];
    blocked_here(&host, "127.0.0.1:27399", ONCE_REPEATED, &cases, |here| {
        here.nft(&format!(
            "{}
table inet lab {{
chain output {{ type filter hook output priority 0
  ip daddr . tcp dport @many reject with tcp reset
  ip saddr . tcp dport @many tcp dport 27391 drop
  tcp dport 27391 reject with tcp reset
}}
}}",
            set_of(10_000)
        ))
    })
}
