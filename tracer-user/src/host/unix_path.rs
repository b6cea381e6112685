//! The way to a Unix socket, walked as one process walks it.
//!
//! `connect()` resolves the path in the caller's mount namespace, below its root, and with its
//! permissions (`unix_find_bsd`, `link_path_walk`). This does the same with the eyes of another:
//! one component at a time, by descriptors that are never opened for anything but a look
//! (`O_PATH`), so that neither a FIFO nor a device is touched, and no link leads out of the root.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::case::{Access, Credentials, FileKind, Refusal, Step, Walk, WalkEnd};
use crate::escape::text_of_bytes;

mod acl;
mod credentials;
pub mod mounts;
pub mod names;
mod permission;

use acl::Acl;
use mounts::Mounts;
use permission::Guarded;

/// `MAXSYMLINKS` of `include/linux/namei.h`.
const MOST_LINKS: usize = 40;

/// A path of 108 bytes has at most 54 components; links make it longer.
const MOST_STEPS: usize = 512;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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

#[derive(Debug)]
struct Node {
    fd: OwnedFd,
    stat: Statx,
}

impl View {
    /// Opens the root and the working directory of a process.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let root = root(pid)?;
        let own = directory("/".to_owned())?;
        let other_root = own.id() != root.id();
        let directory = directory(format!("/proc/{pid}/cwd"))
            .ok()
            .map(|node| (node, text_of_directory(pid)));
        let protects = std::fs::read("/proc/sys/fs/protected_symlinks");
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
        let mut walker = Walker {
            view: self,
            who,
            text: Vec::new(),
            pending: Vec::new(),
            links: 0,
            directory_wanted: false,
            steps: Vec::new(),
            standing: 0,
        };
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

impl Node {
    fn of(fd: OwnedFd) -> rustix::io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(&fd, c"", flags, wanted)?;
        Ok(Self { fd, stat })
    }

    fn child(&self, name: &[u8]) -> rustix::io::Result<Self> {
        Self::of(rustix::fs::openat(&self.fd, name, LOOK, Mode::empty())?)
    }

    fn again(&self) -> rustix::io::Result<Self> {
        Ok(Self {
            fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?,
            stat: self.stat,
        })
    }

    fn id(&self) -> RootId {
        (self.stat.stx_mnt_id, self.device(), self.stat.stx_ino)
    }

    fn device(&self) -> (u32, u32) {
        (self.stat.stx_dev_major, self.stat.stx_dev_minor)
    }

    fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.stx_mode.into())
    }

    fn mode(&self) -> u32 {
        u32::from(self.stat.stx_mode) & 0o7777
    }

    fn acl(&self) -> Option<Acl> {
        let mut value = Vec::with_capacity(4096);
        // A descriptor that is only for looking has no attributes of its own.
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let spare = rustix::buffer::spare_capacity(&mut value);
        rustix::fs::getxattr(path, c"system.posix_acl_access", spare).ok()?;
        Acl::parse(&value)
    }

    /// What a symbolic link says; null where following it leads elsewhere than its text.
    fn target(&self) -> Result<Vec<u8>, String> {
        const PROC: i64 = 0x9fa0;
        let kind = rustix::fs::fstatfs(&self.fd).map_err(|error| error.to_string())?;
        if kind.f_type as i64 == PROC {
            return Err("it is a link of /proc, which means something else to each process".into());
        }
        rustix::fs::readlinkat(&self.fd, c"", Vec::new())
            .map(|target| target.into_bytes())
            .map_err(|error| error.to_string())
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

struct Walker<'a> {
    view: &'a View,
    who: &'a Credentials,
    /// Where the walk is, for people.
    text: Vec<u8>,
    /// Components that are still to be walked, the next one last.
    pending: Vec<Vec<u8>>,
    links: usize,
    /// The path ends in a slash.
    directory_wanted: bool,
    steps: Vec<Step>,
    /// Which step is about the file that the walk stands at.
    standing: usize,
}

type Ended = (WalkEnd, Option<Place>);

