//! What was read about the Unix socket that nginx dialled.

use serde::{Deserialize, Serialize};

use super::{Death, KernelTime, Netns, Process, Queue};

/// Everything that was read about one dialled path or abstract name. All of it was read after
/// the failure: the error number of `connect()` tells what was so at the time, this says why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixFacts {
    /// Whose permissions count; null where the worker was gone.
    pub credentials: Option<Credentials>,
    /// The dialled path as the worker walks it; null for an abstract name, and where the worker
    /// was gone.
    pub walk: Option<Walk>,
    /// Sockets that are bound to the file at the end of the path, or to the abstract name.
    pub bound: Vec<UnixSocket>,
    /// Listeners that nginx may have been meant to dial, best first.
    pub candidates: Vec<UnixCandidate>,
    /// Who was seen to listen there last and no longer does.
    pub ended: Option<EndedUnixListener>,
    /// `net.core.somaxconn` in the network namespace of the socket that listens there.
    pub somaxconn: Option<u32>,
    /// What could not be read, and why, in words.
    pub unread: Vec<String>,
}

/// The credentials by which the kernel judges a process's access to files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// The name of `uid` in the worker's `/etc/passwd`.
    pub user: Option<String>,
    /// `CAP_DAC_OVERRIDE`: may write, and search, everything.
    pub overrides: bool,
    /// `CAP_DAC_READ_SEARCH`: may search every directory.
    pub searches: bool,
    /// The user and group ids that its user namespace maps, each first and count; null in the
    /// one that this tool runs in. Its capabilities count for files of mapped owners alone.
    pub mapped: Option<Mapped>,
}

/// What a user namespace maps, as ids of the namespace that this tool runs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    pub users: Vec<(u32, u32)>,
    pub groups: Vec<(u32, u32)>,
}

/// A path, walked component by component from the worker's root or working directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// What was met, in order, the contents of symbolic links included.
    pub steps: Vec<Step>,
    pub end: WalkEnd,
    /// The worker's root is not the one that this tool has.
    pub other_root: bool,
}

/// One file on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// As the worker names it.
    pub path: String,
    pub kind: FileKind,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// The name of `gid` in the worker's `/etc/group`.
    pub group: Option<String>,
    /// The name of `uid` in the worker's `/etc/passwd`.
    pub owner: Option<String>,
    /// It has an access control list.
    pub acl: bool,
    /// What the worker may not do here, and needs to.
    pub refused: Option<Refusal>,
    /// Type of the file system, such as `tmpfs`.
    pub filesystem: Option<String>,
    /// The file system is mounted read-only as a whole.
    pub read_only: bool,
    /// When its content or its attributes last changed, in nanoseconds since 1970.
    pub changed: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    Directory,
    Socket,
    Regular,
    Fifo,
    CharacterDevice,
    BlockDevice,
    /// A symbolic link and what it says.
    Symlink(String),
    Other,
}

/// Why the kernel refuses the worker at one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub wanted: Access,
    pub by: RefusedBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Search permission (`x`) on a directory.
    Search,
    /// Write permission (`w`) on what is dialled.
    Write,
    /// To follow a symbolic link.
    Follow,
}

/// Which entry of the permissions decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedBy {
    Owner,
    Group,
    Other,
    /// The list's entry for the worker's user.
    AclUser,
    /// The list's entries for groups that the worker is in.
    AclGroup,
    /// An entry of the list grants it, and the list's mask takes it away.
    AclMask,
    /// `fs.protected_symlinks`: a link of somebody else in a sticky, world-writable directory.
    ProtectedSymlinks,
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum WalkEnd {
    /// At the last step.
    Found,
    /// A directory has no such entry.
    Missing {
        path: String,
    },
    /// This is no directory, and the path goes on below it.
    NotADirectory {
        path: String,
    },
    /// More than 40 symbolic links, or links where the mount forbids them.
    Loop {
        path: String,
    },
    TooLong {
        path: String,
    },
    /// This tool could go no further.
    Unread {
        path: String,
        why: String,
    },
}

/// The type of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketKind {
    Stream,
    Datagram,
    Seqpacket,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixSocket {
    /// The name as it was bound; abstract ones start with a NUL.
    pub name: Vec<u8>,
    pub kind: SocketKind,
    pub listening: bool,
    /// Its receiving side was shut down: it refuses connections although it listens.
    pub shut: bool,
    /// For a socket that listens: connections that wait to be accepted, and the limit.
    pub queue: Option<Queue>,
    pub netns: Netns,
    /// Who holds it, the likeliest to serve it first.
    pub owners: Vec<Process>,
    /// State of the first owner as `/proc/PID/stat` has it, such as `T` for stopped.
    pub owner_state: Option<char>,
}

/// A listener that nginx may have been meant to dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixCandidate {
    pub socket: UnixSocket,
    pub relation: Relation,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "relation")]
pub enum Relation {
    /// It listens at the dialled path, as its own process sees the file system.
    SamePathElsewhere {
        /// It has another mount namespace than the worker.
        other_mounts: bool,
        /// The directory on the file system that is mounted there for it, where it is no root:
        /// `/systemd-private-…/tmp` for `PrivateTmp=`.
        mounted: Option<String>,
    },
    /// It was bound to the dialled path, and its file has been removed or replaced since.
    Unlinked,
    /// A file of the same name in another directory, which the worker sees.
    SameName,
    /// A file of a similar name in the same directory.
    SimilarName,
    /// The abstract socket of that name, where nginx dialled a path that begins with `@`.
    Abstract,
    /// The abstract name, in another network namespace.
    OtherNetns,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedUnixListener {
    pub socket: UnixSocket,
    /// When it ended; where nothing told, when it was last seen to listen.
    pub at: KernelTime,
    pub death: Death,
    /// `at` is the time of the death, not of the last look.
    pub witnessed: bool,
}
