//! Programs of the cgroup of a process and of its ancestors.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::attachments::{self, AttachType};
use super::{Attached, Found};
use crate::bounded;
use crate::case::ProgramPlace;

/// Where the mounts of this process are listed, and how much of it is read.
const MOUNTS: (&str, u64) = ("/proc/self/mountinfo", 4 << 20);
/// No hierarchy is deeper in practice.
const DEPTH: usize = 64;

/// What can refuse or rewrite a call of nginx, or eat a packet of it or of its backend. The
/// numbers are those of `enum bpf_attach_type`.
const KINDS: [AttachType; 8] = [
    kind(0, "cgroup_inet_ingress"),
    kind(1, "cgroup_inet_egress"),
    kind(2, "cgroup_inet_sock_create"),
    kind(8, "cgroup_inet4_bind"),
    kind(9, "cgroup_inet6_bind"),
    kind(10, "cgroup_inet4_connect"),
    kind(11, "cgroup_inet6_connect"),
    kind(49, "cgroup_unix_connect"),
];

const fn kind(number: u32, name: &'static str) -> AttachType {
    AttachType { number, name }
}

/// Programs that apply to a process by its cgroup of version 2, the innermost cgroup first.
pub fn of_process(pid: u32) -> Found {
    let (places, unread) = match path_of(pid) {
        Ok(path) => match mount() {
            Some(mount) => search(&mount, &path),
            None => (Vec::new(), Vec::new()),
        },
        Err(words) => (Vec::new(), vec![words]),
    };
    Found::new(places, unread)
}

fn search(mount: &Path, path: &str) -> (Vec<Attached>, Vec<String>) {
    let mut places = Vec::new();
    let mut wanted = KINDS.to_vec();
    for (depth, cgroup) in Path::new(path).ancestors().take(DEPTH).enumerate() {
        let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
        let directory = match File::open(mount.join(below)) {
            Ok(directory) => directory,
            Err(error) => {
                let words = format!("programs of the cgroup {}: {error}", cgroup.display());
                return (places, vec![words]);
            }
        };
        if depth == 0 {
            // A kernel that does not know the kind refuses it: there is no such program then.
            wanted.retain(|kind| {
                attachments::any_for_cgroup(directory.as_fd(), *kind).unwrap_or(false)
            });
        }
        if wanted.is_empty() {
            break;
        }
        for kind in &wanted {
            let ids = attachments::at_cgroup(directory.as_fd(), *kind).unwrap_or_default();
            places.extend(ids.into_iter().map(|id| Attached {
                id: Some(id),
                name: None,
                place: ProgramPlace::Cgroup {
                    cgroup: cgroup.to_string_lossy().into_owned(),
                    attach_type: kind.name.to_owned(),
                },
            }));
        }
    }
    (places, Vec::new())
}

/// The path of the process in the hierarchy of version 2, seen from this process's own root.
fn path_of(pid: u32) -> Result<String, String> {
    let file = format!("/proc/{pid}/cgroup");
    let text = bounded::read(&file, 64 * 1024).map_err(|error| format!("{file}: {error}"))?;
    String::from_utf8_lossy(&text)
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(|path| path.strip_suffix(" (deleted)").unwrap_or(path).to_owned())
        .filter(|path| !path.split('/').any(|part| part == ".."))
        .ok_or_else(|| format!("{file} names no cgroup of version 2 below this tool's own root"))
}

/// Where the hierarchy of version 2 is mounted, whole.
fn mount() -> Option<PathBuf> {
    let text = bounded::read(MOUNTS.0, MOUNTS.1).ok()?;
    mount_in(&String::from_utf8_lossy(&text))
}

/// A line is `36 35 0:30 ROOT PLACE OPTIONS [TAGS] - TYPE SOURCE OPTIONS`.
fn mount_in(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let whole = root == "/" && after.split(' ').next() == Some("cgroup2");
        whole.then(|| PathBuf::from(place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_beside_the_old_ones() {
        let text = "\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
32 30 0:28 /docker /elsewhere rw - cgroup2 cgroup2 rw
33 30 0:28 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
";
        assert_eq!(
            mount_in(text),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(mount_in("nonsense\n - \n"), None);
    }

    #[test]
    fn a_process_that_is_gone_is_said_to_be_unread() {
        let found = of_process(u32::MAX);
        assert!(found.programs.is_empty());
        assert_eq!(found.unread.len(), 1, "{:?}", found.unread);
    }
}
