//! A packet filter in front of a healthy listener: the look-alike of half the other causes.

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::{Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Expected, Scene, refused, reported, timed_out};

/// Filters at `hook` with `rules` in front of a healthy listener at `local`.
fn filtered(local: [(&str, &str); 2], hook: &str, rules: &str, expected: &Expected) -> Result<()> {
    let Some(host) = host_with("nft", "nftables") else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", local[0].1, local[1].1])?;
    here.filter(hook, rules)?;
    let config = Config::passing(&local).connect_timeout("2500ms");
    let mut scene = Scene::new(&host, here, &config)?;
    for (name, _) in local {
        scene.fails(name, expected)?;
    }
    scene.end().map(drop)
}

fn host_with(filter: &str, package: &str) -> Option<Host> {
    let host = Host::find()?;
    match program(filter, package) {
        Ok(_) => Some(host),
        Err(missing) => {
            skip(&format!("{missing:#}"));
            None
        }
    }
}

#[test]
fn an_nft_reset_on_the_way_in_is_explained_as_firewall_reject() -> Result<()> {
    filtered(
        loopback!(15000),
        "input",
        "tcp dport 15000 reject with tcp reset",
        &refused("firewall-reject"),
    )
}

#[test]
fn an_nft_reset_on_the_way_out_is_explained_as_firewall_reject() -> Result<()> {
    filtered(
        loopback!(15020),
        "output",
        "tcp dport 15020 reject with tcp reset",
        &refused("firewall-reject"),
    )
}

#[test]
fn an_nft_icmp_reject_is_explained_as_firewall_reject() -> Result<()> {
    filtered(
        loopback!(15040),
        "input",
        "tcp dport 15040 reject",
        &refused("firewall-reject"),
    )
}

#[test]
fn an_nft_drop_on_the_way_in_is_explained_as_firewall_drop() -> Result<()> {
    filtered(
        loopback!(15060),
        "input",
        "tcp dport 15060 drop",
        &timed_out("firewall-drop"),
    )
}

#[test]
fn an_nft_drop_on_the_way_out_is_explained_as_firewall_drop() -> Result<()> {
    filtered(
        loopback!(15080),
        "output",
        "tcp dport 15080 drop",
        &timed_out("firewall-drop"),
    )
}

#[test]
fn an_nft_drop_of_the_answer_is_explained_as_firewall_drop() -> Result<()> {
    filtered(
        loopback!(15100),
        "input",
        "tcp sport 15100 drop",
        &timed_out("firewall-drop"),
    )
}

#[test]
fn an_nft_policy_drop_is_explained_as_firewall_drop() -> Result<()> {
    filtered(
        loopback!(15140),
        "input",
        "policy drop\ntcp dport 8080 accept\ntcp sport 8080 accept",
        &timed_out("firewall-drop"),
    )
}

#[test]
fn an_iptables_reject_is_explained_as_firewall_reject() -> Result<()> {
    for filter in ["iptables-legacy", "iptables-nft"] {
        let Some(host) = host_with(filter, "iptables") else {
            return Ok(());
        };
        let here = Namespace::new()?;
        let _backend = Backend::start(
            &here,
            &[
                "tcp",
                "127.0.0.1:15120",
                "127.0.0.1:15121",
                "127.0.0.1:15122",
            ],
        )?;
        for (port, with) in [
            (15120, "tcp-reset"),
            (15121, "icmp-port-unreachable"),
            (15122, "icmp-host-prohibited"),
        ] {
            here.iptables(
                filter,
                &format!("-A INPUT -p tcp --dport {port} -j REJECT --reject-with {with}"),
            )?;
        }
        let config = Config::passing(&[
            ("reset", "127.0.0.1:15120"),
            ("port", "127.0.0.1:15121"),
            ("host", "127.0.0.1:15122"),
        ]);
        let mut scene = Scene::new(&host, here, &config)?;
        scene.fails("reset", &refused("firewall-reject"))?;
        scene.fails("port", &refused("firewall-reject"))?;
        scene.fails("host", &reported("firewall-reject", "EHOSTUNREACH"))?;
        scene.end()?;
    }
    Ok(())
}

#[test]
fn an_iptables_drop_is_explained_as_firewall_drop() -> Result<()> {
    for filter in ["iptables-legacy", "iptables-nft"] {
        let Some(host) = host_with(filter, "iptables") else {
            return Ok(());
        };
        let here = Namespace::new()?;
        let _backend = Backend::listen(&here, "127.0.0.1:15140")?;
        here.iptables(filter, "-A INPUT -p tcp --dport 15140 -j DROP")?;
        let config = Config::passing(&[("app", "127.0.0.1:15140")]).connect_timeout("2500ms");
        let mut scene = Scene::new(&host, here, &config)?;
        scene.fails("app", &timed_out("firewall-drop"))?;
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_packet_filter_of_another_namespace_is_told_from_a_closed_port_there() -> Result<()> {
    const THERE: [(&str, &str); 2] = far!(15500);
    let Some(host) = host_with("nft", "nftables") else {
        return Ok(());
    };
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &there,
        ("eth0", &["10.1.0.2/24", "fd01::2/64"]),
    )?;
    let _backend = Backend::start(&there, &["tcp", THERE[0].1, THERE[1].1])?;
    there.filter("input", "tcp dport 15500 reject with tcp reset")?;
    let mut scene = Scene::new(&host, here, &Config::passing(&THERE))?;
    for (name, _) in THERE {
        let failure = scene.fails(name, &refused("firewall-reject"))?;
        let told = format!("{:?} {:?}", failure.verdict, failure.rule);
        ensure!(
            told.contains(&there.inode().to_string()),
            "the namespace is not told: {failure:#?}"
        );
    }
    scene.end().map(drop)
}

#[test]
fn a_filter_that_does_not_match_leaves_a_closed_port_at_no_listener() -> Result<()> {
    const LOCAL: [(&str, &str); 2] = loopback!(15510);
    let Some(host) = host_with("nft", "nftables") else {
        return Ok(());
    };
    let here = Namespace::new()?;
    here.filter(
        "input",
        "tcp dport 9999 reject with tcp reset\ncounter accept",
    )?;
    let mut scene = Scene::new(&host, here, &Config::passing(&LOCAL))?;
    for (name, _) in LOCAL {
        scene.fails(name, &refused("no-listener"))?;
    }
    scene.end().map(drop)
}
