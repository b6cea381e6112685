//! The way to a Unix socket, walked as one process walks it.
//!
//! `connect()` resolves the path in the caller's mount namespace, below its root, and with its
//! permissions (`unix_find_bsd`, `link_path_walk`). This does the same with the eyes of another:
//! one component at a time, by descriptors that are never opened for anything but a look
//! (`O_PATH`), so that neither a FIFO nor a device is touched, and no link leads out of the root.

use std::io;

use rustix::fs::{Mode, OFlags};

use crate::bounded;
use crate::case::{Credentials, Walk};

mod acl;
mod credentials;
pub mod mounts;
pub mod names;
mod node;
mod permission;
mod walker;

use mounts::Mounts;
use node::Node;
use walker::Walker;

/// The root of a process.
pub fn root_of(pid: u32) -> io::Result<RootId> {
    Ok(root(pid)?.id())
}

/// What one process sees of the file system.
#[derive(Debug)]
pub struct View {
    root: Node,
    /// Where relative paths begin; null where it cannot be entered.
    directory: Option<(Node, Vec<u8>)>,
    pub mounts: Mounts,
    protects_symlinks: bool,
    other_root: bool,
}

/// A walk, and what it found.
#[derive(Debug)]
pub struct Walked {
    pub walk: Walk,
    /// The file at the end; null where there is none.
    pub place: Option<Place>,
}

/// A file, as `sock_diag` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file system's device by `mountinfo` and the one by `stat()`.
    pub devices: [(u32, u32); 2],
    pub inode: u64,
}

/// Tells the root directories of processes apart: mount id, device and inode.
pub type RootId = (u64, (u32, u32), u64);

impl View {
    /// Opens the root and the working directory of a process.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let root = root(pid)?;
        let own = directory("/".to_owned())?;
        let other_root = own.id() != root.id();
        let directory = directory(format!("/proc/{pid}/cwd"))
            .ok()
            .map(|node| (node, text_of_directory(pid)));
        let protects = bounded::read("/proc/sys/fs/protected_symlinks", 16);
        Ok(Self {
            root,
            directory,
            mounts: Mounts::of_process(pid),
            protects_symlinks: protects.is_ok_and(|text| text.starts_with(b"1")),
            other_root,
        })
    }

    pub fn root_id(&self) -> RootId {
        self.root.id()
    }

    /// Walks `path`, and says at each step what refuses it to `who`. What is refused is walked
    /// all the same, so that what lies behind it is known.
    pub fn walk(&self, path: &[u8], who: &Credentials) -> Walked {
        let mut walker = Walker::new(self, who);
        let (end, place) = walker.run(path);
        Walked {
            walk: Walk {
                steps: walker.steps,
                end,
                other_root: self.other_root,
            },
            place,
        }
    }

    fn place(&self, node: &Node) -> Place {
        let by_stat = node.device();
        let mount = self.mounts.get(node.stat.stx_mnt_id);
        Place {
            devices: [mount.map_or(by_stat, |mount| mount.device), by_stat],
            inode: node.stat.stx_ino,
        }
    }
}

fn root(pid: u32) -> rustix::io::Result<Node> {
    directory(format!("/proc/{pid}/root"))
}

fn directory(path: String) -> rustix::io::Result<Node> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    rustix::fs::open(path, flags, Mode::empty()).and_then(Node::of)
}

/// Where the working directory is, below the root of its process.
fn text_of_directory(pid: u32) -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt;
    let read = |name: &str| {
        std::fs::read_link(format!("/proc/{pid}/{name}"))
            .map(|path| path.into_os_string().into_vec())
            .unwrap_or_default()
    };
    let (root, directory) = (read("root"), read("cwd"));
    match directory.strip_prefix(root.as_slice()) {
        Some(below) if root != b"/" => below.to_vec(),
        _ => directory,
    }
}

#[cfg(test)]
mod tests;
