//! Socket files whose listener has ended, or never listened.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::patience::SOON;
use whyrefused_tests::scene::{Scene, denied};

use super::{Place, certain, listener_is, says, stage};

#[test]
fn a_stale_socket_file_is_explained_as_unix_no_listener() -> Result<()> {
    let (host, place) = staged!();
    drop(place.backend("app.sock", &[])?);
    ensure!(place.path("app.sock").exists(), "the file is gone");
    let failure = place.fails(&host, "app.sock", "unix-no-listener", "ECONNREFUSED")?;
    certain(&failure)?;
    says(&failure, &["stale"])?;
    ensure!(failure.listener.is_none(), "{failure:#?}");
    Ok(())
}

#[test]
fn a_socket_that_is_only_bound_is_told_with_its_holder() -> Result<()> {
    let (host, place) = staged!();
    let backend = place.backend("app.sock", &["--bind-only"])?;
    let failure = place.fails(&host, "app.sock", "unix-no-listener", "ECONNREFUSED")?;
    certain(&failure)?;
    says(
        &failure,
        &["does not listen", &format!("backend[{}]", backend.pid())],
    )?;
    listener_is(&failure, &backend, &place.address("app.sock"))
}

#[test]
fn a_socket_shut_down_for_receiving_is_told_with_its_holder() -> Result<()> {
    let (host, place) = staged!();
    let mut backend = place.backend("app.sock", &[])?;
    backend.order("shut")?;
    let failure = place.fails(&host, "app.sock", "unix-no-listener", "ECONNREFUSED")?;
    says(&failure, &["shut"])
}

/// The failure after the backend, which answered, ended in that way.
fn after(
    late: bool,
    end: impl FnOnce(&mut Backend) -> Result<()>,
) -> Result<Option<(Place, Backend, Failure)>> {
    let Some((host, place)) = stage()? else {
        return Ok(None);
    };
    let early = (!late)
        .then(|| place.backend("app.sock", &[]))
        .transpose()?;
    let config = Config::passing(&[
        ("app", &place.address("app.sock")),
        ("missing", &place.address("missing.sock")),
    ]);
    let mut scene = Scene::new(&host, place.here.clone(), &config)?;
    let mut backend = match early {
        Some(backend) => backend,
        None => place.backend("app.sock", &[])?,
    };
    scene.succeeds("app")?;
    if late {
        // Once this is explained, what happened before has been looked at.
        scene.fails("missing", &denied("unix-missing", "ENOENT"))?;
    }
    end(&mut backend)?;
    let failure = scene.fails("app", &denied("unix-no-listener", "ECONNREFUSED"))?;
    listener_is(&failure, &backend, &place.address("app.sock"))?;
    scene.end()?;
    Ok(Some((place, backend, failure)))
}

fn how(failure: &Failure) -> Option<&str> {
    let ended = failure.listener.as_ref()?.ended.as_ref()?;
    Some(&ended.how)
}

#[test]
fn a_listener_that_was_killed_is_told_with_its_end() -> Result<()> {
    for late in [false, true] {
        let kill = |backend: &mut Backend| {
            backend.process().signal(Signal::SIGKILL)?;
            backend.process().wait(SOON).map(drop)
        };
        let Some((_, _, failure)) = after(late, kill)? else {
            return Ok(());
        };
        ensure!(how(&failure) == Some("killed"), "{failure:#?}");
        says(&failure, &["SIGKILL"])?;
    }
    Ok(())
}

#[test]
fn a_listener_that_exited_is_told_with_its_status() -> Result<()> {
    let Some((_, _, failure)) = after(false, |backend| backend.end_by("exit 3").map(drop))? else {
        return Ok(());
    };
    ensure!(how(&failure) == Some("exited"), "{failure:#?}");
    says(&failure, &["status 3"])
}

#[test]
fn a_listener_that_a_living_process_closed_is_told_as_closed() -> Result<()> {
    let Some((_, _backend, failure)) = after(false, |backend| backend.order("close"))? else {
        return Ok(());
    };
    ensure!(how(&failure) == Some("closed"), "{failure:#?}");
    says(&failure, &["lives on"])
}

#[test]
fn a_backend_that_removed_its_socket_as_it_ended_is_told() -> Result<()> {
    let (host, place) = staged!();
    let mut backend = place.backend("app.sock", &[])?;
    let mut scene = place.scene(&host, "app.sock")?;
    scene.succeeds("app")?;
    backend.order("unlink")?;
    backend.end_by("exit 0")?;
    let failure = scene.fails("app", &denied("unix-missing", "ENOENT"))?;
    ensure!(how(&failure) == Some("exited"), "{failure:#?}");
    scene.end().map(drop)
}
