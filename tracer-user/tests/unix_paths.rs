//! Walks of random trees, with the kernel's own `connect()` for a judge.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use whyrefused::case::{Case, Credentials, Ending, FileKind, UnixFacts, Walk, WalkEnd};
use whyrefused::diagnose::diagnose;
use whyrefused::host::unix_path::View;
use whyrefused::verdict::{Code, Confidence, Verdict};

/// Users and groups that own files and dial.
const IDS: [u32; 4] = [0, 3001, 3002, 3003];

#[derive(Debug, Clone)]
struct Guard {
    mode: u32,
    uid: u32,
    gid: u32,
    acl: Option<Vec<(u16, u16, u32)>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Listener,
    Stale,
    Datagram,
    File,
    Fifo,
    Directory,
    Nothing,
    Loop,
    Slash,
}

#[derive(Debug, Clone)]
struct Tree {
    directories: Vec<Guard>,
    end: End,
    of_end: Guard,
    /// Which directory is reached by a link, and whether the link is absolute.
    link: Option<(usize, bool, u32)>,
    /// The last component is a link as well, in a directory of that mode, owned by that user.
    last_link: Option<u32>,
    dots: bool,
    who: (u32, u32, Vec<u32>),
}

fn guards() -> impl Strategy<Value = Guard> {
    let mode = select(vec![
        0o777, 0o755, 0o750, 0o711, 0o710, 0o700, 0o770, 0o707, 0o077, 0o070, 0o007, 0o1777, 0o000,
        0o660, 0o666, 0o606, 0o622,
    ]);
    let bits = || 0_u16..8;
    let acl = (
        bits(),
        vec((select(vec![2_u16, 8]), bits(), select(IDS.to_vec())), 0..3),
        bits(),
        bits(),
        bits(),
    );
    let acl = acl.prop_map(|(owner, named, group, mask, other)| {
        let mut list = vec![(1, owner, u32::MAX)];
        let mut named = named;
        named.sort_unstable();
        named.dedup_by_key(|(tag, _, id)| (*tag, *id));
        list.extend(named.iter().filter(|entry| entry.0 == 2));
        list.push((4, group, u32::MAX));
        list.extend(named.iter().filter(|entry| entry.0 == 8));
        list.extend([(16, mask, u32::MAX), (32, other, u32::MAX)]);
        list
    });
    (
        mode,
        select(IDS.to_vec()),
        select(IDS.to_vec()),
        prop_oneof![2 => Just(None), 1 => acl.prop_map(Some)],
    )
        .prop_map(|(mode, uid, gid, acl)| Guard {
            mode,
            uid,
            gid,
            acl,
        })
}

fn trees() -> impl Strategy<Value = Tree> {
    let end = select(vec![
        End::Listener,
        End::Listener,
        End::Listener,
        End::Stale,
        End::Datagram,
        End::File,
        End::Fifo,
        End::Directory,
        End::Nothing,
        End::Loop,
        End::Slash,
    ]);
    let generous = prop_oneof![
        2 => Just(Guard { mode: 0o755, uid: 0, gid: 0, acl: None }),
        1 => guards()
    ];
    (
        vec(generous, 1..4),
        end,
        guards(),
        of((0_usize..3, any::<bool>(), select(IDS.to_vec()))),
        of(select(IDS.to_vec())),
        any::<bool>(),
        (
            select(IDS.to_vec()),
            select(IDS.to_vec()),
            vec(select(IDS.to_vec()), 0..3),
        ),
    )
        .prop_map(
            |(directories, end, of_end, link, last_link, dots, who)| Tree {
                directories,
                end,
                of_end,
                link,
                last_link,
                dots,
                who,
            },
        )
}

fn guard(path: &Path, guard: &Guard) {
    chown(path, Some(guard.uid), Some(guard.gid)).expect("chown");
    fs::set_permissions(path, Permissions::from_mode(guard.mode)).expect("chmod");
    if let Some(acl) = &guard.acl {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, bits, id) in acl {
            value.extend(tag.to_le_bytes());
            value.extend(bits.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, c"system.posix_acl_access", &value, flags).expect("an ACL");
    }
}

/// Makes what stands at the end of the path, and gives what must stay open for it.
fn make(file: &Path, end: End) -> Option<OwnedFd> {
    match end {
        End::Listener | End::Slash => return Some(UnixListener::bind(file).expect("bound").into()),
        End::Datagram => return Some(UnixDatagram::bind(file).expect("bound").into()),
        End::Stale => drop(UnixListener::bind(file).expect("bound")),
        End::File => fs::write(file, "").expect("written"),
        End::Fifo => nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).expect("a fifo"),
        End::Directory => fs::create_dir(file).expect("created"),
        End::Loop => symlink("end", file).expect("a link"),
        End::Nothing => {}
    }
    None
}

