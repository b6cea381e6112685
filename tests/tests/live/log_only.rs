//! What nothing but nginx's error log tells: it dialled nobody.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx, Upstream};
use whyrefused_tests::patience::SOON;
use whyrefused_tests::scene::ended_well;
use whyrefused_tests::tally;
use whyrefused_tests::tracer::Tracer;

/// A request to an nginx of that configuration gets the status, and its failure the code.
fn told(config: &Config, path: &str, requests: usize, code: &str) -> Result<Option<Failure>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    let here = Namespace::new()?;
    let nginx = Nginx::start(&host, &here, config)?;
    let mut tracer = Tracer::watch(&host, nginx.pid())?;
    for _ in 0..requests {
        ensure!(nginx.get(&here, path)?.status >= 500);
    }
    let failure = tracer
        .failure(SOON, |failure| failure.verdict.code == code)
        .with_context(|| nginx.errors().unwrap_or_default().join("\n"))?;
    tally::verdict(code, Some(&failure.verdict), true);
    let attempt = &failure.attempt;
    ensure!(
        attempt.errno.is_none() && attempt.surface == "none",
        "{attempt:?}"
    );
    let request = failure.request.as_ref().context("no request")?;
    ensure!(nginx.errors()?.contains(&request.log_line));
    let mut finished = tracer.stop(Signal::SIGINT)?;
    finished.unclaimed.clear();
    let end = ended_well(&finished)?;
    ensure!(end.verdicts.get(code) == Some(&1), "{end:?}");
    Ok(Some(failure))
}

fn resolving(pass: &'static str) -> Config {
    Config::of(vec![Upstream::new("x", "127.0.0.1:23310").by(pass)])
}

/// An upstream of two servers where nobody listens. The laboratory's own blocks never hold a
/// server for failed.
fn failing(servers: [&str; 2]) -> Config {
    let upstream = Upstream::new("app", servers[0]).by("proxy_pass http://real_");
    let mut config = Config::of(vec![upstream]);
    let [one, other] = servers;
    config.http = format!("upstream real_app {{ server {one}; server {other}; }}");
    config
}

#[test]
fn a_line_that_goes_to_two_logs_is_one_failure() -> Result<()> {
    let mut config = failing(["127.0.0.1:23330", "127.0.0.1:23331"]);
    config.main = "error_log /dev/null error;".to_owned();
    told(&config, "app", 2, "no-live-upstreams").map(drop)
}

#[test]
fn without_live_upstreams_the_failures_that_led_there_are_named() -> Result<()> {
    let config = failing(["127.0.0.1:23300", "127.0.0.1:23301"]);
    let Some(failure) = told(&config, "app", 2, "no-live-upstreams")? else {
        return Ok(());
    };
    ensure!(
        failure.upstream.name.as_deref() == Some("real_app"),
        "{failure:#?}"
    );
    let summary = &failure.verdict.summary;
    ensure!(summary.contains("no-listener"), "{summary}");
    Ok(())
}

#[test]
fn a_server_of_two_blocks_is_named_where_one_of_them_has_no_other() -> Result<()> {
    let upstream = Upstream::new("app", "127.0.0.1:23330").by("proxy_pass http://real_");
    let mut config = Config::of(vec![upstream]);
    config.http = "upstream real_app { server 127.0.0.1:23331; server 127.0.0.1:23332; }
  upstream other { server 127.0.0.1:23331; server 127.0.0.1:23332; }
  server { listen 127.0.0.1:8081; location / { proxy_pass http://other; } }"
        .to_owned();
    let Some(failure) = told(&config, "app", 2, "no-live-upstreams")? else {
        return Ok(());
    };
    let verdict = &failure.verdict;
    ensure!(verdict.missing.is_empty(), "{verdict:#?}");
    ensure!(verdict.summary.contains("127.0.0.1:23331"), "{verdict:#?}");
    ensure!(verdict.summary.contains("127.0.0.1:23332"), "{verdict:#?}");
    Ok(())
}

#[test]
fn a_name_without_a_resolver_is_told_from_one_whose_resolver_is_dead() -> Result<()> {
    let none = "set $name nosuch.invalid; proxy_pass http://$name.";
    let dead = "resolver 127.0.0.1:5399; resolver_timeout 1s; set $name nosuch.invalid; proxy_pass http://$name.";
    for (pass, words) in [(none, "names no resolver"), (dead, "did not answer")] {
        let Some(failure) = told(&resolving(pass), "x", 1, "resolver-failed")? else {
            return Ok(());
        };
        let summary = &failure.verdict.summary;
        ensure!(summary.contains(words), "{summary}");
        let asked = |because: &String| because.contains("asking 127.0.0.1:5399 failed");
        let because = &failure.verdict.because;
        ensure!(pass == none || because.iter().any(asked), "{because:#?}");
    }
    Ok(())
}

#[test]
fn worker_connections_that_are_used_up_are_a_limit_of_nginx() -> Result<()> {
    let mut config = Config::passing(&[("app", "127.0.0.1:23320")]);
    // One for the door, one for its master, and the client's: none is left to dial with.
    config.connections = 3;
    told(&config, "app", 1, "nginx-limit").map(drop)
}
