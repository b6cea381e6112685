//! Healthy traffic yields no failure.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Upstream};
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::scene::Scene;

/// Both families through two workers.
fn healthy(
    addresses: [(&str, &str); 2],
    lines: &str,
    location: &str,
) -> Result<Option<(Scene, Backend)>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    let here = Namespace::new()?;
    let backend = Backend::start(&here, &["tcp", addresses[0].1, addresses[1].1])?;
    let upstreams = addresses.map(|(name, address)| {
        Upstream::new(name, address)
            .with(lines)
            .in_location(location)
    });
    let config = Config {
        workers: 2,
        ..Config::of(upstreams.into())
    };
    Ok(Some((Scene::new(&host, here, &config)?, backend)))
}

const KEEPALIVE: (&str, &str) = (
    "keepalive 4;",
    "proxy_http_version 1.1; proxy_set_header Connection '';",
);

#[test]
fn fresh_connections_yield_no_failure() -> Result<()> {
    let Some((scene, _backend)) = healthy(loopback!(16010), "", "")? else {
        return Ok(());
    };
    for _ in 0..100 {
        scene.succeeds("four")?;
        scene.succeeds("six")?;
    }
    let end = scene.end()?;
    ensure!(
        end.verdicts.is_empty() && end.upstreams.is_empty(),
        "{end:?}"
    );
    Ok(())
}

#[test]
fn kept_connections_yield_no_failure() -> Result<()> {
    let Some((scene, _backend)) = healthy(loopback!(16020), KEEPALIVE.0, KEEPALIVE.1)? else {
        return Ok(());
    };
    for _ in 0..100 {
        scene.succeeds("four")?;
        scene.succeeds("six")?;
    }
    scene.end().map(drop)
}

#[test]
fn idle_connections_that_the_backend_ends_yield_no_failure() -> Result<()> {
    let Some((scene, backend)) = healthy(loopback!(16030), KEEPALIVE.0, KEEPALIVE.1)? else {
        return Ok(());
    };
    for _ in 0..10 {
        scene.succeeds("four")?;
    }
    // The backend dies while nobody asks for anything: no attempt, no failure.
    drop(backend);
    scene.end().map(drop)
}

#[test]
fn reloads_under_load_yield_no_failure() -> Result<()> {
    let Some((mut scene, _backend)) = healthy(loopback!(16040), "", "")? else {
        return Ok(());
    };
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let namespace = Namespace::clone(&scene.namespace);
    let failed = thread::scope(|scope| -> Result<Vec<String>> {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (stop, served, namespace) = (&stop, &served, &namespace);
                scope.spawn(move || -> Vec<String> {
                    let name = ["four", "six"][number % 2];
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        // A client whose connection the old workers no longer accept is none of
                        // the upstream's business, a bad status is.
                        if let Ok(response) = whyrefused_tests::client::get(
                            namespace,
                            whyrefused_tests::nginx::DOOR,
                            &whyrefused_tests::nginx::path_to(name),
                        ) {
                            if response.status != 200 {
                                failed.push(format!("{response:?}"));
                            }
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    failed
                })
            })
            .collect();
        let reloaded = (0..3).try_for_each(|_| {
            let target = served.load(Ordering::Relaxed) + 100;
            wait_for("some load", SOON, || {
                Ok((served.load(Ordering::Relaxed) > target).then_some(()))
            })?;
            let config = scene.nginx.config().clone();
            scene.nginx.reload(&config)
        });
        stop.store(true, Ordering::Relaxed);
        let failed = clients
            .into_iter()
            .flat_map(|client| client.join().unwrap_or_default());
        let failed = failed.collect();
        reloaded.map(|()| failed)
    })?;
    ensure!(failed.is_empty(), "{failed:?}");
    scene.end().map(drop)
}
