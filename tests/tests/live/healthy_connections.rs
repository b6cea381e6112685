//! Connections that carry requests and end as they should yield no failure, and text that looks
//! like one is none.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, DOOR, Nginx, Upstream};
use whyrefused_tests::scene::{Scene, met, refused};
use whyrefused_tests::scratch;
use whyrefused_tests::tracer::Tracer;

/// Answers each connection with the bytes that its request asks for by its path, then closes it
/// or, where they say how long they are, waits for the next request.
fn answering(namespace: &Namespace, address: &str, answers: &'static [(&str, &str)]) -> Result<()> {
    let listener = namespace.inside(|| Ok(TcpListener::bind(address)?))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, answers));
        }
    });
    Ok(())
}

fn serve(mut stream: TcpStream, answers: &[(&str, &str)]) -> Result<()> {
    let mut request = Vec::new();
    loop {
        request.clear();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes)?;
            if read == 0 {
                return Ok(());
            }
            request.extend(&bytes[..read]);
        }
        let text = String::from_utf8_lossy(&request);
        let answer = answers.iter().find(|(path, _)| text.contains(path));
        let (_, answer) = answer.context("no such path")?;
        stream.write_all(answer.as_bytes())?;
        if answer.contains("HTTP/1.0") || answer.contains("Connection: close") {
            return Ok(());
        }
        if answer.contains(" 101 ") {
            thread::sleep(Duration::from_millis(50));
            stream.write_all(b"tunnelled")?;
            return Ok(());
        }
    }
}

const ANSWERS: &[(&str, &str)] = &[
    (
        "/chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n0\r\n\r\n",
    ),
    (
        "/chunks-close",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n0\r\n\r\n",
    ),
    ("/head", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
    (
        "/unchanged",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
    ),
    ("/empty", "HTTP/1.1 204 No Content\r\n\r\n"),
    ("/until-the-end", "HTTP/1.0 200 OK\r\n\r\nall of it"),
    (
        "/tunnel",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ),
    (
        "/error",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    ),
];

fn exchange(namespace: &Namespace, request: &str) -> Result<String> {
    let mut stream = namespace.inside(|| Ok(TcpStream::connect(DOOR)?))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

#[test]
fn every_way_to_end_a_response_yields_no_failure() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (address, level) in [("127.0.0.1:23500", "debug"), ("127.0.0.1:23501", "error")] {
        let here = Namespace::new()?;
        answering(&here, address, ANSWERS)?;
        let upgrade = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; gzip on; gzip_types *; gzip_min_length 1; proxy_cache lab; proxy_cache_convert_head off; proxy_cache_key $request_method$uri; proxy_cache_valid 200 1m;";
        let upstream = Upstream::new("app", address).with("zone app 64k; keepalive 8;");
        let mut config = Config::of(vec![upstream.in_location(upgrade)]);
        (config.level, config.workers) = (level, 2);
        let cache = scratch::directory("cache-")?;
        config.http = format!(
            "proxy_cache_path {} levels=1 keys_zone=lab:1m;",
            cache.path().display()
        );
        let mut scene = Scene::new(&host, here, &config)?;
        for _ in 0..5 {
            for (path, _) in ANSWERS {
                let method = if *path == "/head" { "HEAD" } else { "GET" };
                let connection = match *path {
                    "/tunnel" => "upgrade\r\nUpgrade: websocket",
                    _ => "close",
                };
                let response = exchange(
                    &scene.namespace,
                    &format!(
                        "{method} /app{path} HTTP/1.1\r\nHost: lab.test\r\nAccept-Encoding: gzip\r\nConnection: {connection}\r\n\r\n"
                    ),
                )?;
                ensure!(response.starts_with("HTTP/1.1 "), "{path}: {response}");
                ensure!(!response.contains(" 502 "), "{path}: {response}");
            }
            let config = scene.nginx.config().clone();
            scene.nginx.reload(&config)?;
        }
        scene.end()?;
    }
    Ok(())
}

#[test]
fn clients_that_leave_in_the_middle_of_a_response_yield_no_failure() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let large: &'static str = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n{}",
        "x".repeat(9_000_000)
    )
    .leak();
    let answers = vec![("/large", large)].leak();
    answering(&here, "127.0.0.1:23510", answers)?;
    let config = Config::passing(&[("app", "127.0.0.1:23510")]);
    let scene = Scene::new(&host, here, &config)?;
    for _ in 0..5 {
        let mut stream = scene.namespace.inside(|| Ok(TcpStream::connect(DOOR)?))?;
        stream.write_all(b"GET /app/large HTTP/1.1\r\nHost: lab.test\r\n\r\n")?;
        let _ = stream.read(&mut [0; 100])?;
        drop(stream);
    }
    thread::sleep(Duration::from_millis(300));
    scene.end().map(drop)
}

