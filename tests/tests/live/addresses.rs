//! The port is listened on, but not for the dialled address.

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Scene, refused};

/// Dials `dialled` while a backend started with `arguments` listens on `listens`.
fn is_wrong_address(dialled: &str, arguments: &[&str], listens: &str) -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &there,
        ("lan0", &["10.1.0.2/24"]),
    )?;
    let backend = Backend::start(&here, arguments)?;
    let mut scene = Scene::new(&host, here, &Config::passing(&[("app", dialled)]))?;
    let failure = scene.fails("app", &refused("wrong-address"))?;
    let candidate = failure.candidates.first().context("no candidate")?;
    ensure!(candidate.address == listens, "{failure:#?}");
    ensure!(candidate.pid == Some(backend.pid()), "{failure:#?}");
    ensure!(candidate.netns == scene.namespace.inode(), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn a_listener_on_another_loopback_address_is_explained_as_wrong_address() -> Result<()> {
    is_wrong_address(
        "127.0.0.1:10000",
        &["tcp", "127.0.0.2:10000"],
        "127.0.0.2:10000",
    )
}

#[test]
fn a_listener_on_loopback_for_an_outer_address_is_explained_as_wrong_address() -> Result<()> {
    is_wrong_address(
        "10.1.0.1:10020",
        &["tcp", "127.0.0.1:10020"],
        "127.0.0.1:10020",
    )?;
    is_wrong_address("[fd01::1]:10020", &["tcp", "[::1]:10020"], "[::1]:10020")
}

#[test]
fn a_listener_on_an_outer_address_for_loopback_is_explained_as_wrong_address() -> Result<()> {
    is_wrong_address(
        "127.0.0.1:10040",
        &["tcp", "10.1.0.1:10040"],
        "10.1.0.1:10040",
    )?;
    is_wrong_address(
        "[::1]:10040",
        &["tcp", "[fd01::1]:10040"],
        "[fd01::1]:10040",
    )
}

#[test]
fn an_ipv6_only_listener_dialled_by_ipv4_is_explained_as_wrong_address() -> Result<()> {
    is_wrong_address(
        "127.0.0.1:10060",
        &["tcp", "[::]:10060", "--v6only"],
        "[::]:10060",
    )
}

#[test]
fn an_ipv4_listener_dialled_by_ipv6_is_explained_as_wrong_address() -> Result<()> {
    is_wrong_address(
        "[::1]:10080",
        &["tcp", "127.0.0.1:10080"],
        "127.0.0.1:10080",
    )?;
    is_wrong_address("[::1]:10080", &["tcp", "0.0.0.0:10080"], "0.0.0.0:10080")
}

#[test]
fn a_listener_bound_to_another_device_is_explained_as_wrong_address() -> Result<()> {
    let device = ["--device", "wan0"];
    let four = ["tcp", "0.0.0.0:10100"];
    is_wrong_address("127.0.0.1:10100", &[four, device].concat(), "0.0.0.0:10100")?;
    let six = ["tcp", "[::]:10100"];
    is_wrong_address("[::1]:10100", &[six, device].concat(), "[::]:10100")
}

#[test]
fn a_dual_stack_listener_dialled_by_either_family_is_no_failure() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "[::]:10120")?;
    let config = Config::passing(&[("four", "127.0.0.1:10120"), ("six", "[::1]:10120")]);
    let scene = Scene::new(&host, here, &config)?;
    scene.succeeds("four")?;
    scene.succeeds("six")?;
    scene.end().map(drop)
}
