//! A listener that is there and whose queues are full.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::{Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Scene, timed_out};

/// Two namespaces with a cable; what the second one is answered from `port` it drops.
fn with_a_deaf_neighbour(port: u16) -> Result<(Namespace, Namespace)> {
    let (here, deaf) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24"]),
        &deaf,
        ("eth0", &["10.1.0.2/24"]),
    )?;
    deaf.filter("input", &format!("tcp sport {port} drop"))?;
    Ok((here, deaf))
}

/// Opens `count` connections from a namespace that never hears the answer.
fn open_halfway(deaf: &Namespace, to: &str, count: usize) -> Result<()> {
    let to: SocketAddr = to.parse()?;
    deaf.inside(|| {
        for _ in 0..count {
            let opened = TcpStream::connect_timeout(&to, Duration::from_millis(5));
            ensure!(opened.is_err(), "the answer got through");
        }
        Ok(())
    })
}

#[test]
fn half_open_connections_without_cookies_are_explained_as_syn_queue_full() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if program("nft", "nftables").is_err() {
        skip("nft is not installed");
        return Ok(());
    }
    let (here, deaf) = with_a_deaf_neighbour(23100)?;
    here.sysctl("ipv4/tcp_syncookies", "0")?;
    let _backend = Backend::start(&here, &["tcp", "0.0.0.0:23100", "--backlog", "4"])?;
    let config = Config::passing(&[("app", "127.0.0.1:23100")]).connect_timeout("1500ms");
    let mut scene = Scene::new(&host, here, &config)?;
    scene.succeeds("app")?;
    open_halfway(&deaf, "10.1.0.1:23100", 16)?;
    let failure = scene.fails("app", &timed_out("syn-queue-full"))?;
    ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
    ensure!(
        failure.listener.is_some(),
        "the listener is not told: {failure:#?}"
    );
    // With cookies the same crowd hurts nobody.
    scene.namespace.sysctl("ipv4/tcp_syncookies", "1")?;
    scene.succeeds("app")?;
    scene.end().map(drop)
}

#[test]
fn a_full_accept_queue_tells_its_limit_and_how_long_it_has_waited() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::start(
        &here,
        &["tcp", "127.0.0.1:23110", "--never-accept", "--backlog", "2"],
    )?;
    let config = Config::passing(&[("app", "127.0.0.1:23110")]).connect_timeout("1500ms");
    let mut scene = Scene::new(&host, here, &config)?;
    let _held = scene.namespace.inside(|| {
        (0..3)
            .map(|_| TcpStream::connect("127.0.0.1:23110"))
            .collect::<std::io::Result<Vec<_>>>()
            .context("cannot fill the queue")
    })?;
    let failure = scene.fails("app", &timed_out("accept-queue-full"))?;
    let because = failure.verdict.because.join("\n");
    for told in [
        "held 3 connections",
        "the limit is 2",
        "3 connections stand that no process has accepted",
        "the backlog that the process asked for",
    ] {
        ensure!(because.contains(told), "{told:?} is not told: {failure:#?}");
    }
    scene.end().map(drop)
}
