//! What breaks once the connection stands.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx, Upstream};
use whyrefused_tests::scene::{Expected, Scene, ended_well, met, timed_out};
use whyrefused_tests::tracer::Tracer;

const RESET: Option<&str> = Some("ECONNRESET");
const KEEPALIVE: &str = "proxy_http_version 1.1; proxy_set_header Connection '';";

/// A backend that does so to its connections, and an nginx that passes to it by `pass`.
fn broken(
    address: &str,
    ending: &str,
    upstream: impl Fn(Upstream) -> Upstream,
) -> Result<Option<(Scene, Backend)>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    let here = Namespace::new()?;
    let backend = Backend::start(&here, &["tcp", address, "--ending", ending])?;
    let config = Config::of(vec![upstream(Upstream::new("app", address))]);
    Ok(Some((Scene::new(&host, here, &config)?, backend)))
}

/// One request to such a backend fails like that, and nothing else is told.
fn fails(address: &str, ending: &str, expected: &Expected) -> Result<Option<Failure>> {
    let upstream = |upstream: Upstream| upstream.in_location("proxy_read_timeout 500ms;");
    let Some((mut scene, backend)) = broken(address, ending, upstream)? else {
        return Ok(None);
    };
    // What is no response reaches the client as it is.
    let _ = scene.get("app");
    let failure = scene.explained("app", expected)?;
    let listener = failure
        .listener
        .as_ref()
        .with_context(|| format!("no listener: {failure:#?}"))?;
    ensure!(listener.pid == Some(backend.pid()), "{listener:?}");
    ensure!(
        failure.attempt.local.is_some(),
        "no connection: {failure:#?}"
    );
    scene.end()?;
    Ok(Some(failure))
}

fn says(failure: &Failure, words: &str) -> Result<()> {
    let verdict = &failure.verdict;
    let said = verdict.summary.contains(words)
        || verdict
            .because
            .iter()
            .any(|because| because.contains(words));
    ensure!(said, "nothing of {words:?}: {verdict:#?}");
    Ok(())
}

#[test]
fn a_backend_that_lingers_not_resets() -> Result<()> {
    for address in addresses!("23000") {
        let expected = met("reset-by-backend", RESET);
        if let Some(failure) = fails(address, "reset", &expected)? {
            says(&failure, "SO_LINGER")?;
            ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
        }
    }
    Ok(())
}

#[test]
fn a_backend_that_leaves_the_request_unread_resets() -> Result<()> {
    let expected = met("reset-by-backend", RESET);
    if let Some(failure) = fails("127.0.0.1:23010", "unread", &expected)? {
        says(&failure, "unread")?;
    }
    Ok(())
}

#[test]
fn a_backend_may_reset_in_the_middle_of_its_answer() -> Result<()> {
    let expected = met("reset-by-backend", RESET);
    fails("127.0.0.1:23020", "reset-midway", &expected).map(drop)
}

#[test]
fn a_backend_that_closes_is_told_from_one_that_resets() -> Result<()> {
    for address in addresses!("23030") {
        let expected = met("closed-by-backend", None);
        if let Some(failure) = fails(address, "close", &expected)? {
            says(&failure, "received 0")?;
        }
    }
    Ok(())
}

#[test]
fn a_backend_may_close_in_the_middle_of_its_answer() -> Result<()> {
    let expected = met("closed-by-backend", None);
    if let Some(failure) = fails("127.0.0.1:23040", "close-midway", &expected)? {
        says(&failure, "in the middle of its response")?;
    }
    Ok(())
}

#[test]
fn a_backend_that_is_killed_over_a_request_is_named_with_its_death() -> Result<()> {
    let expected = met("closed-by-backend", None);
    if let Some(failure) = fails("127.0.0.1:23050", "die", &expected)? {
        says(&failure, "SIGKILL")?;
        let ended = failure.listener.and_then(|listener| listener.ended);
        let ended = ended.context("the listener lives")?;
        ensure!(ended.signal.as_deref() == Some("SIGKILL"), "{ended:?}");
    }
    Ok(())
}

#[test]
fn a_backend_that_never_answers_is_silent() -> Result<()> {
    if let Some(failure) = fails("127.0.0.1:23060", "hold", &timed_out("backend-silent"))? {
        says(&failure, "has read everything")?;
        says(&failure, "sleeps")?;
    }
    Ok(())
}

#[test]
fn a_request_that_nobody_reads_is_told_from_one_that_nobody_answers() -> Result<()> {
    if let Some(failure) = fails("127.0.0.1:23070", "ignore", &timed_out("backend-silent"))? {
        says(&failure, "has not read")?;
    }
    Ok(())
}

#[test]
fn what_is_no_response_is_another_protocol() -> Result<()> {
    fails(
        "127.0.0.1:23080",
        "garbage",
        &met("protocol-mismatch", None),
    )
    .map(drop)
}

