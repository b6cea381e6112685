//! Which request failed, and how attempts add up.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Event;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx, Upstream};
use whyrefused_tests::scene::{Expected, Scene, ended_well, refused};
use whyrefused_tests::tracer::Tracer;

#[test]
fn every_attempt_of_one_request_is_a_failure_of_its_own() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let servers = ["127.0.0.1:21000", "127.0.0.2:21001", "[::1]:21002"];
    let upstream = Upstream::new("app", servers[0])
        .or(servers[1])
        .or(servers[2]);
    let mut scene = Scene::new(&host, Namespace::new()?, &Config::of(vec![upstream]))?;
    ensure!(scene.get("app")?.status == 502);
    let (mut addresses, mut connections) = (BTreeSet::new(), BTreeSet::new());
    for _ in servers {
        let failure = scene.explained("app", &refused("no-listener"))?;
        addresses.extend(failure.upstream.address);
        connections.extend(failure.request.and_then(|request| request.connection));
    }
    ensure!(
        addresses == servers.map(str::to_owned).into(),
        "{addresses:?}"
    );
    ensure!(
        connections.len() == 1,
        "attempts of one connection: {connections:?}"
    );
    let end = scene.end()?;
    ensure!(
        end.upstreams.len() == 3 && end.upstreams.values().all(|count| *count == 1),
        "{end:?}"
    );
    ensure!(end.verdicts.get("no-listener") == Some(&3), "{end:?}");
    Ok(())
}

#[test]
fn a_retry_that_succeeds_leaves_one_failure() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "127.0.0.1:21021")?;
    let upstream = Upstream::new("app", "127.0.0.1:21020").or("127.0.0.1:21021 backup");
    let mut scene = Scene::new(&host, here, &Config::of(vec![upstream]))?;
    scene.succeeds("app")?;
    let failure = scene.explained("app", &refused("no-listener"))?;
    ensure!(
        failure.upstream.address.as_deref() == Some("127.0.0.1:21020"),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn failures_of_one_kind_within_the_window_are_one_event() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let nginx = Nginx::start(
        &host,
        &here,
        &Config::passing(&[("app", "127.0.0.1:21040"), ("other", "127.0.0.1:21041")]),
    )?;
    // Longer than the test takes: the window closes with the trace.
    let tracer = Tracer::start(
        &host,
        &["--coalesce", "10m", "--pid", &nginx.pid().to_string()],
    )?;
    for _ in 0..50 {
        nginx.get(&here, "app")?;
    }
    nginx.get(&here, "other")?;
    let mut finished = tracer.stop(Signal::SIGINT)?;
    let failures: Vec<_> = finished
        .unclaimed
        .drain(..)
        .filter_map(|event| match event {
            Event::Failure(failure) => {
                Some((failure.upstream.address.unwrap_or_default(), failure.count))
            }
            _ => None,
        })
        .collect();
    let end = ended_well(&finished)?;
    let expected = [("127.0.0.1:21040", 50), ("127.0.0.1:21041", 1)];
    ensure!(
        failures == expected.map(|(address, count)| (address.to_owned(), count)),
        "{failures:?}"
    );
    ensure!(end.upstreams.get("127.0.0.1:21040") == Some(&50), "{end:?}");
    Ok(())
}

#[test]
fn an_upstream_that_accepts_again_is_told_as_a_recovery() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for address in ["127.0.0.1:21060", "[::1]:21060"] {
        let mut scene = Scene::new(
            &host,
            Namespace::new()?,
            &Config::passing(&[("app", address)]),
        )?;
        scene.fails("app", &refused("no-listener"))?;
        scene.fails("app", &refused("no-listener"))?;
        let _backend = Backend::listen(&scene.namespace, address)?;
        scene.succeeds("app")?;
        scene.succeeds("app")?;
        let recovery = scene.tracer.recovery()?;
        ensure!(
            recovery.upstream.address.as_deref() == Some(address),
            "{recovery:?}"
        );
        ensure!(
            recovery.upstream.name.as_deref() == Some("app"),
            "{recovery:?}"
        );
        ensure!(recovery.failures == 2, "{recovery:?}");
        ensure!(recovery.down_for_ms < 60_000, "{recovery:?}");
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_failure_below_the_level_of_the_error_log_is_explained_without_a_request() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let config = Config {
        level: "emerg",
        ..Config::passing(&[("app", "127.0.0.1:21080")])
    };
    let mut scene = Scene::new(&host, Namespace::new()?, &config)?;
    let failure = scene.fails(
        "app",
        &Expected {
            logged: false,
            ..refused("no-listener")
        },
    )?;
    ensure!(failure.request.is_none(), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn each_of_many_simultaneous_requests_is_joined_to_its_own_line() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let config = Config {
        workers: 2,
        ..Config::passing(&[("app", "127.0.0.1:21100")])
    };
    let mut scene = Scene::new(&host, Namespace::new()?, &config)?;
    let clients = (0..40).map(|_| scene.nginx.send(&scene.namespace, "app"));
    let _clients = clients.collect::<Result<Vec<_>>>()?;
    let mut connections = BTreeSet::new();
    for _ in 0..40 {
        let failure = scene.explained("app", &refused("no-listener"))?;
        let request = failure.request.context("no request")?;
        connections.insert((failure.nginx.pid, request.connection));
    }
    ensure!(
        connections.len() == 40,
        "two failures were joined to one line: {connections:?}"
    );
    scene.end().map(drop)
}
