//! The name moved after nginx had resolved it.

mod by_dns;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::{Host, skip};
use whyrefused_tests::name_service::NameService;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::scene::{Expected, Scene, refused, reported, timed_out};
use whyrefused_tests::tracer::Tracer;
use whyrefused_tests::wire::Wire;

/// How long an event may take on a machine that runs many tests at once.
const LATEST: Duration = Duration::from_secs(10);

/// Passes to names that these lines of `/etc/hosts` give addresses.
fn passing(upstreams: &[(&str, &str)], hosts: &str) -> Result<(Config, NameService)> {
    let names = NameService::of_hosts(hosts)?;
    let mut config = Config::passing(upstreams);
    config.names = Some(names.clone());
    Ok((config, names))
}

fn says(failure: &Failure, confidence: &str, words: &[&str]) -> Result<()> {
    let verdict = &failure.verdict;
    let story = format!("{}\n{}", verdict.summary, verdict.because.join("\n"));
    ensure!(verdict.confidence == confidence, "{failure:#?}");
    for words in words {
        ensure!(story.contains(words), "{words:?} is not told: {failure:#?}");
    }
    Ok(())
}

#[test]
fn a_name_that_moved_on_this_host_is_told_from_one_that_stayed() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let upstreams = [
        ("moved", "moved.test:25000"),
        ("stayed", "stayed.test:25001"),
        ("grew", "grew.test:25002"),
        ("six", "six.test:25003"),
        ("number", "127.0.0.2:25004"),
    ];
    let before = "127.0.0.2 moved.test stayed.test grew.test number.test\n::1 six.test\n";
    let (config, names) = passing(&upstreams, before)?;
    let namespace = Namespace::new()?;
    let _backend = Backend::listen(&namespace, "127.0.0.3:25000")?;
    let mut scene = Scene::new(&host, namespace, &config)?;
    names.change(
        "127.0.0.3 moved.test grew.test number.test\n127.0.0.2 stayed.test grew.test\nfd99::3 six.test\n",
    )?;
    let failure = scene.fails("moved", &refused("stale-dns"))?;
    says(
        &failure,
        "certain",
        &["moved.test", "127.0.0.2:25000", "127.0.0.3"],
    )?;
    let [candidate] = &failure.candidates[..] else {
        anyhow::bail!("the backend is not named: {failure:#?}");
    };
    ensure!(candidate.address == "127.0.0.3:25000", "{failure:#?}");
    let reload = format!("kill -HUP {}", scene.nginx.pid());
    ensure!(failure.verdict.fix[0].starts_with(&reload), "{failure:#?}");
    let failure = scene.fails("six", &refused("stale-dns"))?;
    says(&failure, "certain", &["[::1]:25003", "fd99::3"])?;
    for name in ["stayed", "grew", "number"] {
        scene.fails(name, &refused("no-listener"))?;
    }
    scene.end().map(drop)
}

#[test]
fn a_name_that_had_moved_when_the_trace_began_is_found_and_named() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (config, names) = passing(&[("moved", "moved.test:25010")], "127.0.0.2 moved.test\n")?;
    let namespace = Namespace::new()?;
    let nginx = Nginx::start(&host, &namespace, &config)?;
    // The start of a process is known to a hundredth of a second.
    let started = Instant::now();
    wait_for("the file to be plainly younger", SOON, || {
        names.change("127.0.0.3 moved.test\n")?;
        Ok((started.elapsed() > Duration::from_millis(50)).then_some(()))
    })?;
    let tracer = Tracer::watch(&host, nginx.pid())?;
    let mut scene = Scene::of(&host, namespace, nginx, tracer);
    let failure = scene.fails("moved", &refused("stale-dns"))?;
    says(
        &failure,
        "certain",
        &["moved.test", "127.0.0.3", "/etc/hosts changed"],
    )?;
    scene.end().map(drop)
}

