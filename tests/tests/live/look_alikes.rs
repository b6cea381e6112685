//! What ends a connection that stood, and is not its backend.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::{Host, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx, Upstream};
use whyrefused_tests::patience::SOON;
use whyrefused_tests::process;
use whyrefused_tests::scene::{Expected, Scene, ended_well, met, timed_out};
use whyrefused_tests::tracer::Tracer;

const RESET: Option<&str> = Some("ECONNRESET");
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn impatient(address: &str) -> Config {
    Config::of(vec![
        Upstream::new("app", address).in_location("proxy_read_timeout 1s;"),
    ])
}

#[test]
fn a_connection_that_is_killed_here_is_told_from_one_that_the_backend_resets() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for address in addresses!("23400") {
        let here = Namespace::new()?;
        let _backend = Backend::start(&here, &["tcp", address, "--ending", "hold"])?;
        let mut scene = Scene::new(&host, here, &Config::passing(&[("app", address)]))?;
        let _client = scene.nginx.send(&scene.namespace, "app")?;
        std::thread::sleep(Duration::from_millis(300));
        let mut kill = scene.namespace.command("ss");
        process::run(kill.args(["-K", "dport", "=", ":23400"]))?;
        let expected = met("socket-aborted", Some("ECONNABORTED"));
        scene.explained("app", &expected)?;
        scene.end()?;
    }
    Ok(())
}

/// An nginx whose handshake with a backend in another namespace takes seconds, while others fill
/// that backend's accept queue.
fn filled_during_the_handshake(port: u16, resets: bool, expected: &Expected) -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, far) = (Namespace::new()?, Namespace::new()?);
    here.link(("wan0", &["10.1.0.1/24"]), &far, ("eth0", &["10.1.0.2/24"]))?;
    let address = format!("10.1.0.2:{port}");
    far.sysctl("ipv4/tcp_abort_on_overflow", if resets { "1" } else { "0" })?;
    let listening = ["tcp", &address, "--never-accept", "--backlog", "1"];
    let _backend = Backend::start(&far, &listening)?;
    let mut scene = Scene::new(&host, here, &impatient(&address))?;
    // What the far end sends waits behind what goes before.
    let mut slow = far.command("tc");
    let rate = "qdisc add dev eth0 root tbf rate 8kbit burst 1600 latency 10s";
    process::run(slow.args(rate.split(' ')))?;
    far.inside(|| {
        let noise = UdpSocket::bind("10.1.0.2:0")?;
        for _ in 0..2 {
            noise.send_to(&[0; 1400], "10.1.0.1:9")?;
        }
        Ok(())
    })?;
    let _client = scene.nginx.send(&scene.namespace, "app")?;
    std::thread::sleep(Duration::from_millis(300));
    let to: SocketAddr = address.parse()?;
    let _held = far.inside(|| {
        (0..2)
            .map(|_| TcpStream::connect(to))
            .collect::<std::io::Result<Vec<_>>>()
            .context("cannot fill the queue")
    })?;
    scene.explained("app", expected)?;
    scene.end().map(drop)
}

#[test]
fn a_last_ack_that_finds_the_accept_queue_full_is_told_from_a_silent_backend() -> Result<()> {
    filled_during_the_handshake(23410, false, &timed_out("accept-queue-full"))
}

#[test]
fn a_full_accept_queue_that_resets_is_told_from_a_backend_that_does() -> Result<()> {
    filled_during_the_handshake(23411, true, &met("accept-queue-full", RESET))
}

/// What is larger than a handshake meets a rule of that hook.
fn filtered(port: u16, hook: &str, side: &str, verdict: &str, expected: &Expected) -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let address = format!("127.0.0.1:{port}");
    let _backend = Backend::listen(&here, &address)?;
    here.filter(
        hook,
        &format!("tcp {side} {port} meta length > 60 {verdict}"),
    )?;
    let mut scene = Scene::new(&host, here, &impatient(&address))?;
    let failure = scene.fails("app", expected)?;
    ensure!(failure.verdict.confidence == "probable", "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn a_rule_that_rejects_requests_is_no_backend_that_resets() -> Result<()> {
    for (port, hook) in [(23420, "output"), (23421, "input")] {
        filtered(
            port,
            hook,
            "dport",
            "reject with tcp reset",
            &met("firewall-reject", RESET),
        )?;
    }
    Ok(())
}

