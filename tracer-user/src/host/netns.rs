//! Every network namespace of the host, and how to read inside one.
//!
//! A namespace is found by the processes that run in it and by the places it is mounted at, in
//! any mount namespace (`ip netns` and container runtimes mount theirs). One that is held only
//! by a thread or an open descriptor of a process elsewhere is not found.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::case::Netns;
use crate::host::procfile;

mod search;

#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing leads to it any more: its processes ended, or their pids serve others now.
    #[error("network namespace {0} is gone")]
    Vanished(Netns),
    #[error("cannot look up {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not a network namespace", .0.display())]
    Other(PathBuf),
    #[error("cannot enter network namespace {netns}: {source}")]
    Entry { netns: Netns, source: io::Error },
}

/// A network namespace and the paths that lead to it. It holds no reference to the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    pub inode: Netns,
    places: Vec<PathBuf>,
}

impl Namespace {
    /// The namespace that `path` leads to, such as `/proc/1/ns/net` or `/run/netns/blue`.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, NetnsError> {
        let path = path.into();
        let inode = open_nsfs(&path)?.1;
        Ok(Self {
            inode,
            places: vec![path],
        })
    }

    /// The namespace that the main thread of `pid` is in.
    pub fn of_process(pid: u32) -> Result<Self, NetnsError> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        match std::fs::read_link(&path) {
            Ok(link) => procfile::inode_of_link(link.as_os_str().as_bytes(), "net")
                .map(|inode| Self {
                    inode,
                    places: vec![path.clone()],
                })
                .ok_or(NetnsError::Other(path)),
            Err(source) => Err(NetnsError::Unreadable { path, source }),
        }
    }

    /// Whether some process or mount still leads to it.
    pub fn exists(&self) -> bool {
        self.open().is_ok()
    }

    /// A path that leads to it, for people: where it is mounted, else by a process.
    pub fn entrance(&self) -> Option<PathBuf> {
        let is_link = |place: &&PathBuf| place.ends_with("ns/net");
        let mounted = self.places.iter().find(|place| !is_link(place));
        let place = mounted.or(self.places.first())?;
        // Mounts are found below the roots of processes, most of which are the reader's as well.
        let below: PathBuf = place.components().skip(4).collect();
        let here = Path::new("/").join(below);
        let leads_here = open_nsfs(&here).is_ok_and(|(_, inode)| inode == self.inode);
        Some(if mounted.is_some() && leads_here {
            here
        } else {
            place.clone()
        })
    }

    /// Opens it. A place that has come to lead elsewhere is passed over.
    fn open(&self) -> Result<File, NetnsError> {
        self.places
            .iter()
            .filter_map(|place| open_nsfs(place).ok())
            .find(|(_, inode)| *inode == self.inode)
            .map(|(file, _)| file)
            .ok_or(NetnsError::Vanished(self.inode))
    }
}

/// The network namespaces of the host, as far as they were found.
#[derive(Debug, Default)]
pub struct Namespaces {
    list: BTreeMap<Netns, Namespace>,
}

/// What a refresh changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub appeared: Vec<Netns>,
    pub vanished: Vec<Netns>,
}

impl Namespaces {
    /// Looks for every namespace. Fails only where `/proc` cannot be listed.
    pub fn read() -> io::Result<Self> {
        Ok(Self {
            list: search::search()?,
        })
    }

    /// Looks again, and says what is different.
    pub fn refresh(&mut self) -> io::Result<Changed> {
        let before = std::mem::replace(&mut self.list, search::search()?);
        let only_in = |one: &BTreeMap<Netns, Namespace>, other: &BTreeMap<Netns, Namespace>| {
            one.keys()
                .filter(|inode| !other.contains_key(*inode))
                .copied()
                .collect()
        };
        Ok(Changed {
            appeared: only_in(&self.list, &before),
            vanished: only_in(&before, &self.list),
        })
    }

    pub fn get(&self, inode: Netns) -> Option<&Namespace> {
        self.list.get(&inode)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.list.values()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// Runs `read` inside the namespace and returns what it returns.
pub fn within<T: Send>(
    namespace: &Namespace,
    read: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    let file = namespace.open()?;
    on_own_thread(|| {
        enter(&file, namespace.inode)?;
        Ok(read())
    })
}

/// Runs `read` for one namespace after the other, inside it where it could be entered. One that
/// has vanished since it was found is passed over.
pub fn across<'a>(
    namespaces: impl Iterator<Item = &'a Namespace> + Send,
    mut read: impl FnMut(&Namespace, Result<(), NetnsError>) + Send,
) {
    on_own_thread(|| {
        for namespace in namespaces {
            if let Ok(file) = namespace.open() {
                read(namespace, enter(&file, namespace.inode));
            }
        }
    });
}

/// `setns` moves one thread only, and moving it back can fail. A thread that is made for the
/// visit and ends with it needs no way back.
fn on_own_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn enter(file: &File, netns: Netns) -> Result<(), NetnsError> {
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::Entry {
        netns,
        source: errno.into(),
    })
}

/// Opens a namespace and returns its inode. The path may lie below the root of a hostile
/// process: what it names is looked at before it is opened, as opening a device acts on it.
fn open_nsfs(path: &Path) -> Result<(File, Netns), NetnsError> {
    let unreadable = |source| NetnsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let found = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .map_err(unreadable)?;
    let kind = fstatfs(&found).map_err(|errno| unreadable(errno.into()))?;
    if kind.filesystem_type() != NSFS_MAGIC {
        return Err(NetnsError::Other(path.to_owned()));
    }
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = File::open(again).map_err(unreadable)?;
    let inode = file.metadata().map_err(unreadable)?.ino();
    Ok((file, inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    #[test]
    fn a_place_that_is_no_namespace_is_refused() {
        assert!(matches!(
            Namespace::at("/dev/null"),
            Err(NetnsError::Other(_))
        ));
    }

    #[test]
    fn the_namespace_of_this_process_is_found() {
        let own = Namespace::of_process(std::process::id()).unwrap();
        assert!(Namespaces::read().unwrap().get(own.inode).is_some());
    }

    #[test]
    fn a_namespace_that_a_process_holds_is_found_and_entered() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let holder = sandbox.hold();
        let mut namespaces = Namespaces::read().unwrap();
        let namespace = namespaces.get(sandbox.inode()).unwrap().clone();
        let inside = within(&namespace, || {
            std::fs::read_link("/proc/thread-self/ns/net").unwrap()
        });
        assert_eq!(
            inside.unwrap().to_str().unwrap(),
            format!("net:[{}]", sandbox.inode())
        );
        drop(holder);
        let changed = namespaces.refresh().unwrap();
        assert!(changed.vanished.contains(&sandbox.inode()));
        assert!(matches!(
            within(&namespace, || ()),
            Err(NetnsError::Vanished(_))
        ));
    }
}
