use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;
use crate::case::{Access, FileKind, RefusedBy, WalkEnd};

fn walk(path: &Path) -> Walked {
    let view = View::of_process(std::process::id()).expect("a view");
    let nobody = Credentials {
        uid: 65_534,
        gid: 65_534,
        ..Credentials::default()
    };
    view.walk(path.as_os_str().as_bytes(), &nobody)
}

/// A directory that everybody may search.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("permissions");
    directory
}

#[test]
fn a_link_is_followed_and_a_dangling_one_is_named() {
    let directory = directory();
    let (link, socket) = (
        directory.path().join("link"),
        directory.path().join("socket"),
    );
    symlink("socket", &link).expect("a link");
    let missing = walk(&link).walk;
    assert_eq!(
        missing.end,
        WalkEnd::Missing {
            path: socket.to_string_lossy().into_owned()
        }
    );
    let last = missing.steps.last().expect("steps");
    assert_eq!(last.kind, FileKind::Symlink("socket".to_owned()));
    let _listener = UnixListener::bind(&socket).expect("bound");
    let found = walk(&link);
    assert_eq!(found.walk.end, WalkEnd::Found);
    assert!(found.place.is_some());
}

#[test]
fn loops_and_files_on_the_way_end_the_walk() {
    let directory = directory();
    let (one, file) = (directory.path().join("one"), directory.path().join("file"));
    symlink("two", &one).expect("a link");
    symlink("one", directory.path().join("two")).expect("a link");
    assert!(matches!(walk(&one).walk.end, WalkEnd::Loop { .. }));
    std::fs::write(&file, "").expect("written");
    let below = walk(&file.join("socket")).walk;
    let path = file.to_string_lossy().into_owned();
    assert_eq!(below.end, WalkEnd::NotADirectory { path });
    assert!(matches!(
        walk(Path::new(&format!("{}/", file.display()))).walk.end,
        WalkEnd::NotADirectory { .. }
    ));
    let long = directory.path().join("x".repeat(300));
    assert!(matches!(walk(&long).walk.end, WalkEnd::TooLong { .. }));
}

#[test]
fn the_directory_that_refuses_is_named_and_what_lies_behind_it_is_seen() {
    let directory = directory();
    let closed = directory.path().join("closed");
    std::fs::create_dir(&closed).expect("created");
    std::fs::write(closed.join("file"), "").expect("written");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("closed");
    let walked = walk(&closed.join("file")).walk;
    let refused: Vec<_> = walked
        .steps
        .iter()
        .filter(|s| s.refused.is_some())
        .collect();
    assert_eq!(refused[0].path, closed.to_string_lossy());
    let refusal = refused[0].refused.expect("refused");
    assert_eq!(
        (refusal.wanted, refusal.by),
        (Access::Search, RefusedBy::Other)
    );
    assert_eq!(
        walked.steps.last().map(|step| &step.kind),
        Some(&FileKind::Regular)
    );
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("opened");
}

#[test]
fn nothing_lies_above_the_root_and_a_fifo_is_not_waited_for() {
    let directory = directory();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let path = format!("/../../..{}", fifo.display());
    let walked = walk(Path::new(&path)).walk;
    assert_eq!(
        walked.steps.last().map(|step| &step.kind),
        Some(&FileKind::Fifo)
    );
    assert_eq!(walked.end, WalkEnd::Found);
}

#[test]
fn a_link_of_proc_is_not_mistaken_for_ones_own() {
    let walked = walk(Path::new("/proc/self/cwd/socket")).walk;
    assert!(matches!(walked.end, WalkEnd::Unread { .. }), "{walked:?}");
}