#[test]
fn a_rule_that_drops_requests_or_responses_is_no_silent_backend() -> Result<()> {
    for (port, hook, side) in [
        (23430, "output", "dport"),
        (23431, "input", "dport"),
        (23432, "input", "sport"),
        (23433, "output", "sport"),
    ] {
        filtered(port, hook, side, "drop", &timed_out("firewall-drop"))?;
    }
    Ok(())
}

#[test]
fn a_stuck_member_of_a_group_holds_what_it_is_given() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let address = "127.0.0.1:23440";
    let stuck = Backend::start(&here, &["tcp", address, "--reuseport", "--never-accept"])?;
    let _busy = Backend::start(&here, &["tcp", address, "--reuseport"])?;
    let mut scene = Scene::new(&host, here, &impatient(address))?;
    let mut failed = 0;
    for _ in 0..12 {
        if scene.get("app")?.status == 504 {
            failed += 1;
        }
    }
    ensure!(failed > 0, "the group gave everything to one member");
    for _ in 0..failed {
        let failure = scene.explained("app", &timed_out("backend-silent"))?;
        let listener = failure.listener.as_ref().context("no listener")?;
        ensure!(listener.pid == Some(stuck.pid()), "{failure:#?}");
    }
    scene.end().map(drop)
}

#[test]
fn a_reset_from_behind_a_translated_address_is_laid_on_nobody_else() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", "127.0.0.1:23450", "--ending", "reset"])?;
    here.ruleset("table ip lab {\nchain out {\ntype nat hook output priority -100\ntcp dport 23451 dnat to 127.0.0.1:23450\n}\n}\n")?;
    let mut scene = Scene::new(&host, here, &Config::passing(&[("app", "127.0.0.1:23451")]))?;
    let failure = scene.fails("app", &met("reset-by-backend", RESET))?;
    ensure!(failure.verdict.confidence == "probable", "{failure:#?}");
    ensure!(failure.listener.is_none(), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn a_backend_in_another_namespace_is_named_when_it_resets_or_closes() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (address, ending, expected) in [
        ("10.1.0.2:23460", "reset", met("reset-by-backend", RESET)),
        ("10.1.0.2:23461", "close", met("closed-by-backend", None)),
        ("10.1.0.2:23462", "hold", timed_out("backend-silent")),
    ] {
        let (here, far) = (Namespace::new()?, Namespace::new()?);
        here.link(("wan0", &["10.1.0.1/24"]), &far, ("eth0", &["10.1.0.2/24"]))?;
        let backend = Backend::start(&far, &["tcp", address, "--ending", ending])?;
        let mut scene = Scene::new(&host, here, &impatient(address))?;
        let failure = scene.fails("app", &expected)?;
        let listener = failure.listener.as_ref().context("no listener")?;
        ensure!(listener.pid == Some(backend.pid()), "{failure:#?}");
        ensure!(listener.netns == far.inode(), "{failure:#?}");
        scene.end()?;
    }
    Ok(())
}

#[test]
fn stream_connections_that_break_are_explained_alike() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let (reset, close) = ("127.0.0.1:23470", "127.0.0.1:23471");
    let _reset = Backend::start(&here, &["tcp", reset, "--ending", "reset"])?;
    let _close = Backend::start(&here, &["tcp", close, "--ending", "close"])?;
    let mut config = Config::of(Vec::new());
    config.main = format!(
        "load_module {STREAM};
stream {{ server {{ listen 127.0.0.1:8081; proxy_pass {reset}; }}
         server {{ listen 127.0.0.1:8082; proxy_pass {close}; }} }}"
    );
    if !Path::new(STREAM).exists() {
        skip("nginx has no stream module");
        return Ok(());
    }
    let nginx = Nginx::start(&host, &here, &config)?;
    let mut tracer = Tracer::watch(&host, nginx.pid())?;
    // A tunnel that its backend closes ends as tunnels do.
    for door in ["127.0.0.1:8082", "127.0.0.1:8081"] {
        let mut stream = here.inside(|| Ok(TcpStream::connect(door)?))?;
        stream.write_all(b"hello\n")?;
        let _ = stream.read(&mut [0; 16]);
    }
    let failure = tracer.failure(SOON, |_| true)?;
    ensure!(failure.verdict.code == "reset-by-backend", "{failure:#?}");
    ensure!(
        failure.upstream.address.as_deref() == Some(reset),
        "{failure:#?}"
    );
    ended_well(&tracer.stop(Signal::SIGINT)?).map(drop)
}
