//! Commands of nginx that bind what a running one has bound: none of them dials an upstream.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::scene::{Scene, refused};
use whyrefused_tests::tracer::Tracer;

/// An nginx that a tool watches which follows every other that starts.
fn watched(host: &Host, config: &Config) -> Result<Scene> {
    let here = Namespace::new()?;
    let nginx = Nginx::start(host, &here, config)?;
    let tracer = Tracer::start(host, &["--coalesce", "0"])?;
    Ok(Scene::of(host, here, nginx, tracer))
}

/// The command `nginx` with the configuration of the one that runs.
fn nginx(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = scene.namespace.command(&scene.host.nginx);
    command
        .arg("-p")
        .arg(scene.nginx.directory())
        .arg("-c")
        .arg(scene.nginx.config_path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A failure after what must not be told says that everything before it was.
fn nothing_else_is_told(mut scene: Scene) -> Result<()> {
    let here = scene.namespace.inode();
    ensure!(scene.get("app")?.status == 502);
    let failure = scene
        .tracer
        .failure(whyrefused_tests::patience::SOON, |failure| {
            failure.nginx.netns == here || failure.verdict.code == "bind-failed"
        })?;
    ensure!(failure.verdict.code == "no-listener", "{failure:#?}");
    let finished = scene.tracer.stop(nix::sys::signal::Signal::SIGINT)?;
    // Other tests run beside this one.
    let ours = finished.unclaimed.iter().filter(|event| {
        let text = format!("{event:?}");
        text.contains("bind-failed") || text.contains(&format!("netns: {here}"))
    });
    let ours: Vec<_> = ours.collect();
    ensure!(ours.is_empty(), "{ours:#?}");
    Ok(())
}

#[test]
fn a_test_of_the_configuration_is_no_failure_to_bind() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let scene = watched(&host, &Config::passing(&[("app", "127.0.0.1:24100")]))?;
    for _ in 0..5 {
        ensure!(nginx(&scene, &["-t"]).status()?.success());
        ensure!(nginx(&scene, &["-T"]).status()?.success());
    }
    nothing_else_is_told(scene)
}

#[test]
fn a_test_and_a_reload_are_no_failure_to_bind() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let mut scene = watched(&host, &Config::passing(&[("app", "127.0.0.1:24110")]))?;
    for _ in 0..3 {
        ensure!(nginx(&scene, &["-t"]).status()?.success());
        let config = scene.nginx.config().clone();
        scene.nginx.reload(&config)?;
    }
    nothing_else_is_told(scene)
}

#[test]
fn a_second_nginx_on_a_port_that_is_taken_is_no_failed_upstream() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let scene = watched(&host, &Config::passing(&[("app", "127.0.0.1:24120")]))?;
    // It tries five times, half a second apart.
    let second = nginx(&scene, &["-g", "error_log /dev/null;"]).status()?;
    ensure!(!second.success(), "it started");
    nothing_else_is_told(scene)
}

#[test]
fn a_watched_nginx_still_tells_its_own_failures_beside_a_test() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let mut scene = Scene::new(
        &host,
        Namespace::new()?,
        &Config::passing(&[("app", "127.0.0.1:24130")]),
    )?;
    ensure!(nginx(&scene, &["-t"]).status()?.success());
    scene.fails("app", &refused("no-listener"))?;
    scene.end().map(drop)
}
