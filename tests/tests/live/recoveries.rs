//! When an upstream that failed is said to accept again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::client;
use whyrefused_tests::contract::{Event, Recovery};
use whyrefused_tests::host::{Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, DOOR, Nginx, path_to};
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::scene::Scene;
use whyrefused_tests::tracer::Tracer;

/// Every recovery that the tool told and nobody asked for yet, and how often an attempt failed.
fn recoveries(tracer: Tracer) -> Result<(Vec<Recovery>, u64)> {
    let finished = tracer.stop(Signal::SIGINT)?;
    let end = finished.end.context("no end event")?;
    let told = finished.unclaimed.into_iter();
    let told = told.filter_map(|event| match event {
        Event::Recovery(recovery) => Some(recovery),
        _ => None,
    });
    Ok((told.collect(), end.verdicts.values().sum()))
}

#[test]
fn a_recovery_under_steady_load_is_told_once() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let config = Config {
        workers: 2,
        ..Config::passing(&[("app", "127.0.0.1:21300")])
    };
    let nginx = Nginx::start(&host, &here, &config)?;
    let mut tracer = Tracer::start(&host, &["--pid", &nginx.pid().to_string()])?;
    let stop = AtomicBool::new(false);
    let get = || client::get(&here, DOOR, &path_to("app"));
    let _backend = thread::scope(|scope| -> Result<Backend> {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = get();
                }
            });
        }
        let came = tracer.failure(SOON, |_| true).and_then(|_| {
            let backend = Backend::listen(&here, "127.0.0.1:21300")?;
            wait_for("an answer", SOON, || {
                Ok(get().ok().filter(|it| it.status == 200))
            })?;
            tracer.recovery()?;
            Ok(backend)
        });
        stop.store(true, Ordering::Relaxed);
        came
    })?;
    let (more, _) = recoveries(tracer)?;
    ensure!(more.is_empty(), "told again: {more:?}");
    Ok(())
}

#[test]
fn a_connection_right_after_a_failure_is_a_recovery() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if program("nft", "nftables").is_err() {
        skip("nft is not installed");
        return Ok(());
    }
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "127.0.0.1:21310")?;
    // Two connections in a minute are too many: the first is refused, the next is not.
    here.filter(
        "input",
        "tcp dport 21310 tcp flags syn / syn,ack limit rate 1/hour burst 1 packets reject with tcp reset",
    )?;
    let scene = Scene::new(&host, here, &Config::passing(&[("app", "127.0.0.1:21310")]))?;
    ensure!(scene.get("app")?.status == 502);
    scene.succeeds("app")?;
    scene.succeeds("app")?;
    let (told, failed) = recoveries(scene.tracer)?;
    ensure!(failed == 1, "{failed} failures");
    let [recovery] = &told[..] else {
        anyhow::bail!("one recovery was due: {told:?}");
    };
    ensure!(recovery.failures == 1, "{recovery:?}");
    ensure!(recovery.down_for_ms < 10_000, "{recovery:?}");
    Ok(())
}