/// Builds the tree below `root`, and gives the path to dial with what must stay open.
fn build(root: &Path, tree: &Tree) -> (PathBuf, Option<OwnedFd>) {
    let mut real = vec![root.to_owned()];
    for index in 0..tree.directories.len() {
        let path = real[index].join(format!("d{index}"));
        fs::create_dir(&path).expect("created");
        real.push(path);
    }
    let place = real[tree.directories.len()].clone();
    let file = place.join("end");
    let held = make(&file, tree.end);
    if !matches!(tree.end, End::Nothing | End::Loop) {
        guard(&file, &tree.of_end);
    }
    let mut path = place.join("end");
    if let Some(owner) = tree.last_link {
        path = place.join("last");
        symlink("./end", &path).expect("a link");
        std::os::unix::fs::lchown(&path, Some(owner), Some(0)).expect("lchown");
    }
    if let Some((index, absolute, owner)) = tree.link {
        let index = index.min(tree.directories.len() - 1);
        let target = &real[index + 1];
        let link = real[index].join("link");
        let name = Path::new(target.file_name().expect("a name"));
        symlink(if absolute { target.as_path() } else { name }, &link).expect("a link");
        std::os::unix::fs::lchown(&link, Some(owner), Some(0)).expect("lchown");
        path = link.join(path.strip_prefix(target).expect("below"));
    }
    if tree.dots {
        let name = path.file_name().expect("a name").to_owned();
        let parent = path.parent().expect("a parent");
        path = parent
            .join(".")
            .join("..")
            .join(parent.file_name().expect("a name"))
            .join(name);
        if tree.link.is_some() {
            // `..` behind a link leads to the parent of its target, which has another name.
            path = PathBuf::from(path.to_string_lossy().replace("/./../link", ""));
        }
    }
    if tree.end == End::Slash {
        path = PathBuf::from(OsStr::from_bytes(
            &[path.as_os_str().as_bytes(), b"/"].concat(),
        ));
    }
    for (index, of) in tree.directories.iter().enumerate() {
        guard(&real[index + 1], of);
    }
    (path, held)
}

/// What the kernel says to somebody who dials it. The credentials are those of one thread, as
/// the system calls set them that the C library wraps for whole processes.
fn dial(path: &Path, (uid, gid, groups): &(u32, u32, Vec<u32>)) -> i32 {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: the calls change the credentials of this thread, which ends with it.
                let set = unsafe {
                    libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
                        && libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) == 0
                        && libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) == 0
                };
                assert!(set, "credentials");
                match UnixStream::connect(path) {
                    Ok(_) => 0,
                    Err(error) => error.raw_os_error().expect("an error number"),
                }
            })
            .join()
            .expect("dialled")
    })
}

fn credentials((uid, gid, groups): &(u32, u32, Vec<u32>)) -> Credentials {
    Credentials {
        uid: *uid,
        gid: *gid,
        groups: groups.clone(),
        overrides: *uid == 0,
        searches: *uid == 0,
        ..Credentials::default()
    }
}

/// What is diagnosed where the kernel said `errno`.
fn diagnosed(walk: Walk, tree: &Tree, errno: i32) -> Verdict {
    let text = include_str!("replay/unix-stale.json");
    let mut recording: serde_json::Value = serde_json::from_str(text).expect("a recording");
    let mut case: Case = serde_json::from_value(recording["case"].take()).expect("a case");
    case.attempt.ending = Ending::ConnectFailed {
        errno,
        reached_syn_sent: false,
    };
    case.host.unix = Some(UnixFacts {
        credentials: Some(credentials(&tree.who)),
        walk: Some(walk),
        ..UnixFacts::default()
    });
    // Whatever was built now is old to an attempt far in the future.
    case.coverage.wall_offset_ns = i64::MAX / 2;
    diagnose(&case).verdict
}

/// What the walk makes one expect of the kernel.
fn expected(walk: &Walk, tree: &Tree) -> i32 {
    if walk.steps.iter().any(|step| step.refused.is_some()) {
        return libc::EACCES;
    }
    let last = walk.steps.last().map(|step| &step.kind);
    match (&walk.end, last) {
        (WalkEnd::Missing { .. }, _) => libc::ENOENT,
        (WalkEnd::NotADirectory { .. }, _) => libc::ENOTDIR,
        (WalkEnd::Loop { .. }, _) => libc::ELOOP,
        (WalkEnd::Found, Some(FileKind::Socket)) => match tree.end {
            End::Listener => 0,
            End::Datagram => libc::EPROTOTYPE,
            _ => libc::ECONNREFUSED,
        },
        (WalkEnd::Found, _) => libc::ECONNREFUSED,
        (end, _) => panic!("{end:?}"),
    }
}

#[test]
fn the_kernel_answers_as_the_walk_foretells() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: the_kernel_answers_as_the_walk_foretells: needs root");
        return;
    }
    let mut runner = TestRunner::new(Config::with_cases(600));
    let met = RefCell::new(BTreeSet::new());
    let outcome = runner.run(&trees(), |tree| {
        let root = tempfile::Builder::new()
            .prefix("w")
            .tempdir()
            .expect("a directory");
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).expect("chmod");
        let (path, held) = build(root.path(), &tree);
        let view = View::of_process(std::process::id()).expect("a view");
        let walked = view.walk(path.as_os_str().as_bytes(), &credentials(&tree.who));
        let (foretold, said) = (expected(&walked.walk, &tree), dial(&path, &tree.who));
        drop(held);
        prop_assert_eq!(foretold, said, "{}", path.display());
        met.borrow_mut().insert(said);
        let codes: &[Code] = match said {
            0 => return Ok(()),
            libc::EACCES => &[Code::UnixPermission, Code::UnixNotASocket],
            libc::ENOENT => &[Code::UnixMissing],
            libc::ECONNREFUSED => &[Code::UnixNoListener, Code::UnixNotASocket],
            libc::EPROTOTYPE => &[Code::UnixWrongType],
            _ => &[Code::UnixBadPath],
        };
        let verdict = diagnosed(walked.walk, &tree, said);
        prop_assert!(codes.contains(&verdict.code), "{verdict:?}");
        prop_assert_eq!(verdict.confidence, Confidence::Certain, "{:?}", verdict);
        Ok(())
    });
    outcome.expect("no disagreement");
    assert_eq!(met.borrow().len(), 7, "not every answer was met: {met:?}");
}
