//! Somebody listened and no longer does.

use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::cgroup::MemoryLimit;
use whyrefused_tests::contract::{Ended, Failure, moment};
use whyrefused_tests::host::{Host, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::patience::SOON;
use whyrefused_tests::process::signal_name;
use whyrefused_tests::scene::{Scene, refused};
use whyrefused_tests::tracer::Tracer;

/// A scene in which the backend answered before it ended in the way `end` ends it, and the
/// explanation of the refusal that followed.
fn after(
    address: &str,
    code: &'static str,
    end: impl FnOnce(&mut Backend) -> Result<()>,
) -> Result<Option<(Scene, Backend, Failure, Ended)>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    let here = Namespace::new()?;
    let mut backend = Backend::listen(&here, address)?;
    let mut scene = Scene::new(&host, here, &Config::passing(&[("app", address)]))?;
    scene.succeeds("app")?;
    end(&mut backend)?;
    let failure = scene.fails("app", &refused(code))?;
    let listener = failure.listener.clone().context("no listener")?;
    ensure!(listener.address == address, "{failure:#?}");
    ensure!(listener.pid == Some(backend.pid()), "{failure:#?}");
    ensure!(listener.comm.as_deref() == Some("backend"), "{failure:#?}");
    ensure!(listener.netns == scene.namespace.inode(), "{failure:#?}");
    let ended = listener.ended.context("it did not end")?;
    ensure!(
        moment(&ended.time)? <= moment(&failure.time)?,
        "{failure:#?}"
    );
    Ok(Some((scene, backend, failure, ended)))
}

#[test]
fn a_listener_whose_process_exited_is_explained_as_listener_exited() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13500);
    for (address, status) in ADDRESSES.into_iter().zip([3, 0]) {
        let end = |backend: &mut Backend| backend.end_by(&format!("exit {status}")).map(drop);
        let Some((scene, _, failure, ended)) = after(address, "listener-exited", end)? else {
            return Ok(());
        };
        ensure!(
            ended.how == "exited" && ended.status == Some(status),
            "{failure:#?}"
        );
        ensure!(ended.signal.is_none(), "{failure:#?}");
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_listener_whose_process_was_killed_is_explained_as_listener_killed() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13510);
    for address in ADDRESSES {
        let end = |backend: &mut Backend| {
            backend.process().signal(Signal::SIGKILL)?;
            backend.process().wait(SOON).map(drop)
        };
        let Some((scene, _, failure, ended)) = after(address, "listener-killed", end)? else {
            return Ok(());
        };
        ensure!(ended.how == "killed", "{failure:#?}");
        ensure!(ended.signal.as_deref() == Some("SIGKILL"), "{failure:#?}");
        ensure!(
            ended.core == Some(false) && ended.status.is_none(),
            "{failure:#?}"
        );
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_listener_whose_process_crashed_is_explained_as_listener_killed() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13520);
    for (order, core) in [("segv", false), ("segv", true), ("abort", true)] {
        let mut witnessed = None;
        let end = |backend: &mut Backend| {
            backend.allow_core(core)?;
            witnessed = Some(backend.end_by(order)?);
            Ok(())
        };
        let Some((scene, _, failure, ended)) = after(ADDRESSES[0], "listener-killed", end)? else {
            return Ok(());
        };
        let status = witnessed.context("no exit status")?;
        ensure!(ended.how == "killed", "{failure:#?}");
        ensure!(
            ended.signal.as_deref() == signal_name(status),
            "{failure:#?}"
        );
        ensure!(
            ended.core == Some(status.core_dumped()),
            "{status:?} {failure:#?}"
        );
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_listener_whose_process_ran_out_of_memory_is_explained_as_listener_oom_killed() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13530);
    for (name, address) in ["four", "six"].into_iter().zip(ADDRESSES) {
        let limit = match MemoryLimit::new(name, 32 << 20) {
            Ok(Some(limit)) => limit,
            Ok(None) => {
                skip("no memory cgroup controller is mounted");
                return Ok(());
            }
            Err(error) => {
                skip(&format!("{error:#}"));
                return Ok(());
            }
        };
        let end = |backend: &mut Backend| {
            limit.confine(backend.pid())?;
            let status = backend.end_by("eat")?;
            ensure!(
                status.signal() == Some(libc::SIGKILL),
                "it ended by {status}"
            );
            Ok(())
        };
        let Some((scene, _, failure, ended)) = after(address, "listener-oom-killed", end)? else {
            return Ok(());
        };
        ensure!(ended.how == "oom-killed", "{failure:#?}");
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_listener_closed_by_a_living_process_is_explained_as_listener_closed() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13540);
    for address in ADDRESSES {
        let end = |backend: &mut Backend| backend.order("close");
        let Some((scene, mut backend, failure, ended)) = after(address, "listener-closed", end)?
        else {
            return Ok(());
        };
        ensure!(ended.how == "closed", "{failure:#?}");
        ensure!(
            ended.status.is_none() && ended.signal.is_none(),
            "{failure:#?}"
        );
        ensure!(
            backend.process().child().try_wait()?.is_none(),
            "it did not live on"
        );
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_listener_that_came_after_the_tool_and_was_killed_is_explained_as_listener_killed() -> Result<()>
{
    const ADDRESSES: [&str; 2] = addresses!(13550);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let mut scene = Scene::new(
        &host,
        Namespace::new()?,
        &Config::passing(&[("app", ADDRESSES[0])]),
    )?;
    let mut backend = Backend::listen(&scene.namespace, ADDRESSES[0])?;
    scene.succeeds("app")?;
    backend.process().signal(Signal::SIGTERM)?;
    backend.process().wait(SOON)?;
    let failure = scene.fails("app", &refused("listener-killed"))?;
    let listener = failure.listener.as_ref().context("no listener")?;
    let ended = listener.ended.as_ref().context("it did not end")?;
    ensure!(listener.pid == Some(backend.pid()), "{failure:#?}");
    ensure!(ended.signal.as_deref() == Some("SIGTERM"), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn a_listener_that_died_before_the_tool_came_is_explained_as_no_listener() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13560);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    drop(Backend::listen(&here, ADDRESSES[0])?);
    let mut scene = Scene::new(&host, here, &Config::passing(&[("app", ADDRESSES[0])]))?;
    scene.fails("app", &refused("no-listener"))?;
    scene.end().map(drop)
}

#[test]
fn a_death_on_another_port_leaves_it_at_no_listener() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13570);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let other = Backend::listen(&here, "127.0.0.1:13000")?;
    let mut scene = Scene::new(&host, here, &Config::passing(&[("app", ADDRESSES[0])]))?;
    drop(other);
    scene.fails("app", &refused("no-listener"))?;
    scene.end().map(drop)
}