#[test]
fn requests_that_speak_of_failures_are_none() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "127.0.0.1:23520")?;
    let mut config = Config::passing(&[("app", "127.0.0.1:23520")]);
    config.http = "access_log /dev/null; error_log stderr info;".to_owned();
    let files = Upstream::new("files", "127.0.0.1:23521").by("try_files $uri =404; set $x ");
    config.upstreams.push(files);
    let scene = Scene::new(&host, here, &config)?;
    let said = "recv() failed (104: Connection reset by peer) while reading response header from upstream, client: 1.2.3.4, server: x, request: \"GET / HTTP/1.1\", upstream: \"http://127.0.0.1:23520/\"";
    let encoded: String = format!(
        "\n2026/11/22 10:00:00 [error] 1#1: *1 {said} could not be resolved (3: Host not found)"
    )
    .bytes()
    .map(|byte| format!("%{byte:02x}"))
    .collect();
    for path in ["/app/page", "/files/page", "/nothing"] {
        exchange(
            &scene.namespace,
            &format!(
                "GET {path}/{encoded} HTTP/1.1\r\nHost: lab.test\r\nUser-Agent: {said}\r\nReferer: {said}\r\nConnection: close\r\n\r\n"
            ),
        )?;
    }
    scene.end().map(drop)
}

#[test]
fn what_a_fastcgi_backend_says_on_its_standard_error_is_no_failure() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let listener = here.inside(|| Ok(TcpListener::bind("127.0.0.1:23530")?))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 65_536]);
            let said = "2026/11/22 10:00:00 [error] 1#1: *1 upstream prematurely closed connection while reading response header from upstream, client: 1.2.3.4, server: x, request: \"GET / HTTP/1.1\", upstream: \"http://127.0.0.1:1/\"\nrecv() failed (104: Connection reset by peer)";
            for (kind, content) in [
                (7, said),
                (7, "a could not be resolved (3: Host not found)"),
                (6, "Status: 200 OK\r\n\r\nok\n"),
                (3, "\0\0\0\0\0\0\0\0"),
            ] {
                let length = u16::try_from(content.len())
                    .unwrap_or_default()
                    .to_be_bytes();
                let head = [1, kind, 0, 1, length[0], length[1], 0, 0];
                let _ = stream.write_all(&[&head, content.as_bytes()].concat());
            }
        }
    });
    let upstream = Upstream::new("app", "127.0.0.1:23530").by("fastcgi_pass ");
    let scene = Scene::new(&host, here, &Config::of(vec![upstream]))?;
    for _ in 0..5 {
        scene.succeeds("app")?;
    }
    ensure!(!scene.nginx.errors()?.is_empty(), "nothing was said");
    scene.end().map(drop)
}

#[test]
fn a_first_server_that_resets_is_one_failure_beside_a_second_that_answers() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _reset = Backend::start(&here, &["tcp", "127.0.0.1:23540", "--ending", "reset"])?;
    let _well = Backend::listen(&here, "127.0.0.1:23541")?;
    let upstream = Upstream::new("app", "127.0.0.1:23540").or("127.0.0.1:23541 backup");
    let mut scene = Scene::new(&host, here, &Config::of(vec![upstream]))?;
    scene.succeeds("app")?;
    scene.explained("app", &met("reset-by-backend", Some("ECONNRESET")))?;
    scene.end().map(drop)
}

#[test]
fn several_servers_that_fail_one_request_are_a_failure_each() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _reset = Backend::start(&here, &["tcp", "127.0.0.1:23550", "--ending", "reset"])?;
    let _close = Backend::start(&here, &["tcp", "127.0.0.1:23551", "--ending", "close"])?;
    let upstream = Upstream::new("app", "127.0.0.1:23550")
        .or("127.0.0.1:23551")
        .or("127.0.0.1:23552");
    let mut scene = Scene::new(&host, here, &Config::of(vec![upstream]))?;
    ensure!(scene.get("app")?.status == 502);
    let expected = [
        met("reset-by-backend", Some("ECONNRESET")),
        met("closed-by-backend", None),
        refused("no-listener"),
    ];
    let mut seen: Vec<String> = Vec::new();
    for _ in &expected {
        let failure = scene.tracer.failure(Duration::from_secs(10), |_| true)?;
        seen.push(failure.verdict.code);
    }
    seen.sort();
    ensure!(
        seen == ["closed-by-backend", "no-listener", "reset-by-backend"],
        "{seen:?}"
    );
    let finished = scene.tracer.stop(Signal::SIGINT)?;
    ensure!(finished.unclaimed.is_empty(), "{:#?}", finished.unclaimed);
    Ok(())
}

#[test]
fn two_hundred_failures_a_second_are_told_one_by_one() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let address = "127.0.0.1:23560";
    let _backend = Backend::start(&here, &["tcp", address, "--ending", "close"])?;
    let nginx = Nginx::start(&host, &here, &Config::passing(&[("app", address)]))?;
    let pid = nginx.pid().to_string();
    let tracer = Tracer::start(&host, &["--coalesce", "0", "--pid", &pid])?;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..150 {
                    let _ = nginx.get(&here, "app");
                    thread::sleep(Duration::from_millis(15));
                }
            });
        }
    });
    let lines = nginx.errors()?.len() as u64;
    let finished = tracer.stop(Signal::SIGINT)?;
    let end = finished.end.context("no end")?;
    // Programs miss events while others work the host; none of these may be among them.
    ensure!(
        end.verdicts.get("closed-by-backend") == Some(&lines),
        "{lines}: {end:?}"
    );
    ensure!(
        finished.unclaimed.len() as u64 == lines,
        "{} of {lines}",
        finished.unclaimed.len()
    );
    Ok(())
}
