//! Which nginx is watched: workers come, go and belong to somebody.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::process::to_pid;
use whyrefused_tests::scene::{Scene, refused};
use whyrefused_tests::tracer::Tracer;

fn dead() -> Config {
    Config::passing(&[("app", "127.0.0.1:24000")])
}

#[test]
fn the_session_names_the_watched_nginx() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let config = Config {
        workers: 2,
        ..dead()
    };
    let scene = Scene::new(&host, Namespace::new()?, &config)?;
    let session = scene.tracer.session();
    let [instance] = &session.nginx[..] else {
        anyhow::bail!("one nginx is watched, {:#?} are named", session.nginx);
    };
    ensure!(
        instance.master_pid == Some(scene.nginx.pid()),
        "{instance:#?}"
    );
    let (mut told, mut true_ones) = (instance.workers.clone(), scene.nginx.workers()?);
    told.sort_unstable();
    true_ones.sort_unstable();
    ensure!(told == true_ones, "{instance:#?}");
    ensure!(instance.netns == scene.namespace.inode(), "{instance:#?}");
    ensure!(
        instance.config.as_deref() == scene.nginx.config_path().to_str(),
        "{instance:#?}"
    );
    ensure!(!session.probes.is_empty(), "{session:#?}");
    ensure!(
        session.kernel == fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "{session:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn another_nginx_is_left_alone() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let elsewhere = Namespace::new()?;
    let other = Nginx::start(&host, &elsewhere, &dead())?;
    let mut scene = Scene::new(&host, Namespace::new()?, &dead())?;
    ensure!(other.get(&elsewhere, "app")?.status == 502);
    scene.fails("app", &refused("no-listener"))?;
    ensure!(other.get(&elsewhere, "app")?.status == 502);
    scene.end().map(drop)
}

#[test]
fn one_worker_of_two_can_be_watched_alone() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let nginx = Nginx::start(
        &host,
        &here,
        &Config {
            workers: 2,
            ..dead()
        },
    )?;
    let watched = *nginx.workers()?.first().context("no worker")?;
    let tracer = Tracer::watch(&host, watched)?;
    let requests = 40;
    for _ in 0..requests {
        nginx.get(&here, "app")?;
    }
    let logged = nginx.errors()?;
    let by_watched = logged
        .iter()
        .filter(|line| line.contains(&format!(" {watched}#")) && line.contains("connect() failed"));
    let expected = by_watched.count() as u64;
    let finished = tracer.stop(Signal::SIGINT)?;
    let end = finished.end.context("no end event")?;
    ensure!(
        end.verdicts.values().sum::<u64>() == expected,
        "{expected} by {watched}: {end:?}"
    );
    Ok(())
}

#[test]
fn an_nginx_that_starts_after_the_tool_is_found() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let mut tracer = Tracer::start(&host, &["--coalesce", "0"])?;
    let here = Namespace::new()?;
    let nginx = Nginx::start(&host, &here, &dead())?;
    ensure!(nginx.get(&here, "app")?.status == 502);
    let failure = tracer.failure(SOON, |failure| failure.nginx.netns == here.inode())?;
    ensure!(failure.verdict.code == "no-listener", "{failure:#?}");
    ensure!(
        failure.nginx.master_pid == Some(nginx.pid()),
        "{failure:#?}"
    );
    ensure!(
        failure.upstream.name.as_deref() == Some("app"),
        "{failure:#?}"
    );
    ensure!(failure.request.is_some(), "{failure:#?}");
    Ok(())
}

#[test]
fn the_workers_of_a_reload_are_watched_and_their_configuration_is_read_again() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let mut scene = Scene::new(&host, Namespace::new()?, &dead())?;
    scene.fails("app", &refused("no-listener"))?;
    scene.nginx.reload(&Config::passing(&[
        ("first", "127.0.0.1:24021"),
        ("renamed", "127.0.0.1:24020"),
    ]))?;
    scene.fails("renamed", &refused("no-listener"))?;
    scene.fails("first", &refused("no-listener"))?;
    scene.end().map(drop)
}

#[test]
fn the_successor_of_a_crashed_worker_is_watched() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let mut scene = Scene::new(&host, Namespace::new()?, &dead())?;
    let old = *scene.nginx.workers()?.first().context("no worker")?;
    kill(to_pid(old)?, Signal::SIGKILL)?;
    wait_for("a new worker", SOON, || {
        let workers = scene.nginx.workers()?;
        Ok((workers.len() == 1 && workers[0] != old).then_some(()))
    })?;
    scene.fails("app", &refused("no-listener"))?;
    scene.end().map(drop)
}

#[test]
fn an_nginx_that_dies_while_it_is_watched_does_no_harm() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let nginx = Nginx::start(&host, &here, &dead())?;
    let tracer = Tracer::watch(&host, nginx.pid())?;
    let _client = nginx.send(&here, "app")?;
    drop(nginx);
    let finished = tracer.stop(Signal::SIGINT)?;
    ensure!(finished.status.code() == Some(0), "{finished:?}");
    ensure!(finished.end.is_some(), "{finished:?}");
    ensure!(!finished.stderr.contains("panicked"), "{finished:?}");
    Ok(())
}
