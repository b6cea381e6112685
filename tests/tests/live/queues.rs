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

/// A listener in a container that never accepts, and what fills its queue.
fn stuck(container: &Namespace, address: &str) -> Result<(Backend, Vec<TcpStream>)> {
    let backend = Backend::start(
        container,
        &["tcp", address, "--never-accept", "--backlog", "2"],
    )?;
    let held = container.inside(|| {
        (0..3)
            .map(|_| TcpStream::connect(address))
            .collect::<std::io::Result<Vec<_>>>()
            .context("cannot fill the queue")
    })?;
    Ok((backend, held))
}

#[test]
fn a_full_accept_queue_behind_a_translation_is_told() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if program("nft", "nftables").is_err() {
        skip("nft is not installed");
        return Ok(());
    }
    let (here, container) = (Namespace::new()?, Namespace::new()?);
    here.address("lo", &["203.0.113.7/32"])?;
    here.link(
        ("docker0", &["172.17.0.1/16"]),
        &container,
        ("eth0", &["172.17.0.2/16"]),
    )?;
    container.ip("route add default via 172.17.0.1")?;
    // A service address leads by a route of its own, a published port is at home here.
    here.ip("route add 10.96.0.0/16 dev docker0")?;
    here.nft(
        "table ip lab { chain output { type nat hook output priority -100
  ip daddr 10.96.0.10 tcp dport 80 dnat to 172.17.0.2:28120
  ip daddr 203.0.113.7 tcp dport 28121 dnat to 172.17.0.2:28120
  }
}",
    )?;
    let _stuck = stuck(&container, "172.17.0.2:28120")?;
    let _healthy = Backend::listen(&container, "172.17.0.2:28129")?;
    let upstreams = [
        ("service", "10.96.0.10:80"),
        ("published", "203.0.113.7:28121"),
        ("healthy", "172.17.0.2:28129"),
    ];
    let config = Config::passing(&upstreams).connect_timeout("1500ms");
    let mut scene = Scene::new(&host, here, &config)?;
    // The way to the container is known.
    scene.succeeds("healthy")?;
    for name in ["service", "published"] {
        let expected = timed_out("accept-queue-full").sent_to("172.17.0.2:28120");
        let failure = scene.fails(name, &expected)?;
        ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
        let listener = failure.listener.as_ref();
        ensure!(
            listener.is_some_and(|told| told.netns == container.inode()),
            "{failure:#?}"
        );
    }
    scene.end().map(drop)
}

#[test]
fn a_copy_for_a_promiscuous_bridge_is_not_taken_for_the_lost_syn() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    // The bridge of a host and two containers; nginx is in one of them.
    let (bridge, here, container) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
    bridge.ip("link add docker0 type bridge\nlink set docker0 promisc on up\n")?;
    bridge.address("docker0", &["172.17.0.1/16"])?;
    bridge.link(("port0", &[]), &here, ("eth0", &["172.17.0.2/16"]))?;
    bridge.link(("port1", &[]), &container, ("eth0", &["172.17.0.3/16"]))?;
    bridge.ip("link set port0 master docker0\nlink set port1 master docker0\n")?;
    let _stuck = stuck(&container, "172.17.0.3:28150")?;
    let _healthy = Backend::listen(&container, "172.17.0.3:28159")?;
    let upstreams = [("app", "172.17.0.3:28150"), ("healthy", "172.17.0.3:28159")];
    let config = Config::passing(&upstreams).connect_timeout("1500ms");
    let mut scene = Scene::new(&host, here, &config)?;
    scene.succeeds("healthy")?;
    let failure = scene.fails("app", &timed_out("accept-queue-full"))?;
    ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
    scene.end().map(drop)
}
