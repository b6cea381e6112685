//! The mounts that a process sees.

use std::collections::HashMap;

use crate::bounded;
use crate::host::procfile;

/// A `mountinfo` longer than this is read up to here.
const MOUNTINFO_LIMIT: u64 = 16 << 20;

/// What `/proc/PID/mountinfo` says of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number by which `sock_diag` knows its file system; on overlayfs and btrfs
    /// `stat()` gives others.
    pub device: (u32, u32),
    /// The directory of the file system that is mounted.
    pub root: Vec<u8>,
    pub point: Vec<u8>,
    pub filesystem: String,
    /// The file system as a whole takes no writes.
    pub read_only: bool,
    pub follows_links: bool,
}

/// The mounts by their ids.
#[derive(Debug, Clone, Default)]
pub struct Mounts {
    by_id: HashMap<u64, Mount>,
}

impl Mounts {
    /// Those of a process, and those that this process sees: `mountinfo` leaves out what lies
    /// above the root of a process, which may be where its own root is.
    pub fn of_process(pid: u32) -> Self {
        let mut by_id = HashMap::new();
        for process in ["self".to_owned(), pid.to_string()] {
            let path = format!("/proc/{process}/mountinfo");
            let text = bounded::read(path, MOUNTINFO_LIMIT).unwrap_or_default();
            by_id.extend(text.split(|byte| *byte == b'\n').filter_map(parse));
        }
        Self { by_id }
    }

    pub fn get(&self, id: u64) -> Option<&Mount> {
        self.by_id.get(&id)
    }

    /// The mount that holds `path`, by its text.
    pub fn holding(&self, path: &[u8]) -> Option<&Mount> {
        let holds = |mount: &&Mount| {
            path.strip_prefix(mount.point.as_slice())
                .is_some_and(|rest| mount.point == b"/" || rest.first().is_none_or(|b| *b == b'/'))
        };
        self.by_id
            .values()
            .filter(holds)
            .max_by_key(|mount| mount.point.len())
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &[u8]) -> Option<(u64, Mount)> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let mut fields = line.split(|byte| *byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let device = text(fields.nth(1)?);
    let (major, minor) = device.split_once(':')?;
    let root = procfile::unescape(fields.next()?);
    let point = procfile::unescape(fields.next()?);
    let options = text(fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let filesystem = text(fields.next()?);
    let super_options = text(fields.nth(1)?);
    let has = |options: &str, word: &str| options.split(',').any(|option| option == word);
    Some((
        id,
        Mount {
            device: (major.parse().ok()?, minor.parse().ok()?),
            root,
            point,
            filesystem,
            read_only: has(&super_options, "ro"),
            follows_links: !has(&options, "nosymfollow"),
        },
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = b"36 35 98:0 /a\\040b /tmp ro,nosymfollow master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let (id, mount) = parse(line).expect("a mount");
        assert_eq!((id, mount.device), (36, (98, 0)));
        assert_eq!(
            (mount.root.as_slice(), mount.point.as_slice()),
            (&b"/a b"[..], &b"/tmp"[..])
        );
        assert_eq!(mount.filesystem, "ext3");
        assert!(!mount.read_only && !mount.follows_links);
    }

    #[test]
    fn the_deepest_mount_holds_a_path() {
        let mut mounts = Mounts::default();
        for (id, point) in [(1, "/"), (2, "/tmp"), (3, "/tm")] {
            let line = format!("{id} 0 0:{id} / {point} rw - tmpfs none rw");
            mounts.by_id.extend(parse(line.as_bytes()));
        }
        assert_eq!(mounts.holding(b"/tmp/a.sock").map(|m| m.device.1), Some(2));
        assert_eq!(mounts.holding(b"/tmpa").map(|m| m.device.1), Some(1));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_passed_over(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&line);
        }
    }
}
