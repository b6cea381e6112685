//! Paths that cannot be walked, and how paths are written.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Scene, denied};

use super::{certain, says};

#[test]
fn paths_that_cannot_be_walked_are_explained_as_unix_bad_path() -> Result<()> {
    let (host, place) = staged!();
    fs::write(place.path("file"), "")?;
    symlink("b", place.path("a"))?;
    symlink("a", place.path("b"))?;
    let failure = place.fails(&host, "file/app.sock", "unix-bad-path", "ENOTDIR")?;
    certain(&failure)?;
    says(&failure, &[&place.text("file"), "a regular file"])?;
    let failure = place.fails(&host, "a", "unix-bad-path", "ELOOP")?;
    says(&failure, &["loop"])
}

#[test]
fn a_path_as_long_as_nginx_takes_is_told_whole() -> Result<()> {
    let (host, place) = staged!();
    let room = 107 - place.text("").len();
    let name = "x".repeat(room);
    let failure = place.fails(&host, &name, "unix-missing", "ENOENT")?;
    ensure!(
        failure.upstream.address == Some(place.address(&name)),
        "{failure:#?}"
    );
    let _backend = place.backend(&name, &[])?;
    let scene = place.scene(&host, &name)?;
    scene.succeeds("app")?;
    scene.end().map(drop)
}

#[test]
fn bytes_that_are_no_utf8_are_escaped() -> Result<()> {
    let (host, place) = staged!();
    let failure = place.fails(&host, "\\xff.sock", "unix-missing", "ENOENT")?;
    says(&failure, &["\\xff.sock"])
}

#[test]
fn an_at_sign_is_a_file_name_and_the_abstract_socket_a_candidate() -> Result<()> {
    let (host, place) = staged!();
    let name = format!("@whyrefused-{}", std::process::id());
    let backend = Backend::start(&place.here, &["unix", &name])?;
    let config = Config::passing(&[("app", &format!("unix:{name}"))]);
    let mut scene = Scene::new(&host, place.here.clone(), &config)?;
    let failure = scene.fails("app", &denied("unix-missing", "ENOENT"))?;
    says(&failure, &["abstract"])?;
    ensure!(
        failure.candidates[0].pid == Some(backend.pid()),
        "{failure:#?}"
    );
    scene.end().map(drop)
}
