//! What ends an attempt that nobody answers.

use std::fs;

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::{Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::process::run;
use whyrefused_tests::scene::{Scene, aborted};
use whyrefused_tests::sockets;
use whyrefused_tests::wire::Wire;

/// Waits until nginx has a connection attempt under way whose SYN was sent again so many times.
fn wait_for_syn_sent(namespace: &Namespace, retransmissions: u32) -> Result<()> {
    wait_for("nginx to dial", SOON, || {
        let dialling = sockets::list(namespace)?.into_iter().any(|socket| {
            socket.state == sockets::SYN_SENT && socket.retransmissions >= retransmissions
        });
        Ok(dialling.then_some(()))
    })
}

#[test]
fn a_client_that_leaves_while_nobody_answers_is_told_as_a_client_abort() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if fs::metadata("/dev/net/tun").is_err() {
        skip("this host has no /dev/net/tun");
        return Ok(());
    }
    let here = Namespace::new()?;
    let _wire = Wire::stretch(&here, &[])?;
    let config = Config::passing(&[("four", "10.77.0.2:23000"), ("six", "[fd77::2]:23000")])
        .connect_timeout("20s");
    let mut scene = Scene::new(&host, here, &config)?;
    for name in ["four", "six"] {
        let client = scene.nginx.send(&scene.namespace, name)?;
        wait_for_syn_sent(&scene.namespace, 1)?;
        drop(client);
        scene.explained(name, &aborted("no-answer"))?;
    }
    scene.end().map(drop)
}

#[test]
fn a_client_that_leaves_at_once_makes_silence_only_a_possible_no_answer() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if fs::metadata("/dev/net/tun").is_err() {
        skip("this host has no /dev/net/tun");
        return Ok(());
    }
    let here = Namespace::new()?;
    let _wire = Wire::stretch(&here, &[])?;
    let config = Config::passing(&[("app", "10.77.0.2:23010")]).connect_timeout("20s");
    let mut scene = Scene::new(&host, here, &config)?;
    let client = scene.nginx.send(&scene.namespace, "app")?;
    wait_for_syn_sent(&scene.namespace, 0)?;
    drop(client);
    let failure = scene.explained("app", &aborted("no-answer"))?;
    ensure!(
        failure.verdict.confidence == "possible",
        "too sure: {failure:#?}"
    );
    ensure!(
        !failure.verdict.missing.is_empty(),
        "what is missing is not told: {failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn a_socket_that_somebody_destroyed_is_not_blamed_on_the_other_end() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let Ok(ss) = program("ss", "iproute2") else {
        skip("ss is not installed");
        return Ok(());
    };
    if fs::metadata("/dev/net/tun").is_err() {
        skip("this host has no /dev/net/tun");
        return Ok(());
    }
    let here = Namespace::new()?;
    let _wire = Wire::stretch(&here, &[])?;
    let config = Config::passing(&[("app", "10.77.0.2:23020")]).connect_timeout("3s");
    let mut scene = Scene::new(&host, here, &config)?;
    let _client = scene.nginx.send(&scene.namespace, "app")?;
    wait_for_syn_sent(&scene.namespace, 0)?;
    let destroyed = run(scene
        .namespace
        .command(ss)
        .args(["-K", "-H", "-t", "dport", "=", "23020"]))?;
    if destroyed.stdout.is_empty() {
        skip("this kernel does not let anybody destroy sockets (CONFIG_INET_DIAG_DESTROY)");
        return Ok(());
    }
    let failure = scene.tracer.failure(SOON, |_| true)?;
    let said = failure.verdict.code.as_str();
    ensure!(
        ["undetermined", "socket-aborted"].contains(&said),
        "{failure:#?}"
    );
    ensure!(
        failure.attempt.errno.as_deref() == Some("ECONNABORTED"),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_full_accept_queue_is_not_blamed_on_the_way() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let backend = Backend::start(
        &here,
        &["tcp", "127.0.0.1:23040", "--never-accept", "--backlog", "0"],
    )?;
    let config = Config::passing(&[("app", "127.0.0.1:23040")]).connect_timeout("2500ms");
    let mut scene = Scene::new(&host, here, &config)?;
    // A queue with limit 0 takes one connection (sk_acceptq_is_full).
    let _held = scene
        .namespace
        .inside(|| Ok(std::net::TcpStream::connect("127.0.0.1:23040")?))?;
    ensure!(scene.get("app")?.status == 504);
    let failure = scene.tracer.failure(SOON, |_| true)?;
    let said = failure.verdict.code.as_str();
    ensure!(
        ["undetermined", "accept-queue-full"].contains(&said),
        "{failure:#?}"
    );
    let told = format!("{:?} {:?}", failure.verdict, failure.listener);
    ensure!(
        told.contains(&backend.pid().to_string()),
        "the listener is not told: {failure:#?}"
    );
    if said == "undetermined" {
        ensure!(
            !failure.verdict.missing.is_empty(),
            "what is missing is not told: {failure:#?}"
        );
    }
    Ok(())
}

#[test]
fn a_syn_that_is_answered_late_is_no_failure() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if program("nft", "nftables").is_err() {
        skip("nft is not installed");
        return Ok(());
    }
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "127.0.0.1:23060")?;
    // The first SYN is lost and the second, a second later, arrives.
    here.filter(
        "input",
        "tcp dport 23060 tcp flags syn limit rate over 1/minute burst 1 packets accept
tcp dport 23060 tcp flags syn drop",
    )?;
    let scene = Scene::new(&host, here, &Config::passing(&[("app", "127.0.0.1:23060")]))?;
    scene.succeeds("app")?;
    scene.end().map(drop)
}

#[test]
fn a_client_that_leaves_a_slow_backend_is_no_failed_connection() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let mut backend = Backend::listen(&here, "127.0.0.1:23080")?;
    let scene = Scene::new(&host, here, &Config::passing(&[("app", "127.0.0.1:23080")]))?;
    backend.order("stop")?;
    let client = scene.nginx.send(&scene.namespace, "app")?;
    wait_for("nginx to be connected", SOON, || {
        let connected = sockets::list(&scene.namespace)?
            .into_iter()
            .any(|socket| socket.remote_port == 23080 && socket.state == sockets::ESTABLISHED);
        Ok(connected.then_some(()))
    })?;
    drop(client);
    wait_for("nginx to log the client's end", SOON, || {
        let said = |line: &String| line.contains("client prematurely closed connection");
        Ok(scene.nginx.errors()?.iter().any(said).then_some(()))
    })?;
    scene.end().map(drop)
}
