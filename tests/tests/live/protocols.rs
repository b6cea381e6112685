//! Backends that speak another protocol than nginx does to them, and names that no resolver knows.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::{Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx, Upstream};
use whyrefused_tests::patience::SOON;
use whyrefused_tests::process;
use whyrefused_tests::scene::{Scene, met, timed_out};
use whyrefused_tests::scratch;
use whyrefused_tests::tracer::Tracer;

/// A key and a certificate of its own in that directory.
fn certificate(directory: &Path) -> Result<String> {
    let path = directory.display();
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    command.args(["-nodes", "-days", "2", "-subj", "/CN=lab.test"]);
    command.arg("-keyout").arg(directory.join("key.pem"));
    command.arg("-out").arg(directory.join("cert.pem"));
    process::run(&mut command)?;
    Ok(format!(
        "ssl_certificate {path}/cert.pem; ssl_certificate_key {path}/key.pem;"
    ))
}

/// An nginx that serves TLS on these addresses and passes on nothing.
fn tls_backend(
    host: &Host,
    here: &Namespace,
    addresses: [&str; 4],
    directory: &Path,
) -> Result<Nginx> {
    let mut config = Config::of(Vec::new());
    config.door = ([127, 0, 0, 1], 8089).into();
    config.http = format!(
        "server {{ {} {} location / {{ return 200 ok; }} }}",
        addresses
            .map(|address| format!("listen {address} ssl;"))
            .concat(),
        certificate(directory)?
    );
    Nginx::start(host, here, &config)
}

#[test]
fn plain_text_towards_tls_is_another_protocol_and_tls_towards_it_is_none() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if program("openssl", "openssl").is_err() {
        skip("openssl is not installed");
        return Ok(());
    }
    let here = Namespace::new()?;
    let directory = scratch::directory("tls-")?;
    let addresses = [
        "127.0.0.1:23600",
        "127.0.0.1:23601",
        "127.0.0.1:23602",
        "127.0.0.1:23603",
    ];
    let _tls = tls_backend(&host, &here, addresses, directory.path())?;
    let config = Config::of(vec![
        Upstream::new("plain", addresses[0]),
        Upstream::new("tls", addresses[1]).by("proxy_pass https://"),
        Upstream::new("strict", addresses[2])
            .by("proxy_pass https://")
            .in_location("proxy_ssl_verify on; proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;"),
        Upstream::new("h2", addresses[3]).by("grpc_pass grpc://"),
    ]);
    let mut scene = Scene::new(&host, here, &config)?;
    // nginx answers plain text on a TLS port with 400, in plain text.
    ensure!(scene.get("plain")?.status == 400);
    scene.succeeds("tls")?;
    let status = scene.get("h2")?.status;
    ensure!(status == 502, "{status}");
    scene.explained("h2", &met("protocol-mismatch", None))?;
    if Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        let failure = scene.fails("strict", &met("undetermined", None))?;
        ensure!(
            failure.verdict.summary.contains("certificate"),
            "{failure:#?}"
        );
    }
    scene.end().map(drop)
}

#[test]
fn other_protocols_towards_http_are_told() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (address, pass) in [
        ("127.0.0.1:23610", "proxy_pass https://"),
        ("127.0.0.1:23611", "grpc_pass grpc://"),
        ("127.0.0.1:23612", "fastcgi_pass "),
        ("127.0.0.1:23613", "set $memcached_key k; memcached_pass "),
    ] {
        let here = Namespace::new()?;
        let mut config = Config::of(Vec::new());
        config.door = address.parse()?;
        let _plain = Nginx::start(&host, &here, &config)?;
        let upstream = Upstream::new("app", address).by(pass);
        let scene = Scene::new(&host, here, &Config::of(vec![upstream]))?;
        let status = scene.get("app")?.status;
        let Scene {
            mut tracer, nginx, ..
        } = scene;
        let failure = tracer.failure(SOON, |_| true);
        let errors = nginx.errors()?;
        let failure =
            failure.map_err(|error| anyhow::anyhow!("{pass} {status} {errors:?} {error}"))?;
        ensure!(
            failure.verdict.code == "protocol-mismatch",
            "{pass} {errors:?} {failure:#?}"
        );
        let finished = tracer.stop(Signal::SIGINT)?;
        ensure!(finished.unclaimed.is_empty(), "{:#?}", finished.unclaimed);
    }
    Ok(())
}

/// A resolver that says so to every question.
fn resolver(namespace: &Namespace, address: &str, code: u8) -> Result<()> {
    let socket = namespace.inside(|| Ok(UdpSocket::bind(address)?))?;
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            packet[2] |= 0x80;
            packet[3] = 0x80 | code;
            let _ = socket.send_to(&packet[..length], from);
        }
    });
    Ok(())
}

#[test]
fn what_a_resolver_says_is_told() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (code, words) in [(3, "no such name"), (2, "SERVFAIL"), (5, "REFUSED")] {
        let here = Namespace::new()?;
        resolver(&here, "127.0.0.1:5353", code)?;
        let pass = "resolver 127.0.0.1:5353 ipv6=off; resolver_timeout 2s; set $name nosuch.test; proxy_pass http://$name.";
        let config = Config::of(vec![Upstream::new("x", "127.0.0.1:23620").by(pass)]);
        let nginx = Nginx::start(&host, &here, &config)?;
        let mut tracer = Tracer::watch(&host, nginx.pid())?;
        ensure!(nginx.get(&here, "x")?.status == 502);
        let failure: Failure = tracer.failure(SOON, |_| true)?;
        ensure!(failure.verdict.code == "resolver-failed", "{failure:#?}");
        ensure!(failure.verdict.summary.contains(words), "{failure:#?}");
        let finished = tracer.stop(Signal::SIGINT)?;
        ensure!(finished.unclaimed.is_empty(), "{:#?}", finished.unclaimed);
    }
    Ok(())
}

#[test]
fn a_proxy_in_between_is_named_and_not_what_stands_behind_it() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _app = Backend::start(&here, &["tcp", "127.0.0.1:23631", "--ending", "hold"])?;
    let mut config = Config::of(vec![
        Upstream::new("app", "127.0.0.1:23631").in_location("proxy_read_timeout 60s;"),
    ]);
    config.door = "127.0.0.1:23630".parse()?;
    let between = Nginx::start(&host, &here, &config)?;
    let upstream = Upstream::new("app", "127.0.0.1:23630").in_location("proxy_read_timeout 700ms;");
    let mut scene = Scene::new(&host, here, &Config::of(vec![upstream]))?;
    let failure = scene.fails("app", &timed_out("backend-silent"))?;
    let listener = failure.listener.as_ref().and_then(|listener| listener.pid);
    let worker = between.workers()?.contains(&listener.unwrap_or(0));
    ensure!(worker || listener == Some(between.pid()), "{failure:#?}");
    thread::sleep(Duration::from_millis(100));
    scene.end().map(drop)
}
