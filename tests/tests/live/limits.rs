//! nginx's host or nginx itself has run out of something.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx, Upstream};
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::scene::{Expected, Scene, denied, failed_to_bind, no_socket, refused};
use whyrefused_tests::sockets;

/// The sockets of an idle worker: where nginx listens, and the channel to its master.
const LISTENER_AND_CHANNEL: usize = 2;

/// Connections to `address`, one for each of the four local ports that there are.
fn use_up_ports(here: &Namespace, address: &str) -> Result<Vec<TcpStream>> {
    let address: SocketAddr = address.parse()?;
    here.inside(|| {
        let connections = (0..4).map(|_| Ok(TcpStream::connect(address)?));
        connections
            .collect::<Result<Vec<_>>>()
            .context("cannot use up the ports")
    })
}

#[test]
fn held_connections_on_every_local_port_are_explained_as_ports_exhausted() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(17500);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::start(
        &here,
        &["tcp", ADDRESSES[0].1, ADDRESSES[1].1, "127.0.0.1:17000"],
    )?;
    let config = Config::passing(&[ADDRESSES[0], ADDRESSES[1], ("other", "127.0.0.1:17000")]);
    let mut scene = Scene::new(&host, here, &config)?;
    scene
        .namespace
        .sysctl("ipv4/ip_local_port_range", "50000 50003")?;
    for (name, address) in ADDRESSES {
        let _held = use_up_ports(&scene.namespace, address)?;
        let failure = scene.fails(name, &denied("ports-exhausted", "EADDRNOTAVAIL"))?;
        let told = format!("{:?}", failure.verdict);
        ensure!(
            told.contains("50000") && told.contains("50003"),
            "the range is not told: {failure:#?}"
        );
        // Ports are used up towards one destination, not towards all.
        scene.succeeds("other")?;
    }
    scene.end().map(drop)
}

#[test]
fn connections_in_time_wait_on_every_local_port_are_explained_as_ports_exhausted() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(17510);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, ADDRESSES[0].1)?;
    // Loopback may otherwise take a port back after a second (tcp_twsk_unique).
    here.sysctl("ipv4/tcp_tw_reuse", "0")?;
    let mut scene = Scene::new(&host, here, &Config::passing(&[ADDRESSES[0]]))?;
    scene
        .namespace
        .sysctl("ipv4/ip_local_port_range", "50000 50003")?;
    drop(use_up_ports(&scene.namespace, ADDRESSES[0].1)?);
    wait_for("the connections to end in TIME_WAIT", SOON, || {
        let mut waiting = sockets::list(&scene.namespace)?;
        waiting.retain(|socket| socket.remote_port == 17510 && socket.state == sockets::TIME_WAIT);
        Ok((waiting.len() == 4).then_some(()))
    })?;
    let failure = scene.fails("four", &denied("ports-exhausted", "EADDRNOTAVAIL"))?;
    let told = format!("{:?}", failure.verdict);
    ensure!(
        told.contains("TIME_WAIT"),
        "TIME_WAIT is not told: {failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn a_proxy_bind_address_that_is_not_here_is_explained_as_bind_failed() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(17520);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", ADDRESSES[0].1, ADDRESSES[1].1])?;
    let bind = ["proxy_bind 10.9.9.9;", "proxy_bind fd99::9;"];
    let upstreams = ADDRESSES.iter().zip(bind);
    let config = Config::of(
        upstreams
            .map(|((name, address), bind)| Upstream::new(name, address).in_location(bind))
            .collect(),
    );
    let mut scene = Scene::new(&host, here, &config)?;
    for ((name, _), bound) in ADDRESSES.into_iter().zip(["10.9.9.9", "fd99::9"]) {
        let failure = scene.fails(name, &failed_to_bind("EADDRNOTAVAIL"))?;
        let told = format!("{:?}", failure.verdict);
        ensure!(
            told.contains(bound),
            "the address is not told: {failure:#?}"
        );
    }
    scene.end().map(drop)
}

#[test]
fn a_proxy_bind_port_in_use_is_explained_as_bind_failed() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", "127.0.0.1:17040", "127.0.0.3:17041"])?;
    let upstream =
        Upstream::new("four", "127.0.0.1:17040").in_location("proxy_bind 127.0.0.3:17041;");
    let mut scene = Scene::new(&host, here, &Config::of(vec![upstream]))?;
    scene.fails("four", &failed_to_bind("EADDRINUSE"))?;
    scene.end().map(drop)
}

#[test]
fn a_proxy_bind_that_works_is_no_failure() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "127.0.0.1:17060")?;
    let upstream = Upstream::new("four", "127.0.0.1:17060").in_location("proxy_bind 127.0.0.3;");
    let scene = Scene::new(&host, here, &Config::of(vec![upstream]))?;
    scene.succeeds("four")?;
    scene.end().map(drop)
}

#[test]
fn a_worker_without_a_free_descriptor_is_explained_as_fd_limit() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(17530);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", ADDRESSES[0].1, ADDRESSES[1].1])?;
    let unlimited = Nginx::start(&host, &here, &Config::passing(&ADDRESSES))?;
    for (name, _) in ADDRESSES {
        ensure!(unlimited.get(&here, name)?.status == 200);
    }
    let limit = second_free_descriptor(&unlimited)?;
    drop(unlimited);
    // Room for the client and for nothing else.
    let main = format!("worker_rlimit_nofile {limit};");
    let config = Config {
        main,
        ..Config::passing(&ADDRESSES)
    };
    let mut scene = Scene::new(&host, here, &config)?;
    for (name, _) in ADDRESSES {
        let failure = scene.fails(name, &no_socket("fd-limit", "EMFILE"))?;
        let told = format!("{:?}", failure.verdict);
        ensure!(
            told.contains(&limit.to_string()),
            "the limit is not told: {failure:#?}"
        );
    }
    scene.end().map(drop)
}

/// The second of the descriptors that the worker of an idle nginx would get.
fn second_free_descriptor(nginx: &Nginx) -> Result<usize> {
    let worker = *nginx.workers()?.first().context("no worker")?;
    // It keeps those of the last request for a moment.
    wait_for("the worker's sockets to be closed", SOON, || {
        let mut sockets = 0;
        let mut taken = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/{worker}/fd"))? {
            let entry = entry?;
            taken.insert(entry.file_name().to_string_lossy().parse::<usize>()?);
            let target = fs::read_link(entry.path()).unwrap_or_default();
            sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
        }
        let idle = sockets == LISTENER_AND_CHANNEL;
        Ok(idle
            .then(|| (0..).filter(|number| !taken.contains(number)).nth(1))
            .flatten())
    })
}

#[test]
fn a_socket_that_connects_to_itself_is_explained_as_self_connect() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(17540);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (name, address) in ADDRESSES {
        let config = Config::passing(&[(name, address)]);
        let mut scene = Scene::new(&host, Namespace::new()?, &config)?;
        scene
            .namespace
            .sysctl("ipv4/ip_local_port_range", "17540 17540")?;
        // nginx reads its own request as the response, so what the client gets says nothing.
        let client = scene.nginx.send(&scene.namespace, name)?;
        let expected = Expected {
            surface: "none",
            errno: None,
            logged: false,
            ..refused("self-connect")
        };
        let failure = scene.explained(name, &expected)?;
        ensure!(
            failure.attempt.local.as_deref() == Some(address),
            "{failure:#?}"
        );
        drop(client);
        scene.end()?;
    }
    Ok(())
}
