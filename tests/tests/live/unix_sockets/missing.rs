//! Nothing at the path, or nothing that this worker can see.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::scene::{Scene, denied};

use super::{certain, says};

#[test]
fn a_path_with_nothing_there_is_explained_as_unix_missing() -> Result<()> {
    let (host, place) = staged!();
    let failure = place.fails(&host, "app.sock", "unix-missing", "ENOENT")?;
    certain(&failure)?;
    ensure!(
        failure.listener.is_none() && failure.candidates.is_empty(),
        "{failure:#?}"
    );
    let failure = place.fails(&host, "none/app.sock", "unix-missing", "ENOENT")?;
    says(&failure, &["the directory", &place.text("none")])
}

#[test]
fn a_dangling_link_is_named() -> Result<()> {
    let (host, place) = staged!();
    symlink("gone.sock", place.path("link.sock"))?;
    let failure = place.fails(&host, "link.sock", "unix-missing", "ENOENT")?;
    says(&failure, &["dangling", &place.text("gone.sock")])
}

#[test]
fn a_socket_in_another_mount_namespace_is_named() -> Result<()> {
    let (host, place) = staged!();
    let private = place.directory("private", 0o755)?;
    let path = place.text("private/app.sock");
    let script = format!(
        "mount -t tmpfs none {} && exec \"$0\" unix {path}",
        private.display()
    );
    let fixture = whyrefused_tests::host::fixture()?;
    let arguments = [
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        &fixture.to_string_lossy(),
    ];
    let backend = Backend::start_program(&place.here, Path::new("unshare"), &arguments)?;
    let failure = place.fails(&host, "private/app.sock", "unix-missing", "ENOENT")?;
    says(
        &failure,
        &["another mount namespace", &backend.pid().to_string()],
    )?;
    ensure!(failure.candidates.len() == 1, "{failure:#?}");
    ensure!(
        failure.candidates[0].pid == Some(backend.pid()),
        "{failure:#?}"
    );
    ensure!(
        failure.candidates[0].address == format!("unix:{path}"),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_socket_below_another_root_is_named() -> Result<()> {
    let (host, place) = staged!();
    let jail = place.directory("jail", 0o755)?;
    let inside = jail.join(place.directory.path().strip_prefix("/")?);
    fs::create_dir_all(&inside)?;
    let copy = jail.join("backend");
    let path = place.text("app.sock");
    let fixture = whyrefused_tests::host::fixture()?;
    fs::write(&copy, "")?;
    let script = format!(
        "mount --bind {0} {1} && for d in lib lib64 usr; do [ -e /$d ] && mkdir -p {2}/$d && mount --bind /$d {2}/$d; done; exec chroot {2} /backend unix {path}",
        fixture.display(),
        copy.display(),
        jail.display()
    );
    let arguments = ["-m", "--propagation", "private", "sh", "-c", &script];
    let backend = Backend::start_program(&place.here, Path::new("unshare"), &arguments)?;
    let failure = place.fails(&host, "app.sock", "unix-missing", "ENOENT")?;
    ensure!(
        failure.candidates[0].pid == Some(backend.pid()),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_socket_whose_file_was_removed_is_told_with_its_listener() -> Result<()> {
    let (host, place) = staged!();
    let mut backend = place.backend("app.sock", &[])?;
    backend.order("unlink")?;
    let failure = place.fails(&host, "app.sock", "unix-missing", "ENOENT")?;
    says(
        &failure,
        &[
            "still listens",
            "its file is gone",
            &backend.pid().to_string(),
        ],
    )
}

#[test]
fn a_socket_of_a_similar_name_is_a_candidate() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("php8.2-fpm.sock", &[])?;
    let failure = place.fails(&host, "php7.4-fpm.sock", "unix-missing", "ENOENT")?;
    ensure!(
        failure.candidates[0].address == place.address("php8.2-fpm.sock"),
        "{failure:#?}"
    );
    ensure!(
        failure.candidates[0].comm.as_deref() == Some("backend"),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_socket_that_serves_another_upstream_is_no_candidate() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("app2.sock", &[])?;
    let config = Config::passing(&[
        ("app", &place.address("app1.sock")),
        ("other", &place.address("app2.sock")),
    ]);
    let mut scene = Scene::new(&host, place.here.clone(), &config)?;
    scene.succeeds("other")?;
    let failure = scene.fails("app", &denied("unix-missing", "ENOENT"))?;
    ensure!(failure.candidates.is_empty(), "{failure:#?}");
    scene.end().map(drop)
}
