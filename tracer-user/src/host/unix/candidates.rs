//! Listeners that a worker may have been meant to dial.

use std::fs;

use crate::case::{Credentials, Netns, Relation};
use crate::host::owners::Holders;
use crate::host::unix::is_abstract;
use crate::host::unix_path::View;
use crate::host::unix_path::mounts::Mounts;
use crate::host::unix_sockets::Listed;

/// Likeness of a file of the same name in another directory.
const SAME_NAME: u32 = 2;

/// Directories that many programs have theirs in.
const SHARED: [&[u8]; 8] = [
    b"/run",
    b"/tmp",
    b"/var/tmp",
    b"/var/lib",
    b"/var/www",
    b"/srv",
    b"/opt",
    b"/home",
];

/// So many are told.
const MOST: usize = 5;

/// A name of so many letters may have one of them mistyped, a longer one more.
const LETTERS_A_MISTAKE: usize = 5;

/// Of sockets that stand elsewhere, those whose name is like the dialled one, the likest first.
/// Where there is a file at the path, one of the same name in another directory serves
/// something else.
pub(super) fn like(path: &[u8], own: Netns, sockets: Vec<Listed>, exists: bool) -> Vec<Listed> {
    let mut ranked: Vec<(u32, Listed)> = sockets
        .into_iter()
        .filter(Listed::serves)
        .filter_map(|socket| Some((likeness(path, own, &socket)?, socket)))
        .filter(|(likeness, _)| !exists || *likeness != SAME_NAME)
        .collect();
    ranked.sort_by(|(a, one), (b, other)| (a, &one.name).cmp(&(b, &other.name)));
    ranked.truncate(MOST);
    ranked.into_iter().map(|(_, socket)| socket).collect()
}

/// How a listener with a name like that is related to what was dialled; null where the worker
/// could not reach it by that name either, or nobody knows.
pub(super) fn relation(
    socket: &Listed,
    path: &[u8],
    view: Option<&View>,
    holders: &Holders,
) -> Option<Relation> {
    let nobody = Credentials::default();
    if is_abstract(path) {
        return Some(Relation::OtherNetns);
    }
    if is_abstract(&socket.name) {
        return Some(Relation::Abstract);
    }
    if socket.name == path {
        return holders
            .of(socket.inode)
            .iter()
            .find_map(|pid| seen_by(*pid, socket));
    }
    let place = view?.walk(&socket.name, &nobody).place?;
    let reached = socket.is_at(&place);
    reached.then(|| {
        if file_name(&socket.name) == file_name(path) {
            Relation::SameName
        } else {
            Relation::SimilarName
        }
    })
}

/// Whether the process that holds the socket finds it at its name.
fn seen_by(pid: u32, socket: &Listed) -> Option<Relation> {
    let view = View::of_process(pid).ok()?;
    let walked = view.walk(&socket.name, &Credentials::default());
    if !walked.place.is_some_and(|place| socket.is_at(&place)) {
        return Some(Relation::Unlinked);
    }
    let mounts = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let mounted = Mounts::of_process(pid)
        .holding(&socket.name)
        .map(|mount| mount.root.clone())
        .filter(|root| root != b"/")
        .map(|root| String::from_utf8_lossy(&root).into_owned());
    Some(Relation::SamePathElsewhere {
        other_mounts: mounts(&pid.to_string()) != mounts("self"),
        mounted,
    })
}

/// Null for a name that is not like the dialled one; the smaller the liker.
fn likeness(path: &[u8], own: Netns, socket: &Listed) -> Option<u32> {
    let name = &socket.name;
    if name == path {
        return Some(0);
    }
    if is_abstract(path) {
        return None;
    }
    if is_abstract(name) {
        let same = path.first() == Some(&b'@') && name[1..] == path[1..];
        return (same && socket.netns == own).then_some(1);
    }
    if file_name(name) == file_name(path) && related(directory(name), directory(path)) {
        return Some(SAME_NAME);
    }
    let together = directory(name) == directory(path);
    (together && similar(file_name(name), file_name(path))).then_some(3)
}

/// Names that differ in versions and separators, or by a typing error.
fn similar(one: &[u8], other: &[u8]) -> bool {
    let text = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase();
    let (one, other) = (text(one), text(other));
    let (one, other) = (bare(&one), bare(&other));
    let letters = |name: &str| -> String { name.chars().filter(|c| c.is_alphabetic()).collect() };
    let same_letters = letters(one) == letters(other) && !letters(one).is_empty();
    let length = one.chars().count().min(other.chars().count());
    same_letters || strsim::osa_distance(one, other) <= length / LETTERS_A_MISTAKE
}

/// Without what most names of sockets end in.
fn bare(name: &str) -> &str {
    let cut = |end| name.strip_suffix(end).filter(|rest| !rest.is_empty());
    cut(".sock").or_else(|| cut(".socket")).unwrap_or(name)
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether one program may have a socket in either directory: `/run/app` and `/tmp`, `/run/php`
/// and `/run/php-fpm`; not the directories of two applications.
fn related(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (below(one), below(other));
    let nested = one.contains(&b'/') || other.contains(&b'/');
    let prefixed = one.starts_with(other) || other.starts_with(one);
    one.is_empty() || other.is_empty() || one == other || !nested && prefixed
}

/// The part of a directory that belongs to one program.
fn below(directory: &[u8]) -> &[u8] {
    SHARED
        .iter()
        .find_map(|shared| directory.strip_prefix(*shared))
        .map_or(directory, |rest| rest.strip_prefix(b"/").unwrap_or(rest))
}

/// `/var/run` is `/run` wherever systemd is.
fn directory(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let directory = &path[..end];
    match directory.strip_prefix(b"/var/run") {
        Some(rest) if rest.first().is_none_or(|byte| *byte == b'/') => &directory[4..],
        _ => directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_typing_errors_make_names_similar() {
        for (one, other) in [
            (&b"php7.4-fpm.sock"[..], &b"php8.2-fpm.sock"[..]),
            (b"php-fpm.sock", b"php8.2-fpm.sock"),
            (b"gunicorn.sock", b"gunicron.sock"),
            (b"gunicorn.sock", b"gunicorn.socket"),
            (b"app.sock", b"app1.sock"),
        ] {
            assert!(similar(one, other), "{}", String::from_utf8_lossy(one));
        }
        assert!(!similar(b"redis.sock", b"php8.2-fpm.sock"));
        assert!(!similar(b"app.sock", b"api.sock"));
        assert!(!similar(b"a.sock", b"zz.sock"));
    }

    #[test]
    fn directories_of_two_applications_are_not_related() {
        for (one, other) in [
            (&b"/run"[..], &b"/run/app"[..]),
            (b"/tmp", b"/run/app"),
            (b"/run/php", b"/run/php-fpm"),
            (b"/srv/app", b"/run/app"),
        ] {
            assert!(related(one, other) && related(other, one));
        }
        for (one, other) in [
            (&b"/srv/one"[..], &b"/srv/two"[..]),
            (b"/tmp/lab/a", b"/tmp/lab/b/c"),
            (b"/tmp/lab/a", b"/tmp/lab/b"),
        ] {
            assert!(!related(one, other) && !related(other, one));
        }
    }

    #[test]
    fn var_run_is_run() {
        assert_eq!(directory(b"/var/run/php/a.sock"), b"/run/php");
        assert_eq!(directory(b"/var/runner/a.sock"), b"/var/runner");
        assert_eq!(directory(b"a.sock"), b"");
    }
}
