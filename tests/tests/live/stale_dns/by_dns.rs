//! The same in DNS, which this tool has to ask for itself.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Event;
use whyrefused_tests::host::{Host, skip};
use whyrefused_tests::name_service::NameService;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::scene::{Scene, refused};
use whyrefused_tests::tracer::Tracer;

use super::{passing, says};

/// A namespace in which a DNS server answers, and an nginx that asks it.
fn served(
    upstreams: &[(&str, &str)],
    zone: &str,
) -> Result<Option<(Namespace, Backend, Config, NameService)>> {
    if !Path::new("/etc/resolv.conf").exists() {
        skip("this host has no /etc/resolv.conf to put another in its place");
        return Ok(None);
    }
    let (config, names) = passing(upstreams, "127.0.0.1 localhost\n")?;
    names.change_zone(zone)?;
    let namespace = Namespace::new()?;
    let zone = names.zone();
    let server = Backend::start(
        &namespace,
        &["dns", "127.0.0.1:53", &zone.to_string_lossy()],
    )?;
    Ok(Some((namespace, server, config, names)))
}

#[test]
fn a_name_that_moved_in_dns_is_told_from_one_that_stayed_or_is_gone() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let upstreams = [
        ("moved", "moved.test:25070"),
        ("stayed", "stayed.test:25071"),
        ("gone", "gone.test:25072"),
    ];
    let before = "127.0.0.2 moved.test\n127.0.0.2 stayed.test\n127.0.0.2 gone.test\n";
    let Some((namespace, _server, config, names)) = served(&upstreams, before)? else {
        return Ok(());
    };
    let mut scene = Scene::new(&host, namespace, &config)?;
    names.change_zone("127.0.0.3 moved.test\n127.0.0.2 stayed.test\n")?;
    let failure = scene.fails("moved", &refused("stale-dns"))?;
    says(
        &failure,
        "probable",
        &["moved.test", "127.0.0.3", "127.0.0.1:53"],
    )?;
    ensure!(!failure.verdict.missing.is_empty(), "{failure:#?}");
    scene.fails("stayed", &refused("no-listener"))?;
    let failure = scene.fails("gone", &refused("no-listener"))?;
    let missing = failure.verdict.missing.join("\n");
    ensure!(
        missing.contains("whether gone.test still has 127.0.0.2"),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn whoever_forbids_questions_to_dns_gets_the_ordinary_verdict() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let upstreams = [("moved", "moved.test:25080")];
    let Some((namespace, _server, config, names)) = served(&upstreams, "127.0.0.2 moved.test\n")?
    else {
        return Ok(());
    };
    let nginx = Nginx::start(&host, &namespace, &config)?;
    let pid = nginx.pid().to_string();
    let tracer = Tracer::start(&host, &["--coalesce", "0", "--no-dns", "--pid", &pid])?;
    let mut scene = Scene::of(&host, namespace, nginx, tracer);
    names.change_zone("127.0.0.3 moved.test\n")?;
    let failure = scene.fails("moved", &refused("no-listener"))?;
    let missing = failure.verdict.missing.join("\n");
    ensure!(missing.contains("--no-dns"), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn a_dns_server_that_says_nothing_delays_an_explanation_and_no_more() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let upstreams = [("moved", "moved.test:25090"), ("other", "127.0.0.1:25091")];
    let Some((namespace, server, config, _names)) = served(&upstreams, "127.0.0.2 moved.test\n")?
    else {
        return Ok(());
    };
    let mut scene = Scene::new(&host, namespace, &config)?;
    drop(server);
    let _silent = Backend::start(&scene.namespace, &["udp", "127.0.0.1:53"])?;
    ensure!(scene.get("moved")?.status >= 500, "it did not fail");
    scene.fails("other", &refused("no-listener"))?;
    let failure = scene.explained("moved", &refused("no-listener"))?;
    let missing = failure.verdict.missing.join("\n");
    ensure!(
        missing.contains("whether moved.test still has 127.0.0.2"),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn an_attempt_that_waits_for_dns_is_told_when_the_trace_ends() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let upstreams = [("moved", "moved.test:25100")];
    let Some((namespace, server, config, _names)) = served(&upstreams, "127.0.0.2 moved.test\n")?
    else {
        return Ok(());
    };
    let nginx = Nginx::start(&host, &namespace, &config)?;
    let tracer = Tracer::watch(&host, nginx.pid())?;
    drop(server);
    let _silent = Backend::start(&namespace, &["udp", "127.0.0.1:53"])?;
    ensure!(
        nginx.get(&namespace, "moved")?.status >= 500,
        "it did not fail"
    );
    let finished = tracer.stop(Signal::SIGINT)?;
    let [Event::Failure(failure)] = &finished.unclaimed[..] else {
        anyhow::bail!("{finished:#?}");
    };
    ensure!(failure.verdict.code == "no-listener", "{failure:#?}");
    let end = finished.end.context("no end event")?;
    ensure!(end.losses.is_empty(), "{end:#?}");
    Ok(())
}
