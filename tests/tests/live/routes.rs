//! This host's routing refuses.

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::{Host, worker_user};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Scene, denied};

/// A namespace with a neighbour, so that there is something to route to.
fn connected() -> Result<(Namespace, Namespace)> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &there,
        ("eth0", &["10.1.0.2/24", "fd01::2/64"]),
    )?;
    Ok((here, there))
}

/// Every upstream of `table` (name, address, errno) is refused by its route.
fn are_refused(here: Namespace, table: &[(&str, &str, &'static str)]) -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let upstreams: Vec<_> = table
        .iter()
        .map(|(name, address, _)| (*name, *address))
        .collect();
    let mut scene = Scene::new(&host, here, &Config::passing(&upstreams))?;
    for (name, _, errno) in table {
        let failure = scene.fails(name, &denied("route-refused", errno))?;
        ensure!(!failure.verdict.fix.is_empty(), "no fix: {failure:#?}");
    }
    scene.end().map(drop)
}

#[test]
fn a_refusing_route_is_explained_as_route_refused() -> Result<()> {
    if Host::find().is_none() {
        return Ok(());
    }
    let (here, _there) = connected()?;
    here.ip("route add unreachable 10.66.1.0/24
route add prohibit 10.66.2.0/24
route add blackhole 10.66.3.0/24
route add throw 10.66.4.0/24")?;
    are_refused(
        here,
        &[
            ("unreachable", "10.66.1.9:22000", "EHOSTUNREACH"),
            ("prohibit", "10.66.2.9:22000", "EACCES"),
            ("blackhole", "10.66.3.9:22000", "EINVAL"),
            ("throw", "10.66.4.9:22000", "ENETUNREACH"),
            ("no-route", "10.66.5.9:22000", "ENETUNREACH"),
        ],
    )
}

#[test]
fn a_refusing_ipv6_route_is_explained_as_route_refused() -> Result<()> {
    if Host::find().is_none() {
        return Ok(());
    }
    let (here, _there) = connected()?;
    here.ip6(
        "route add unreachable fd66:1::/64
route add prohibit fd66:2::/64
route add blackhole fd66:3::/64",
    )?;
    are_refused(
        here,
        &[
            ("unreachable", "[fd66:1::9]:22020", "EHOSTUNREACH"),
            ("prohibit", "[fd66:2::9]:22020", "EACCES"),
            ("blackhole", "[fd66:3::9]:22020", "EINVAL"),
            ("no-route", "[fd66:5::9]:22020", "ENETUNREACH"),
        ],
    )
}

#[test]
fn a_refusing_policy_rule_is_explained_as_route_refused() -> Result<()> {
    if Host::find().is_none() {
        return Ok(());
    }
    let (here, _there) = connected()?;
    here.ip("rule add pref 100 to 10.1.0.0/28 prohibit
rule add pref 101 to 10.1.0.16/28 unreachable
rule add pref 102 to 10.1.0.32/28 blackhole")?;
    here.ip6("rule add pref 100 to fd01::10/124 prohibit")?;
    are_refused(
        here,
        &[
            ("prohibit", "10.1.0.2:22040", "EACCES"),
            // A rule's action is another errno than the route of the same name
            // (fib4_rule_action).
            ("unreachable", "10.1.0.18:22040", "ENETUNREACH"),
            ("blackhole", "10.1.0.34:22040", "EINVAL"),
            ("prohibit-six", "[fd01::12]:22040", "EACCES"),
        ],
    )
}

#[test]
fn a_policy_rule_that_meets_only_nginx_is_explained_as_route_refused() -> Result<()> {
    if Host::find().is_none() {
        return Ok(());
    }
    let (here, there) = connected()?;
    let _backend = Backend::start(&there, &["tcp", "10.1.0.2:22060", "[fd01::2]:22060"])?;
    let worker = worker_user()?.uid;
    here.ip(&format!(
        "rule add pref 100 uidrange {worker}-{worker} to 10.1.0.0/24 prohibit"
    ))?;
    here.ip6(&format!(
        "rule add pref 100 uidrange {worker}-{worker} to fd01::/64 prohibit"
    ))?;
    are_refused(
        here,
        &[
            ("four", "10.1.0.2:22060", "EACCES"),
            ("six", "[fd01::2]:22060", "EACCES"),
        ],
    )
}

#[test]
fn a_device_that_is_down_is_explained_as_route_refused() -> Result<()> {
    if Host::find().is_none() {
        return Ok(());
    }
    let (here, _there) = connected()?;
    here.ip("link set wan0 down")?;
    are_refused(
        here,
        &[
            ("four", "10.1.0.2:22080", "ENETUNREACH"),
            ("six", "[fd01::2]:22080", "ENETUNREACH"),
        ],
    )
}

#[test]
fn a_broadcast_or_multicast_address_is_explained_as_route_refused() -> Result<()> {
    if Host::find().is_none() {
        return Ok(());
    }
    let (here, _there) = connected()?;
    here.ip("addr add 10.2.0.1/24 brd 10.2.0.255 dev wan0
route add 224.0.0.0/4 dev wan0")?;
    are_refused(
        here,
        &[
            ("broadcast", "10.2.0.255:22100", "ENETUNREACH"),
            ("multicast", "224.0.0.9:22100", "ENETUNREACH"),
        ],
    )
}

#[test]
fn a_route_that_leads_to_a_listener_is_no_failure() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = connected()?;
    // What is refused stands beside: a wider route and a rule for somebody else.
    here.ip("route add prohibit 10.0.0.0/8
rule add pref 100 uidrange 4000-4001 to 10.1.0.0/24 prohibit")?;
    let _backend = Backend::listen(&there, "10.1.0.2:22120")?;
    let scene = Scene::new(&host, here, &Config::passing(&[("app", "10.1.0.2:22120")]))?;
    scene.succeeds("app")?;
    scene.end().map(drop)
}