#[test]
fn nginx_that_was_reloaded_dials_what_the_name_has() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (config, names) = passing(&[("moved", "moved.test:25020")], "127.0.0.2 moved.test\n")?;
    let mut scene = Scene::new(&host, Namespace::new()?, &config)?;
    names.change("127.0.0.3 moved.test\n")?;
    scene.fails("moved", &refused("stale-dns"))?;
    scene.nginx.reload(&config)?;
    let failure = scene.fails("moved", &refused("no-listener"))?;
    ensure!(
        failure.upstream.address.as_deref() == Some("127.0.0.3:25020"),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn of_two_names_with_one_port_the_one_that_moved_is_told_only_where_the_other_has_not_the_address()
-> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let upstreams = [
        ("one", "one.test:25030"),
        ("two", "two.test:25030"),
        ("three", "three.test:25031"),
        ("four", "four.test:25031"),
    ];
    let before = "127.0.0.2 one.test two.test three.test\n127.0.0.5 four.test\n";
    let (config, names) = passing(&upstreams, before)?;
    let mut scene = Scene::new(&host, Namespace::new()?, &config)?;
    names.change("127.0.0.3 one.test three.test\n127.0.0.2 two.test\n127.0.0.6 four.test\n")?;
    // Either may have led there, and one of them has the address: nothing says which was meant.
    let response = scene.get("one")?;
    ensure!(response.status >= 500, "{response:?}");
    let failure = scene.tracer.failure(LATEST, |_| true)?;
    ensure!(failure.verdict.code == "no-listener", "{failure:#?}");
    scene.count(&failure);
    let failure = scene.fails("three", &refused("stale-dns"))?;
    says(&failure, "certain", &["three.test", "127.0.0.3"])?;
    scene.end().map(drop)
}

#[test]
fn a_machine_that_a_name_has_left_is_told_from_one_that_is_down() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24"]),
        &there,
        ("eth0", &["10.1.0.2/24"]),
    )?;
    let upstreams = [("moved", "moved.test:25040"), ("down", "down.test:25041")];
    let before = "10.1.0.8 moved.test\n10.1.0.9 down.test\n";
    let (config, names) = passing(&upstreams, before)?;
    let mut scene = Scene::new(&host, here, &config.connect_timeout("1s"))?;
    names.change("10.1.0.2 moved.test\n10.1.0.9 down.test\n")?;
    let failure = scene.fails("moved", &timed_out("stale-dns"))?;
    says(&failure, "certain", &["neighbour-unreachable", "10.1.0.2"])?;
    scene.fails("down", &timed_out("neighbour-unreachable"))?;
    scene.end().map(drop)
}

#[test]
fn whatever_answers_at_the_old_address_far_away_the_name_has_left_it() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if std::fs::metadata("/dev/net/tun").is_err() {
        skip("this host has no /dev/net/tun");
        return Ok(());
    }
    let here = Namespace::new()?;
    let _wire = Wire::stretch(&here, &["--port", "25050=reset", "--port", "25051=3/1"])?;
    let upstreams = [
        ("reset", "moved.test:25050"),
        ("icmp", "moved.test:25051"),
        ("silent", "moved.test:25052"),
    ];
    let (config, names) = passing(&upstreams, "10.77.0.2 moved.test\n")?;
    let mut scene = Scene::new(&host, here, &config.connect_timeout("1s"))?;
    names.change("10.77.0.3 moved.test\n")?;
    let table: [(&str, Expected, &str); 3] = [
        ("reset", refused("stale-dns"), "remote-refused"),
        (
            "icmp",
            reported("stale-dns", "EHOSTUNREACH"),
            "icmp-unreachable",
        ),
        ("silent", timed_out("stale-dns"), "no-answer"),
    ];
    for (name, expected, met) in table {
        let failure = scene.fails(name, &expected)?;
        says(&failure, "certain", &[met, "10.77.0.3"])?;
    }
    scene.end().map(drop)
}

#[test]
fn a_rule_of_this_host_that_rejects_stays_the_verdict() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (config, names) = passing(&[("moved", "moved.test:25060")], "127.0.0.2 moved.test\n")?;
    let namespace = Namespace::new()?;
    namespace.filter("output", "tcp dport 25060 reject with tcp reset")?;
    let mut scene = Scene::new(&host, namespace, &config)?;
    names.change("127.0.0.3 moved.test\n")?;
    let response = scene.get("moved")?;
    ensure!(response.status >= 500, "{response:?}");
    let failure = scene.tracer.failure(LATEST, |_| true)?;
    ensure!(failure.verdict.code == "firewall-reject", "{failure:#?}");
    scene.count(&failure);
    scene.end().map(drop)
}
