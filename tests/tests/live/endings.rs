//! However the tool ends, it ends well and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::host::{Host, loaded_programs, program, programs_held_by, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::process::Process;
use whyrefused_tests::scene::ended_well;
use whyrefused_tests::tracer::Tracer;

fn watched() -> Result<Option<(Host, Namespace, Nginx, Tracer)>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    let here = Namespace::new()?;
    let nginx = Nginx::start(
        &host,
        &here,
        &Config::passing(&[("app", "127.0.0.1:14000")]),
    )?;
    let tracer = Tracer::watch(&host, nginx.pid())?;
    Ok(Some((host, here, nginx, tracer)))
}

/// The programs among `ids` that are still loaded.
fn still_loaded(ids: &[u64]) -> Result<Vec<(u64, String)>> {
    Ok(loaded_programs()?
        .into_iter()
        .filter(|(id, _)| ids.contains(id))
        .collect())
}

fn leaves_nothing_attached_after(signal: Signal) -> Result<()> {
    if program("bpftool", "bpftool").is_err() {
        skip("bpftool is not installed");
        return Ok(());
    }
    let Some((_, _, _nginx, mut tracer)) = watched()? else {
        return Ok(());
    };
    let held = programs_held_by(tracer.process().pid())?;
    ensure!(!held.is_empty(), "the tool holds no BPF program");
    ensure!(
        still_loaded(&held)?.len() == held.len(),
        "{held:?} are not all loaded"
    );
    tracer.process().signal(signal)?;
    tracer.process().wait(SOON)?;
    // The kernel frees a program some time after its last user (call_rcu).
    wait_for("the programs to be gone", SOON, || {
        Ok(still_loaded(&held)?.is_empty().then_some(()))
    })
}

#[test]
fn sigkill_leaves_nothing_attached() -> Result<()> {
    leaves_nothing_attached_after(Signal::SIGKILL)
}

#[test]
fn sigint_leaves_nothing_attached() -> Result<()> {
    leaves_nothing_attached_after(Signal::SIGINT)
}

#[test]
fn a_polite_signal_ends_it_with_an_end_event_and_status_zero() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let Some((_, _, _nginx, tracer)) = watched()? else {
            return Ok(());
        };
        ended_well(&tracer.stop(signal)?)?;
    }
    Ok(())
}

#[test]
fn what_failed_just_before_the_signal_is_still_told() -> Result<()> {
    let Some((_, here, nginx, tracer)) = watched()? else {
        return Ok(());
    };
    ensure!(nginx.get(&here, "app")?.status == 502);
    let finished = tracer.stop(Signal::SIGTERM)?;
    ensure!(finished.unclaimed.len() == 1, "{finished:#?}");
    let end = finished.end.context("no end event")?;
    ensure!(end.verdicts.get("no-listener") == Some(&1), "{end:?}");
    Ok(())
}

#[test]
fn a_duration_ends_it_by_itself() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let mut tracer = Tracer::start(&host, &["--duration", "1s"])?;
    let finished = tracer.finish(Instant::now())?;
    ensure!(finished.status.code() == Some(0), "{finished:#?}");
    ensure!(finished.end.is_some(), "{finished:#?}");
    Ok(())
}

#[test]
fn a_closed_pipe_ends_it_quietly() -> Result<()> {
    let Some((host, here, nginx, tracer)) = watched()? else {
        return Ok(());
    };
    drop(tracer);
    let mut command = Command::new(&host.whyrefused);
    command.args([
        "trace",
        "--format",
        "json",
        "--coalesce",
        "0",
        "--pid",
        &nginx.pid().to_string(),
    ]);
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let stdout = process
        .child()
        .stdout
        .take()
        .context("no standard output")?;
    let mut reader = BufReader::new(stdout);
    reader.read_line(&mut String::new())?;
    drop(reader);
    ensure!(nginx.get(&here, "app")?.status == 502);
    let status = process.wait(SOON)?;
    let mut said = String::new();
    let stderr = process.child().stderr.take().context("no standard error")?;
    for line in BufReader::new(stderr).lines() {
        said += &line?;
    }
    ensure!(status.code() == Some(0), "{status}: {said}");
    ensure!(said.is_empty(), "not quiet: {said}");
    Ok(())
}
