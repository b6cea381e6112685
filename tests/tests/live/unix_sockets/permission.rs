//! Sockets and directories that the worker may not use.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::chown;

use anyhow::{Result, ensure};
use whyrefused_tests::host::{skip, worker_user};

use super::{certain, listener_is, says};

#[test]
fn a_socket_that_the_worker_may_not_write_is_explained_as_unix_permission() -> Result<()> {
    let (host, place) = staged!();
    let backend = place.backend("app.sock", &["--mode", "600"])?;
    let failure = place.fails(&host, "app.sock", "unix-permission", "EACCES")?;
    certain(&failure)?;
    says(&failure, &["lacks w for others", "srw------- root:root"])?;
    listener_is(&failure, &backend, &place.address("app.sock"))?;
    let fix = format!("{:?}", failure.verdict.fix);
    ensure!(
        !fix.contains("chmod 777") && !fix.contains("0777"),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_directory_that_the_worker_may_not_search_is_named() -> Result<()> {
    let (host, place) = staged!();
    place.directory("closed", 0o700)?;
    let _backend = place.backend("closed/app.sock", &[])?;
    let failure = place.fails(&host, "closed/app.sock", "unix-permission", "EACCES")?;
    certain(&failure)?;
    says(&failure, &[&place.text("closed"), "lacks x for others"])?;
    let user = worker_user()?.name;
    ensure!(
        failure.verdict.fix[0].contains(&format!("setfacl -m u:{user}:x")),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn the_group_of_the_socket_is_the_fix_where_it_may_write() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("app.sock", &["--mode", "660"])?;
    // The group `adm` of every Debian.
    chown(place.path("app.sock"), None, Some(4))?;
    let failure = place.fails(&host, "app.sock", "unix-permission", "EACCES")?;
    ensure!(
        failure.verdict.fix[0].starts_with("usermod -aG adm "),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn access_by_group_is_healthy() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("app.sock", &["--mode", "660"])?;
    chown(
        place.path("app.sock"),
        None,
        Some(worker_user()?.gid.as_raw()),
    )?;
    let scene = place.scene(&host, "app.sock")?;
    for _ in 0..5 {
        scene.succeeds("app")?;
    }
    scene.end().map(drop)
}

#[test]
fn an_access_control_list_that_refuses_is_named() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("app.sock", &["--mode", "666"])?;
    let user = worker_user()?;
    // user::rw- user:WORKER:r-- group::rw- mask::rw- other::rw-
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, user.uid.as_raw()),
        (4, 6, u32::MAX),
        (16, 6, u32::MAX),
        (32, 6, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(bits.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let path = std::ffi::CString::new(place.path("app.sock").as_os_str().as_bytes())?;
    // SAFETY: both strings end in a NUL, and the value is as long as is said.
    let set = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"system.posix_acl_access".as_ptr(),
            list.as_ptr().cast(),
            list.len(),
            0,
        )
    };
    if set != 0 {
        skip("the file system of temporary files has no access control lists");
        return Ok(());
    }
    let failure = place.fails(&host, "app.sock", "unix-permission", "EACCES")?;
    certain(&failure)?;
    says(&failure, &["access control list lacks w for this user"])
}
