//! The walk itself.

use rustix::io::Errno;

use crate::case::{Access, Credentials, FileKind, Refusal, Step, WalkEnd};
use crate::escape::text_of_bytes;
use crate::host::unix_path::node::Node;
use crate::host::unix_path::{Place, View, permission};

/// `MAXSYMLINKS` of `include/linux/namei.h`.
const MOST_LINKS: usize = 40;

/// A path of 108 bytes has at most 54 components; links make it longer.
const MOST_STEPS: usize = 512;

pub(super) struct Walker<'a> {
    view: &'a View,
    who: &'a Credentials,
    /// Where the walk is, for people.
    text: Vec<u8>,
    /// Components that are still to be walked, the next one last.
    pending: Vec<Vec<u8>>,
    links: usize,
    /// The path ends in a slash.
    directory_wanted: bool,
    pub steps: Vec<Step>,
    /// Which step is about the file that the walk stands at.
    standing: usize,
}

type Ended = (WalkEnd, Option<Place>);

impl<'a> Walker<'a> {
    pub fn new(view: &'a View, who: &'a Credentials) -> Self {
        Self {
            view,
            who,
            text: Vec::new(),
            pending: Vec::new(),
            links: 0,
            directory_wanted: false,
            steps: Vec::new(),
            standing: 0,
        }
    }

    pub fn run(&mut self, path: &[u8]) -> Ended {
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
            kind: link.map_or_else(|| node.kind(), FileKind::Symlink),
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
        let refused = permission::refusal(&node.guarded(acl.as_ref()), wanted, self.who);
        self.note(refused);
    }

    fn judge_link(&mut self, link: &Node, directory: &Node) {
        if self.view.protects_symlinks {
            let (link, directory) = (link.guarded(None), directory.guarded(None));
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
