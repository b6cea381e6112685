//! The demo shows what it promises and leaves nothing behind, however it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use whyrefused_tests::host::Host;
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::process::{run, to_pid};

#[test]
fn the_demo_explains_a_different_cause_for_each_broken_upstream() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let output = run(Command::new(env!("CARGO_BIN_EXE_demo")).arg(&host.whyrefused))?;
    let text = String::from_utf8(output.stdout)?;
    for code in [
        "no-listener",
        "wrong-port",
        "wrong-address",
        "listener-killed",
        "listener-exited",
        "route-refused",
        "other-netns",
        "bound-not-listening",
        "neighbour-unreachable",
    ] {
        ensure!(text.contains(code), "{code} is not shown:\n{text}");
    }
    ensure!(
        text.contains("nginx's error log: connect() failed (111"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_demo_that_is_interrupted_or_killed_leaves_nothing_behind() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
            .arg(&host.whyrefused)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = demo.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let midway = lines.any(|line| line.is_ok_and(|line| line.starts_with("5. ")));
        let traces = format!("whyrefused-lab-{}-", demo.id());
        let alive = processes_with(&traces)?;
        kill(to_pid(demo.id())?, signal)?;
        demo.wait()?;
        ensure!(midway, "the demo ended early");
        ensure!(!alive.is_empty(), "nothing runs that could be left behind");
        wait_for("everything to be gone", SOON, || {
            let gone = processes_with(&traces)?.is_empty()
                && directories_with(&traces)? == 0
                && !alive
                    .iter()
                    .any(|pid| fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false));
            Ok(gone.then_some(()))
        })?;
    }
    Ok(())
}

/// Processes that name such a path on their command line, and those in their process groups.
fn processes_with(path: &str) -> Result<Vec<u32>> {
    let pids = fs::read_dir("/proc")?.filter_map(|entry| {
        entry
            .ok()?
            .file_name()
            .to_string_lossy()
            .parse::<u32>()
            .ok()
    });
    let group = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = status.rsplit_once(") ")?;
        fields.split(' ').nth(2)?.parse::<u32>().ok()
    };
    let all: Vec<u32> = pids.collect();
    let named: Vec<u32> = all
        .iter()
        .copied()
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(path)
        })
        .collect();
    Ok(all
        .into_iter()
        .filter(|pid| group(*pid).is_some_and(|group| named.contains(&group)))
        .collect())
}

fn directories_with(name: &str) -> Result<usize> {
    let entries = fs::read_dir(std::env::temp_dir())?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().contains(name)))
        .filter(|ours| *ours)
        .count())
}
