//! Where network namespaces are to be found.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Namespace;
use crate::bounded;
use crate::case::Netns;
use crate::host::procfile;

/// So many places are remembered for each namespace: its processes may end one after the other.
const PLACES: usize = 4;

/// A `mountinfo` longer than this is read up to here.
const MOUNTINFO_LIMIT: u64 = 16 << 20;

/// Every namespace that a process runs in or that is mounted somewhere.
pub(super) fn search() -> io::Result<BTreeMap<Netns, Namespace>> {
    let mut found = BTreeMap::new();
    let mut mounts_read = HashSet::new();
    // The paths of this process's own mount namespace are those that its user can type.
    mounts_read.extend(inode_at(Path::new("/proc/self/ns/mnt"), "mnt"));
    for (inode, place) in mounted_below(Path::new("/proc/self"), Vec::new()) {
        add(&mut found, inode, place);
    }
    for pid in procfile::pids()? {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let own = process.join("ns/net");
        if let Some(inode) = inode_at(&own, "net") {
            add(&mut found, inode, own);
        }
        let mounts = inode_at(&process.join("ns/mnt"), "mnt");
        if mounts.is_some_and(|mounts| mounts_read.insert(mounts)) {
            let root = process.join("root").into_os_string().into_vec();
            for (inode, place) in mounted_below(&process, root) {
                add(&mut found, inode, place);
            }
        }
    }
    Ok(found)
}

fn add(found: &mut BTreeMap<Netns, Namespace>, inode: Netns, place: PathBuf) {
    let places = &mut found
        .entry(inode)
        .or_insert_with(|| Namespace {
            inode,
            places: Vec::new(),
        })
        .places;
    if places.len() < PLACES {
        places.push(place);
    }
}

fn inode_at(path: &Path, kind: &str) -> Option<u64> {
    let link = std::fs::read_link(path).ok()?;
    procfile::inode_of_link(link.as_os_str().as_bytes(), kind)
}

/// The network namespaces mounted in the mount namespace of a process, and where they are below
/// `root`.
fn mounted_below(process: &Path, root: Vec<u8>) -> Vec<(Netns, PathBuf)> {
    let Ok(mountinfo) = bounded::read(process.join("mountinfo"), MOUNTINFO_LIMIT) else {
        return Vec::new();
    };
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(mounted_namespace)
        .map(|(inode, point)| {
            let path = [root.as_slice(), &point].concat();
            (inode, PathBuf::from(OsString::from_vec(path)))
        })
        .collect()
}

/// The inode and the mount point in a line of `mountinfo` about a network namespace: these have
/// `net:[INODE]` as their root.
fn mounted_namespace(line: &[u8]) -> Option<(Netns, Vec<u8>)> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let inode = procfile::inode_of_link(fields.next()?, "net")?;
    Some((inode, procfile::unescape(fields.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_namespace_is_read_out_of_mountinfo() {
        let line = b"310 25 0:4 net:[4026532281] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw";
        assert_eq!(
            mounted_namespace(line),
            Some((4026532281, b"/run/netns/a b".to_vec()))
        );
        assert_eq!(
            mounted_namespace(b"31 25 0:4 / /proc rw - proc proc rw"),
            None
        );
        assert_eq!(mounted_namespace(b""), None);
    }
}
