//! What was dialled, and words for it.

use crate::case::{
    Case, Credentials, Ending, Endpoint, Family, FileKind, Step, UnixFacts, UnixSocket, Walk,
    WalkEnd,
};
use crate::diagnose::wording;

/// Time stamps of files lie up to a tick of the clock in the past (`current_time`).
const TICK_NS: i128 = 10_000_000;

/// An attempt at a Unix socket that `connect()` itself refused.
pub(super) struct Subject<'a> {
    pub case: &'a Case,
    pub errno: i32,
    pub path: Option<&'a [u8]>,
    /// The address for people.
    pub text: String,
    pub facts: Option<&'a UnixFacts>,
}

impl<'a> Subject<'a> {
    pub fn of(case: &'a Case) -> Option<Self> {
        let Ending::ConnectFailed { errno, .. } = case.attempt.ending else {
            return None;
        };
        let path = match &case.attempt.dialled {
            Some(Endpoint::Unix(path)) => Some(path.as_slice()),
            _ if case.attempt.family == Family::Unix => None,
            _ => return None,
        };
        Some(Self {
            case,
            errno,
            path,
            text: path.map_or_else(|| "the unix socket".to_owned(), wording::unix_path),
            facts: case.host.unix.as_ref(),
        })
    }

    pub fn is_abstract(&self) -> bool {
        self.path.is_some_and(|path| path.first() == Some(&0))
    }

    pub fn walk(&self) -> Option<&'a Walk> {
        self.facts?.walk.as_ref()
    }

    /// The file at the end of the path, where the walk got there.
    pub fn file(&self) -> Option<&'a Step> {
        let walk = self.walk()?;
        walk.steps.last().filter(|_| walk.end == WalkEnd::Found)
    }

    /// The first step that refuses the worker.
    pub fn refused(&self) -> Option<&'a Step> {
        let refused = |step: &&Step| step.refused.is_some();
        self.walk()?.steps.iter().find(refused)
    }

    /// A socket at the path to which a stream can connect, as read after the failure.
    pub fn serving(&self) -> Option<&'a UnixSocket> {
        use crate::case::SocketKind::Stream;
        let serves =
            |socket: &&UnixSocket| socket.listening && !socket.shut && socket.kind == Stream;
        self.facts?.bound.iter().find(serves)
    }

    /// Whether the file changed once the attempt had begun, as far as its time stamp tells.
    pub fn changed_since(&self, step: &Step) -> bool {
        let began =
            i128::from(self.case.attempt.started) + i128::from(self.case.coverage.wall_offset_ns);
        i128::from(step.changed) > began - TICK_NS
    }

    /// Whether anything on the way changed since.
    pub fn anything_changed(&self) -> bool {
        self.walk()
            .is_some_and(|walk| walk.steps.iter().any(|step| self.changed_since(step)))
    }

    /// What could not be read of the path or its sockets.
    pub fn unread(&self) -> Vec<String> {
        let Some(facts) = self.facts else {
            return Vec::new();
        };
        let stuck = facts.walk.as_ref().and_then(|walk| match &walk.end {
            WalkEnd::Unread { path, why } => Some(format!("{path}: {why}")),
            _ => None,
        });
        facts.unread.iter().cloned().chain(stuck).collect()
    }

    /// The worker's user, as a sentence names it.
    pub fn worker(&self) -> String {
        let Some(who) = self.facts.and_then(|facts| facts.credentials.as_ref()) else {
            let uid = self.case.worker.uid;
            return uid.map_or_else(
                || "the nginx worker".to_owned(),
                |uid| format!("the nginx worker (uid {uid})"),
            );
        };
        format!("the nginx worker ({})", user(who))
    }

    /// A path below the worker's root, as a shell of this host reaches it.
    pub fn reached(&self, path: &str) -> String {
        let other = self.walk().is_some_and(|walk| walk.other_root);
        let path = if other && path.starts_with('/') {
            format!("/proc/{}/root{path}", self.case.worker.pid)
        } else {
            path.to_owned()
        };
        wording::shell_word(&path)
    }

    /// The dialled path for a shell of this host.
    pub fn shell_path(&self) -> String {
        let path = self.text.strip_prefix("unix:").unwrap_or(&self.text);
        let absolute = self
            .file()
            .filter(|_| !path.starts_with('/'))
            .map_or(path, |step| step.path.as_str());
        self.reached(absolute)
    }

    /// A command that shows the way.
    pub fn look(&self) -> String {
        format!("namei -l {}", self.shell_path())
    }
}

pub(super) fn user(who: &Credentials) -> String {
    match &who.user {
        Some(name) => format!("{name}, uid {}", who.uid),
        None => format!("uid {}", who.uid),
    }
}

/// What a file is, for people.
pub(super) fn kind(kind: &FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "a directory",
        FileKind::Socket => "a socket",
        FileKind::Regular => "a regular file",
        FileKind::Fifo => "a FIFO",
        FileKind::CharacterDevice => "a character device",
        FileKind::BlockDevice => "a block device",
        FileKind::Symlink(_) => "a symbolic link",
        FileKind::Other => "a file of another kind",
    }
}

/// Mode and owners as `ls -l` shows them, such as `drwx------ app:app`.
pub(super) fn listing(step: &Step) -> String {
    let letter = match step.kind {
        FileKind::Directory => 'd',
        FileKind::Socket => 's',
        FileKind::Fifo => 'p',
        FileKind::CharacterDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Symlink(_) => 'l',
        FileKind::Regular | FileKind::Other => '-',
    };
    let bit = |shift: u32, letter: char| {
        if step.mode >> shift & 1 == 1 {
            letter
        } else {
            '-'
        }
    };
    let sticky = match (step.mode >> 9 & 1 == 1, step.mode & 1 == 1) {
        (false, true) => 'x',
        (false, false) => '-',
        (true, true) => 't',
        (true, false) => 'T',
    };
    let mode: String = [8, 7, 6, 5, 4, 3, 2, 1]
        .into_iter()
        .zip("rwxrwxrw".chars())
        .map(|(shift, letter)| bit(shift, letter))
        .collect();
    let name = |name: &Option<String>, id: u32| name.clone().unwrap_or_else(|| id.to_string());
    format!(
        "{letter}{mode}{sticky}{} {}:{}",
        if step.acl { "+" } else { "" },
        name(&step.owner, step.uid),
        name(&step.group, step.gid)
    )
}
