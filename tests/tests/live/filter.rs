//! Packet filters of every kind in front of healthy listeners: the rule that did it is named, and
//! no other that looks like it. Each scene puts many upstreams behind one ruleset.

mod changes;
mod choice;
mod conditions;
mod exact;
mod fixes;
mod hooks;
mod hostile;
mod iptables;
mod iptables_ways;
mod kinds;
mod moments;
mod nat;
mod neighbours;
mod odd;
mod places;
mod shapes;
mod twins;

use anyhow::{Context, Result};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::{Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Upstream;
use whyrefused_tests::scene::{Case, Expected, Scene, case, config_of};

/// Long enough for the first repeated SYN, after a second.
const ONCE_REPEATED: &str = "1200ms";
/// Long enough for the answer to the first repeated SYN: an ICMPv6 error that arrives while
/// connect() still holds the socket is not heard (`tcp_v6_err`).
const ANSWERED_LATE: &str = "2200ms";

/// The programs of this host, where these are among them.
fn host_with(programs: &[(&str, &str)]) -> Option<Host> {
    let host = Host::find()?;
    for (name, package) in programs {
        if let Err(missing) = program(name, package) {
            skip(&format!("{missing:#}"));
            return None;
        }
    }
    Some(host)
}

fn host_with_nft() -> Option<Host> {
    host_with(&[("nft", "nftables")])
}

/// The same case on loopback over IPv4 and over IPv6.
fn both(name: &str, port: u16, expected: &Expected) -> [Case; 2] {
    [four(name, port, expected), six(name, port, expected)]
}

fn four(name: &str, port: u16, expected: &Expected) -> Case {
    let address = format!("127.0.0.1:{port}");
    case(&format!("{name}-four"), &address, expected.clone())
}

fn six(name: &str, port: u16, expected: &Expected) -> Case {
    let address = format!("[::1]:{port}");
    case(&format!("{name}-six"), &address, expected.clone())
}

/// A listener at the address of every case, and at `healthy`.
fn listeners(namespace: &Namespace, cases: &[Case], healthy: &str) -> Result<Backend> {
    let mut addresses: Vec<&str> = cases.iter().map(|case| case.address.as_str()).collect();
    addresses.push(healthy);
    addresses.sort_unstable();
    addresses.dedup();
    Backend::start(namespace, &[&["tcp"], &addresses[..]].concat())
}

/// All `cases` must fail as they say although their listeners are healthy, and a request to the
/// upstream at `healthy` must pass the filter. `timeout` is that of nginx for a connection.
fn blocked(
    host: &Host,
    here: Namespace,
    others: &[&Namespace],
    healthy: &str,
    timeout: &'static str,
    cases: &[Case],
) -> Result<()> {
    let mut config = config_of(cases).connect_timeout(timeout);
    config.upstreams.push(Upstream::new("healthy", healthy));
    let mut scene = Scene::filtered(host, here, others, &config)?;
    scene.succeeds("healthy").context("the healthy upstream")?;
    scene.all_fail(cases)?;
    scene.end().map(drop)
}

/// The same with everything in nginx's own namespace, where `load` sets up the filter.
fn blocked_here(
    host: &Host,
    healthy: &str,
    timeout: &'static str,
    cases: &[Case],
    load: impl FnOnce(&Namespace) -> Result<()>,
) -> Result<()> {
    let here = Namespace::new()?;
    let _backend = listeners(&here, cases, healthy)?;
    load(&here)?;
    blocked(host, here, &[], healthy, timeout, cases)
}
