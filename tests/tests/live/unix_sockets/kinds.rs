//! Files that are no sockets, and sockets of other types.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;

use super::{certain, listener_is, says};

#[test]
fn files_that_are_no_sockets_are_explained_as_unix_not_a_socket() -> Result<()> {
    let (host, place) = staged!();
    fs::write(place.path("file"), "")?;
    fs::set_permissions(place.path("file"), Permissions::from_mode(0o666))?;
    place.directory("directory", 0o777)?;
    nix::unistd::mkfifo(&place.path("fifo"), nix::sys::stat::Mode::S_IRWXU)?;
    fs::set_permissions(place.path("fifo"), Permissions::from_mode(0o666))?;
    fs::write(place.path("closed"), "")?;
    for (name, errno, word) in [
        ("file", "ECONNREFUSED", "a regular file"),
        ("directory", "ECONNREFUSED", "a directory"),
        ("fifo", "ECONNREFUSED", "a FIFO"),
        ("closed", "EACCES", "a regular file"),
    ] {
        let failure = place.fails(&host, name, "unix-not-a-socket", errno)?;
        certain(&failure)?;
        says(&failure, &[word])?;
    }
    Ok(())
}

#[test]
fn sockets_of_other_types_are_explained_as_unix_wrong_type() -> Result<()> {
    let (host, place) = staged!();
    for kind in ["datagram", "seqpacket"] {
        let backend = place.backend(kind, &["--kind", kind])?;
        let failure = place.fails(&host, kind, "unix-wrong-type", "EPROTOTYPE")?;
        certain(&failure)?;
        says(&failure, &[kind])?;
        listener_is(&failure, &backend, &place.address(kind))?;
    }
    Ok(())
}
