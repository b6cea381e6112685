//! The command line, and what it writes for people.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Event;
use whyrefused_tests::host::{Host, fixture, skip, worker_user};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::process::Process;
use whyrefused_tests::scene::{Scene, refused};
use whyrefused_tests::scratch;

fn ask(host: &Host, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(&host.whyrefused).args(arguments).output()?)
}

#[test]
fn whoever_is_not_root_is_told_so() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    // Its own directory may be closed to others.
    let directory = scratch::directory("command-")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let copy = directory.path().join("whyrefused");
    fs::copy(&host.whyrefused, &copy)?;
    let user = worker_user()?;
    let mut command = Command::new(copy);
    command
        .arg("trace")
        .current_dir("/")
        .gid(user.gid.as_raw())
        .uid(user.uid.as_raw());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(output.stdout.is_empty(), "{output:?}");
    ensure!(said.contains("root"), "{said}");
    ensure!(
        !said.contains("panicked") && said.lines().count() < 10,
        "{said}"
    );
    Ok(())
}

#[test]
fn bad_usage_is_status_two() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for arguments in [
        &["trace", "--format", "xml"][..],
        &["trace", "--coalesce", "soon"],
        &["trace", "--pid", "nobody"],
        &["explain", "no-such-code"],
        &["dance"],
    ] {
        let output = ask(&host, arguments)?;
        ensure!(output.status.code() == Some(2), "{arguments:?}: {output:?}");
        ensure!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
    Ok(())
}

#[test]
fn every_code_that_is_listed_can_be_explained() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let list = String::from_utf8(ask(&host, &["explain"])?.stdout)?;
    for code in [
        "no-listener",
        "wrong-port",
        "icmp-unreachable",
        "fd-limit",
        "undetermined",
    ] {
        ensure!(list.contains(code), "{code} is not listed: {list}");
        let page = ask(&host, &["explain", code])?;
        ensure!(
            page.status.success() && page.stdout.len() > 400,
            "{code}: {page:?}"
        );
    }
    Ok(())
}

#[test]
fn doctor_says_what_can_be_observed() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let output = ask(&host, &["doctor"])?;
    ensure!(
        output.status.code() == Some(0) && !output.stdout.is_empty(),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn an_output_file_is_private_and_appended_to() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let directory = scratch::directory("command-")?;
    let file = directory.path().join("events");
    for run in 1..=2 {
        let path = file.to_str().context("no path")?;
        let output = ask(&host, &["trace", "--output", path, "--duration", "200ms"])?;
        ensure!(output.status.code() == Some(0), "{output:?}");
        ensure!(output.stdout.is_empty(), "{output:?}");
        ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
        let text = fs::read_to_string(&file)?;
        let events = text.lines().map(Event::read).collect::<Result<Vec<_>>>()?;
        let ends = events
            .iter()
            .filter(|event| matches!(event, Event::End(_)))
            .count();
        ensure!(ends == run, "{text}");
    }
    Ok(())
}

#[test]
fn a_full_disk_under_the_output_is_told() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        skip("this host has no /dev/full");
        return Ok(());
    };
    let mut command = Command::new(&host.whyrefused);
    command.args(["trace", "--format", "json", "--duration", "1s"]);
    let output = command.stdout(full).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{output:?}");
    ensure!(!said.is_empty() && !said.contains("panicked"), "{said}");
    Ok(())
}

/// Starts a backend whose process name is hostile to terminals.
fn hostile(namespace: &Namespace, directory: &Path, address: &str) -> Result<Backend> {
    let program = directory.join("a\x1b[31m\nb\u{7}");
    fs::copy(fixture()?, &program)?;
    Backend::start_program(namespace, &program, &["tcp", address])
}

#[test]
fn a_process_name_with_control_characters_does_no_harm() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let directory = scratch::directory("command-")?;
    let here = Namespace::new()?;
    let backend = hostile(&here, directory.path(), "127.0.0.1:11021")?;
    let mut scene = Scene::new(&host, here, &Config::passing(&[("app", "127.0.0.1:11020")]))?;
    let failure = scene.fails("app", &refused("wrong-port"))?;
    ensure!(
        failure.candidates[0].pid == Some(backend.pid()),
        "{failure:#?}"
    );
    ensure!(
        failure.candidates[0]
            .comm
            .as_deref()
            .is_some_and(|comm| comm.starts_with('a')),
        "{failure:#?}"
    );
    let told = [
        vec![failure.verdict.summary],
        failure.verdict.because,
        failure.verdict.fix,
    ]
    .concat();
    ensure!(
        !told
            .concat()
            .contains(|character: char| character.is_control()),
        "{told:?}"
    );
    scene.end().map(drop)
}

#[test]
fn output_for_people_has_no_control_characters_but_line_ends() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let directory = scratch::directory("command-")?;
    let here = Namespace::new()?;
    let _backend = hostile(&here, directory.path(), "127.0.0.1:11041")?;
    let nginx = Nginx::start(
        &host,
        &here,
        &Config::passing(&[("app", "127.0.0.1:11040")]),
    )?;
    let path = directory.path().join("output");
    let mut command = Command::new(&host.whyrefused);
    command
        .args([
            "trace",
            "--format",
            "human",
            "--coalesce",
            "0",
            "--pid",
            &nginx.pid().to_string(),
        ])
        .stdout(File::create(&path)?);
    let mut process = Process::start(&mut command)?;
    wait_for("the tool to attach", SOON, || {
        Ok((fs::metadata(&path)?.len() > 0).then_some(()))
    })?;
    ensure!(nginx.get(&here, "app")?.status == 502);
    wait_for("the explanation", SOON, || {
        Ok(fs::read_to_string(&path)?
            .contains("wrong-port")
            .then_some(()))
    })?;
    process.signal(Signal::SIGINT)?;
    ensure!(process.wait(SOON)?.code() == Some(0));
    let text = fs::read_to_string(&path)?;
    ensure!(
        !text.contains(|character: char| character.is_control() && character != '\n'),
        "{text:?}"
    );
    ensure!(
        text.contains("127.0.0.1:11040") && text.contains("127.0.0.1:11041"),
        "{text}"
    );
    Ok(())
}
