//! Backlogs that are full.

use anyhow::{Result, ensure};

use super::{certain, listener_is, says};

#[test]
fn a_full_backlog_is_told_with_its_numbers() -> Result<()> {
    let (host, place) = staged!();
    let backend = place.backend("app.sock", &["--never-accept", "--backlog", "1"])?;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(std::os::unix::net::UnixStream::connect(
            place.path("app.sock"),
        )?);
    }
    let failure = place.fails(&host, "app.sock", "unix-backlog-full", "EAGAIN")?;
    certain(&failure)?;
    says(
        &failure,
        &["2 connections wait", "the backlog is 1", "somaxconn"],
    )?;
    listener_is(&failure, &backend, &place.address("app.sock"))
}

#[test]
fn a_stopped_backend_with_a_full_backlog_is_told_as_stopped() -> Result<()> {
    let (host, place) = staged!();
    let mut backend = place.backend("app.sock", &["--backlog", "0"])?;
    backend.order("stop")?;
    let _waiting = std::os::unix::net::UnixStream::connect(place.path("app.sock"))?;
    let failure = place.fails(&host, "app.sock", "unix-backlog-full", "EAGAIN")?;
    says(&failure, &["is stopped"])?;
    let fix = format!("kill -CONT {}", backend.pid());
    ensure!(failure.verdict.fix.contains(&fix), "{failure:#?}");
    Ok(())
}