#[test]
fn a_stopped_backend_is_told_from_a_slow_one() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let mut backend = Backend::listen(&here, "127.0.0.1:23090")?;
    let upstream = Upstream::new("app", "127.0.0.1:23090");
    let config = Config::of(vec![upstream.in_location("proxy_read_timeout 500ms;")]);
    let mut scene = Scene::new(&host, here, &config)?;
    backend.order("stop")?;
    let failure = scene.fails("app", &timed_out("backend-silent"))?;
    says(&failure, "accept queue")?;
    says(&failure, "is stopped")?;
    backend.process().signal(Signal::SIGCONT)?;
    scene.end().map(drop)
}

#[test]
fn a_listener_that_closes_resets_what_it_has_not_accepted() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let mut backend = Backend::start(&here, &["tcp", "127.0.0.1:23100", "--never-accept"])?;
    let config = Config::passing(&[("app", "127.0.0.1:23100")]);
    let mut scene = Scene::new(&host, here, &config)?;
    let _client = scene.nginx.send(&scene.namespace, "app")?;
    std::thread::sleep(Duration::from_millis(200));
    backend.order("close")?;
    let failure = scene.explained("app", &met("reset-unaccepted", RESET))?;
    says(&failure, "accept queue")?;
    scene.end().map(drop)
}

#[test]
fn a_kept_connection_that_ends_under_a_request_is_a_race() -> Result<()> {
    let upstream = |upstream: Upstream| upstream.with("keepalive 4;").in_location(KEEPALIVE);
    let Some((mut scene, _backend)) = broken("127.0.0.1:23110", "unread-second", upstream)? else {
        return Ok(());
    };
    scene.succeeds("app")?;
    std::thread::sleep(Duration::from_millis(300));
    scene.succeeds("app")?;
    let failure = scene.explained("app", &met("keepalive-race", RESET))?;
    says(&failure, "idle for")?;
    scene.end().map(drop)
}

#[test]
fn a_response_that_the_end_of_the_connection_delimits_is_none() -> Result<()> {
    let as_is = |upstream| upstream;
    let Some((scene, _backend)) = broken("127.0.0.1:23120", "close-delimited", as_is)? else {
        return Ok(());
    };
    for _ in 0..20 {
        scene.succeeds("app")?;
    }
    let end = scene.end()?;
    ensure!(end.verdicts.is_empty(), "{end:?}");
    Ok(())
}

#[test]
fn a_client_that_leaves_during_a_request_is_none() -> Result<()> {
    let as_is = |upstream| upstream;
    let Some((scene, _backend)) = broken("127.0.0.1:23130", "hold", as_is)? else {
        return Ok(());
    };
    for _ in 0..5 {
        let client = scene.nginx.send(&scene.namespace, "app")?;
        std::thread::sleep(Duration::from_millis(50));
        drop(client);
    }
    std::thread::sleep(Duration::from_millis(200));
    let end = scene.end()?;
    ensure!(end.verdicts.is_empty(), "{end:?}");
    Ok(())
}

#[test]
fn every_protocol_meets_a_reset_alike() -> Result<()> {
    let passes = [
        ("127.0.0.1:23140", "fastcgi_pass "),
        ("127.0.0.1:23141", "uwsgi_pass "),
        ("127.0.0.1:23142", "scgi_pass "),
        ("127.0.0.1:23143", "grpc_pass grpc://"),
        ("127.0.0.1:23144", "set $memcached_key k; memcached_pass "),
    ];
    for (address, pass) in passes {
        let upstream = |upstream: Upstream| upstream.by(pass);
        let Some((mut scene, _backend)) = broken(address, "reset", upstream)? else {
            return Ok(());
        };
        scene
            .fails("app", &met("reset-by-backend", RESET))
            .context(pass)?;
        scene.end()?;
    }
    Ok(())
}

#[test]
fn tls_towards_a_backend_without_is_another_protocol() -> Result<()> {
    let upstream = |upstream: Upstream| upstream.by("proxy_pass https://");
    let Some((mut scene, _backend)) = broken("127.0.0.1:23150", "garbage", upstream)? else {
        return Ok(());
    };
    scene.fails("app", &met("protocol-mismatch", None))?;
    scene.end()?;
    let Some((mut scene, _backend)) = broken("127.0.0.1:23151", "close", upstream)? else {
        return Ok(());
    };
    scene.fails("app", &met("protocol-mismatch", None))?;
    scene.end().map(drop)
}

#[test]
fn failures_after_connect_are_folded_and_none_is_lost() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let address = "127.0.0.1:23160";
    let _backend = Backend::start(&here, &["tcp", address, "--ending", "reset"])?;
    let nginx = Nginx::start(&host, &here, &Config::passing(&[("app", address)]))?;
    let pid = nginx.pid().to_string();
    let tracer = Tracer::start(&host, &["--coalesce", "1s", "--pid", &pid])?;
    for _ in 0..50 {
        nginx.get(&here, "app")?;
    }
    let mut finished = tracer.stop(Signal::SIGINT)?;
    let told = finished.unclaimed.len();
    finished.unclaimed.clear();
    let end = ended_well(&finished)?;
    ensure!(told < 10, "hardly folded: {told}");
    ensure!(end.verdicts.get("reset-by-backend") == Some(&50), "{end:?}");
    Ok(())
}