impl Walker<'_> {
    fn run(&mut self, path: &[u8]) -> Ended {
        let Some(mut here) = self.begin(path) else {
            return self.unread("the working directory of the worker cannot be entered".into());
        };
        self.arrive(&here, None);
        while let Some(name) = self.pending.pop() {
            match self.enter(here, &name) {
                Ok(next) => here = next,
                Err(end) => return (end, None),
            }
            if self.steps.len() > MOST_STEPS {
                return self.unread(format!("it has more than {MOST_STEPS} components"));
            }
        }
        if self.directory_wanted && !here.file_type().is_dir() {
            let path = self.here_text();
            return (WalkEnd::NotADirectory { path }, None);
        }
        self.judge(&here, Access::Write);
        (WalkEnd::Found, Some(self.view.place(&here)))
    }

    fn begin(&mut self, path: &[u8]) -> Option<Node> {
        self.put(path);
        if path.starts_with(b"/") {
            return self.view.root.again().ok();
        }
        let (directory, text) = self.view.directory.as_ref()?;
        self.text.clone_from(text);
        directory.again().ok()
    }

    /// Puts the components of a path, or of a link, before what is pending.
    fn put(&mut self, path: &[u8]) {
        if self.pending.is_empty() {
            self.directory_wanted |= path.ends_with(b"/");
        }
        let names = path.split(|byte| *byte == b'/').rev();
        self.pending
            .extend(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec));
    }

    /// Looks up one component in the directory `here`.
    fn enter(&mut self, here: Node, name: &[u8]) -> Result<Node, WalkEnd> {
        if !here.file_type().is_dir() {
            let path = self.here_text();
            return Err(WalkEnd::NotADirectory { path });
        }
        self.judge(&here, Access::Search);
        if name == b"." {
            return Ok(here);
        }
        if name == b".." {
            let parent = self.parent(here)?;
            self.arrive(&parent, None);
            return Ok(parent);
        }
        let before = self.text.len();
        if self.text.last() != Some(&b'/') {
            self.text.push(b'/');
        }
        self.text.extend(name);
        let found = here.child(name).map_err(|error| self.failed(error))?;
        if found.file_type().is_symlink() {
            return self.follow(here, &found, before);
        }
        self.arrive(&found, None);
        Ok(found)
    }

    fn failed(&self, error: Errno) -> WalkEnd {
        let path = self.here_text();
        match error {
            Errno::NOENT => WalkEnd::Missing { path },
            Errno::NAMETOOLONG => WalkEnd::TooLong { path },
            other => WalkEnd::Unread {
                path,
                why: other.to_string(),
            },
        }
    }

    /// `follow_dotdot`: above the root there is nothing.
    fn parent(&mut self, here: Node) -> Result<Node, WalkEnd> {
        if here.id() == self.view.root.id() {
            return Ok(here);
        }
        let end = self.text.iter().rposition(|byte| *byte == b'/');
        self.text.truncate(end.unwrap_or(0));
        here.child(b"..").map_err(|error| self.failed(error))
    }

    /// Goes on where a symbolic link leads, from the directory that holds it.
    fn follow(&mut self, here: Node, link: &Node, directory: usize) -> Result<Node, WalkEnd> {
        let above = self.standing;
        let target = link.target();
        let shown = target
            .as_ref()
            .map_or_else(|_| String::new(), |target| text_of_bytes(target));
        self.arrive(link, Some(shown));
        self.links += 1;
        let mount = self.view.mounts.get(link.stat.stx_mnt_id);
        let path = self.here_text();
        if self.links > MOST_LINKS || mount.is_some_and(|mount| !mount.follows_links) {
            return Err(WalkEnd::Loop { path });
        }
        if self.pending.is_empty() {
            self.judge_link(link, &here);
        }
        let target = target.map_err(|why| WalkEnd::Unread { path, why })?;
        self.put(&target);
        self.text.truncate(directory);
        if !target.starts_with(b"/") {
            self.standing = above;
            return Ok(here);
        }
        self.text.clear();
        let root = self.view.root.again().map_err(|error| self.failed(error))?;
        self.arrive(&root, None);
        Ok(root)
    }

    /// Notes what was met.
    fn arrive(&mut self, node: &Node, link: Option<String>) {
        let mount = self.view.mounts.get(node.stat.stx_mnt_id);
        let changed = node.stat.stx_ctime;
        self.standing = self.steps.len();
        self.steps.push(Step {
            path: self.here_text(),
            kind: link.map_or_else(|| kind(node.file_type()), FileKind::Symlink),
            mode: node.mode(),
            uid: node.stat.stx_uid,
            gid: node.stat.stx_gid,
            group: None,
            owner: None,
            acl: node.acl().is_some(),
            refused: None,
            filesystem: mount.map(|mount| mount.filesystem.clone()),
            read_only: mount.is_some_and(|mount| mount.read_only),
            changed: changed
                .tv_sec
                .saturating_mul(1_000_000_000)
                .saturating_add(changed.tv_nsec.into()),
        });
    }

    fn judge(&mut self, node: &Node, wanted: Access) {
        let acl = node.acl();
        let refused = permission::refusal(&guarded(node, acl.as_ref()), wanted, self.who);
        self.note(refused);
    }

    fn judge_link(&mut self, link: &Node, directory: &Node) {
        if self.view.protects_symlinks {
            let (link, directory) = (guarded(link, None), guarded(directory, None));
            let refused = permission::link_refusal(&link, &directory, self.who);
            self.note(refused);
        }
    }

    /// The first refusal decides, also where a link's directory is searched a second time.
    fn note(&mut self, refused: Option<Refusal>) {
        if let Some(step) = self.steps.get_mut(self.standing) {
            step.refused = step.refused.or(refused);
        }
    }

    fn here_text(&self) -> String {
        match self.text.as_slice() {
            b"" => "/".to_owned(),
            text => text_of_bytes(text),
        }
    }

    fn unread(&self, why: String) -> Ended {
        let path = self.here_text();
        (WalkEnd::Unread { path, why }, None)
    }
}

fn guarded<'a>(node: &Node, acl: Option<&'a Acl>) -> Guarded<'a> {
    Guarded {
        mode: node.mode(),
        uid: node.stat.stx_uid,
        gid: node.stat.stx_gid,
        acl,
    }
}

fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::Directory => FileKind::Directory,
        FileType::Socket => FileKind::Socket,
        FileType::RegularFile => FileKind::Regular,
        FileType::Fifo => FileKind::Fifo,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        _ => FileKind::Other,
    }
}

#[cfg(test)]
mod tests;
