//! The next hop does not answer ARP or ND.

use anyhow::{Result, ensure};
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Scene, reported, timed_out};

/// A namespace with a cable on which nobody has the addresses that end with 8 or 9.
fn lonely() -> Result<(Namespace, Namespace)> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &there,
        ("eth0", &["10.1.0.2/24", "fd01::2/64"]),
    )?;
    here.ip("route add 10.66.0.0/16 via 10.1.0.8")?;
    here.ip6("route add fd66::/16 via fd01::8")?;
    Ok((here, there))
}

/// Upstreams with the next hop to each. No two share one: the search for a neighbour that one
/// attempt began would end another's.
const SILENT: [(&str, &str, &str); 4] = [
    ("four", "10.1.0.9:9100", "10.1.0.9"),
    ("six", "[fd01::9]:9100", "fd01::9"),
    ("gateway-four", "10.66.0.1:9100", "10.1.0.8"),
    ("gateway-six", "[fd66::1]:9100", "fd01::8"),
];

fn passing() -> Config {
    Config::passing(&SILENT.map(|(name, address, _)| (name, address)))
}

#[test]
fn a_silent_neighbour_is_explained_as_neighbour_unreachable_when_the_kernel_gives_up() -> Result<()>
{
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, _there) = lonely()?;
    let config = passing().connect_timeout("10s");
    let mut scene = Scene::new(&host, here, &config)?;
    for (name, _, hop) in SILENT {
        let failure = scene.fails(name, &reported("neighbour-unreachable", "EHOSTUNREACH"))?;
        // Three solicitations, a second apart (mcast_solicit, retrans_time_ms).
        ensure!(
            (2_000_000..9_000_000).contains(&failure.attempt.duration_us),
            "{failure:#?}"
        );
        tells_the_next_hop(hop, &failure)?;
    }
    scene.end().map(drop)
}

#[test]
fn a_silent_neighbour_is_explained_as_neighbour_unreachable_when_nginx_gives_up_first() -> Result<()>
{
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, _there) = lonely()?;
    let config = passing().connect_timeout("1s");
    let mut scene = Scene::new(&host, here, &config)?;
    for (name, _, hop) in SILENT {
        let failure = scene.fails(name, &timed_out("neighbour-unreachable"))?;
        tells_the_next_hop(hop, &failure)?;
    }
    scene.end().map(drop)
}

fn tells_the_next_hop(hop: &str, failure: &whyrefused_tests::contract::Failure) -> Result<()> {
    let told = format!("{:?}", failure.verdict);
    ensure!(
        told.contains(hop),
        "the next hop {hop} is not told: {failure:#?}"
    );
    Ok(())
}
