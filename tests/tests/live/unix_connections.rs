//! What breaks once a connection to a Unix socket stands.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Upstream};
use whyrefused_tests::scene::{Expected, Scene, met, timed_out};
use whyrefused_tests::scratch;

/// One request to a socket whose connections meet that fate.
fn fails(fate: fn(UnixStream), expected: &Expected) -> Result<Option<Failure>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    let directory = scratch::directory("unix-")?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || fate(stream));
        }
    });
    let upstream = Upstream::new("app", &format!("unix:{}", path.display()));
    let upstream = upstream.in_location("proxy_read_timeout 500ms;");
    let mut scene = Scene::new(&host, Namespace::new()?, &Config::of(vec![upstream]))?;
    let failure = scene.fails("app", expected)?;
    let summary = &failure.verdict.summary;
    ensure!(!summary.contains("off this host"), "{failure:#?}");
    scene.end()?;
    Ok(Some(failure))
}

fn read(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0; 4096]);
}

#[test]
fn a_backend_that_leaves_the_request_unread_resets() -> Result<()> {
    let unread = |stream| {
        thread::sleep(Duration::from_millis(100));
        drop::<UnixStream>(stream);
    };
    fails(unread, &met("reset-by-backend", Some("ECONNRESET"))).map(drop)
}

#[test]
fn a_backend_that_closes_is_told_from_one_that_resets() -> Result<()> {
    fails(
        |mut stream| read(&mut stream),
        &met("closed-by-backend", None),
    )
    .map(drop)
}

#[test]
fn a_backend_that_never_answers_is_silent() -> Result<()> {
    let hold = |mut stream: UnixStream| {
        read(&mut stream);
        read(&mut stream);
    };
    fails(hold, &timed_out("backend-silent")).map(drop)
}
