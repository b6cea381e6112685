//! Many namespaces, many listeners, and neighbours that come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::scene::{Scene, refused};
use whyrefused_tests::tracer::Tracer;

#[test]
fn two_thousand_listeners_in_two_hundred_namespaces_do_no_harm() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let mut crowd = Vec::new();
    for _ in 0..200 {
        let namespace = Namespace::new()?;
        let addresses: Vec<String> = (0..10)
            .map(|port| format!("127.0.0.1:{}", 20_000 + port))
            .collect();
        let arguments: Vec<&str> = ["tcp"]
            .into_iter()
            .chain(addresses.iter().map(String::as_str))
            .collect();
        crowd.push((Backend::start(&namespace, &arguments)?, namespace));
    }
    let config = Config::passing(&[
        ("dead", "127.0.0.1:12000"),
        ("elsewhere", "127.0.0.1:20003"),
    ]);
    let mut scene = Scene::new(&host, Namespace::new()?, &config)?;
    println!("attached in {:?}", scene.tracer.attached_in);
    scene.fails("dead", &refused("no-listener"))?;
    let failure = scene.fails("elsewhere", &refused("other-netns"))?;
    ensure!(
        crowd
            .iter()
            .any(|(_, there)| failure.candidates[0].netns == there.inode()),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn namespaces_that_vanish_while_they_are_read_do_no_harm() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let nginx = Nginx::start(
        &host,
        &here,
        &Config::passing(&[("app", "127.0.0.1:12020")]),
    )?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let churn = scope.spawn(|| -> Result<u32> {
            let mut vanished = 0;
            while !stop.load(Ordering::Relaxed) {
                let namespace = Namespace::new()?;
                let _backend = Backend::listen(&namespace, "127.0.0.1:12020")?;
                vanished += 1;
            }
            Ok(vanished)
        });
        let watched = watch_a_while(&host, here, nginx);
        stop.store(true, Ordering::Relaxed);
        let vanished = churn
            .join()
            .map_err(|_| anyhow::anyhow!("the churn panicked"))??;
        ensure!(vanished > 0, "nothing vanished");
        watched
    })
}

/// Whether a passing namespace had the listener at that moment is anybody's guess.
fn watch_a_while(host: &Host, here: Namespace, nginx: Nginx) -> Result<()> {
    for _ in 0..3 {
        let mut tracer = Tracer::watch(host, nginx.pid())?;
        for _ in 0..5 {
            ensure!(nginx.get(&here, "app")?.status == 502);
            let failure = tracer.failure(whyrefused_tests::patience::SOON, |_| true)?;
            let said = failure.verdict.code.as_str();
            ensure!(
                ["no-listener", "other-netns"].contains(&said),
                "{failure:#?}"
            );
        }
        let finished = tracer.stop(nix::sys::signal::Signal::SIGINT)?;
        ensure!(finished.status.code() == Some(0), "{finished:#?}");
    }
    Ok(())
}