#[test]
fn the_same_port_and_a_death_in_another_namespace_leave_it_at_no_listener() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13580);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let other = Backend::listen(&there, ADDRESSES[0])?;
    let mut scene = Scene::new(&host, here, &Config::passing(&[("app", ADDRESSES[0])]))?;
    drop(other);
    scene.fails("app", &refused("no-listener"))?;
    scene.end().map(drop)
}

#[test]
fn the_death_of_one_of_two_listeners_on_a_port_is_no_failure() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13590);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let arguments = ["tcp", ADDRESSES[0], "--reuseport"];
    let (doomed, _survivor) = (
        Backend::start(&here, &arguments)?,
        Backend::start(&here, &arguments)?,
    );
    let scene = Scene::new(&host, here, &Config::passing(&[("app", ADDRESSES[0])]))?;
    drop(doomed);
    for _ in 0..10 {
        scene.succeeds("app")?;
    }
    scene.end().map(drop)
}

#[test]
fn the_last_of_two_listeners_on_a_port_is_the_one_that_is_blamed() -> Result<()> {
    const ADDRESSES: [&str; 2] = addresses!(13600);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let arguments = ["tcp", ADDRESSES[0], "--reuseport"];
    let (mut first, mut last) = (
        Backend::start(&here, &arguments)?,
        Backend::start(&here, &arguments)?,
    );
    let nginx = Nginx::start(&host, &here, &Config::passing(&[("app", ADDRESSES[0])]))?;
    let tracer = Tracer::watch(&host, nginx.pid())?;
    let mut scene = Scene::of(&host, here, nginx, tracer);
    first.end_by("exit 1")?;
    last.end_by("exit 2")?;
    let failure = scene.fails("app", &refused("listener-exited"))?;
    let listener = failure.listener.as_ref().context("no listener")?;
    ensure!(listener.pid == Some(last.pid()), "{failure:#?}");
    ensure!(
        listener.ended.as_ref().and_then(|ended| ended.status) == Some(2),
        "{failure:#?}"
    );
    scene.end().map(drop)
}
