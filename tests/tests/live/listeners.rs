//! Nobody listens on the dialled port.

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::{Host, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Scene, refused};

/// Where neither `sock_diag` nor an iterator lists them, a socket that is only bound cannot be told
/// from none.
fn lists_bound_sockets(scene: &Scene) -> bool {
    let mut limits = scene.tracer.session().limits.iter();
    !limits.any(|limit| limit.starts_with("bound-sockets:"))
}

#[test]
fn a_port_that_nobody_listens_on_is_explained_as_no_listener() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let config = Config::passing(&[("four", "127.0.0.1:18000"), ("six", "[::1]:18000")]);
    let mut scene = Scene::new(&host, Namespace::new()?, &config)?;
    for name in ["four", "six"] {
        let failure = scene.fails(name, &refused("no-listener"))?;
        ensure!(
            failure.listener.is_none() && failure.candidates.is_empty(),
            "{failure:#?}"
        );
        ensure!(failure.rule.is_none(), "{failure:#?}");
        let (expected, missing) = match lists_bound_sockets(&scene) {
            true => ("certain", 0),
            false => ("probable", 1),
        };
        ensure!(failure.verdict.confidence == expected, "{failure:#?}");
        ensure!(failure.verdict.missing.len() == missing, "{failure:#?}");
        ensure!(
            failure.attempt.remote == failure.upstream.address,
            "{failure:#?}"
        );
        ensure!(failure.attempt.local.is_some(), "{failure:#?}");
        ensure!(failure.attempt.duration_us < 1_000_000, "{failure:#?}");
    }
    scene.end().map(drop)
}

#[test]
fn a_local_address_that_is_not_loopback_is_explained_as_no_listener() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &there,
        ("lan0", &[]),
    )?;
    let config = Config::passing(&[("four", "10.1.0.1:18020"), ("six", "[fd01::1]:18020")]);
    let mut scene = Scene::new(&host, here, &config)?;
    scene.fails("four", &refused("no-listener"))?;
    scene.fails("six", &refused("no-listener"))?;
    scene.end().map(drop)
}

#[test]
fn a_udp_socket_on_the_port_is_explained_as_no_listener() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _four = Backend::start(&here, &["udp", "127.0.0.1:18040"])?;
    let _six = Backend::start(&here, &["udp", "[::1]:18041"])?;
    let config = Config::passing(&[("four", "127.0.0.1:18040"), ("six", "[::1]:18041")]);
    let mut scene = Scene::new(&host, here, &config)?;
    for name in ["four", "six"] {
        let failure = scene.fails(name, &refused("no-listener"))?;
        let told = format!("{:?}", failure.verdict).to_lowercase();
        ensure!(
            told.contains("udp"),
            "the UDP socket is not told: {failure:#?}"
        );
    }
    scene.end().map(drop)
}

#[test]
fn a_socket_that_is_only_bound_is_explained_as_bound_not_listening() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let bound = Backend::start(
        &here,
        &["tcp", "127.0.0.1:18060", "[::1]:18061", "--bind-only"],
    )?;
    let _listening = Backend::start(&here, &["tcp", "127.0.0.1:18062", "[::1]:18063"])?;
    let config = Config::passing(&[
        ("four", "127.0.0.1:18060"),
        ("six", "[::1]:18061"),
        ("healthy-four", "127.0.0.1:18062"),
        ("healthy-six", "[::1]:18063"),
    ]);
    let mut scene = Scene::new(&host, here, &config)?;
    if !lists_bound_sockets(&scene) {
        for name in ["four", "six"] {
            let failure = scene.fails(name, &refused("no-listener"))?;
            ensure!(failure.verdict.confidence == "probable", "{failure:#?}");
        }
        skip("this kernel lists no sockets that are only bound");
        return scene.end().map(drop);
    }
    for name in ["four", "six"] {
        let failure = scene.fails(name, &refused("bound-not-listening"))?;
        let told = format!("{:?}", failure.verdict);
        ensure!(
            told.contains(&bound.pid().to_string()),
            "who bound it is not told: {failure:#?}"
        );
    }
    scene.succeeds("healthy-four")?;
    scene.succeeds("healthy-six")?;
    scene.end().map(drop)
}

#[test]
fn a_listener_on_a_plausible_port_is_explained_as_wrong_port() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (name, dialled, listens) in [
        ("four", "127.0.0.1:18080", "127.0.0.1:18081"),
        ("six", "[::1]:18080", "[::1]:18081"),
    ] {
        let here = Namespace::new()?;
        let backend = Backend::listen(&here, listens)?;
        let mut scene = Scene::new(&host, here, &Config::passing(&[(name, dialled)]))?;
        let failure = scene.fails(name, &refused("wrong-port"))?;
        ensure!(failure.verdict.confidence != "certain", "{failure:#?}");
        let candidate = &failure.candidates[0];
        ensure!(candidate.address == listens, "{failure:#?}");
        ensure!(candidate.pid == Some(backend.pid()), "{failure:#?}");
        ensure!(candidate.comm.as_deref() == Some("backend"), "{failure:#?}");
        ensure!(candidate.netns == scene.namespace.inode(), "{failure:#?}");
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_listener_that_serves_another_upstream_leaves_it_at_no_listener() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "127.0.0.1:18101")?;
    let config = Config::passing(&[("dead", "127.0.0.1:18100"), ("healthy", "127.0.0.1:18101")]);
    let mut scene = Scene::new(&host, here, &config)?;
    scene.fails("dead", &refused("no-listener"))?;
    scene.succeeds("healthy")?;
    scene.end().map(drop)
}
