//! As whom the kernel judges a process's access to files.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::bounded;
use crate::case::{Credentials, Mapped};

/// `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH` of `linux/capability.h`.
const DAC_OVERRIDE: u32 = 1;
const DAC_READ_SEARCH: u32 = 2;

/// A process in 65536 groups has a longer `status` than any other.
const STATUS_LIMIT: u64 = 1 << 20;

impl Credentials {
    /// Reads those of a process. `user` is left empty.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let status = bounded::read(process.join("status"), STATUS_LIMIT)?;
        let mut credentials = parse(&String::from_utf8_lossy(&status))
            .ok_or_else(|| io::Error::other("its status names no ids"))?;
        let elsewhere =
            fs::read_link(process.join("ns/user"))? != fs::read_link("/proc/self/ns/user")?;
        if elsewhere {
            let read = |name| {
                bounded::read(process.join(name), STATUS_LIMIT)
                    .map(|text| ranges(&String::from_utf8_lossy(&text)))
            };
            credentials.mapped = Some(Mapped {
                users: read("uid_map")?,
                groups: read("gid_map")?,
            });
        }
        Ok(credentials)
    }

    pub fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }

    /// Whether its capabilities count for a file (`privileged_wrt_inode_uidgid`).
    pub fn commands(&self, uid: u32, gid: u32) -> bool {
        let within = |ranges: &[(u32, u32)], id: u32| {
            ranges
                .iter()
                .any(|(first, count)| id >= *first && id - first < *count)
        };
        self.mapped
            .as_ref()
            .is_none_or(|mapped| within(&mapped.users, uid) && within(&mapped.groups, gid))
    }
}

fn parse(status: &str) -> Option<Credentials> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, and that of file systems.
    let fourth = |name| field(name)?.split_whitespace().nth(3)?.parse().ok();
    let effective = u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?;
    Some(Credentials {
        uid: fourth("Uid:")?,
        gid: fourth("Gid:")?,
        groups: field("Groups:")
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|group| group.parse().ok())
            .collect(),
        user: None,
        overrides: effective >> DAC_OVERRIDE & 1 == 1,
        searches: effective >> DAC_READ_SEARCH & 1 == 1,
        mapped: None,
    })
}

/// The second and third column of an id map: what it maps, in ids of the reader.
fn ranges(map: &str) -> Vec<(u32, u32)> {
    map.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ids_of_file_systems_are_taken() {
        let status = "Name:\tnginx\nUid:\t0\t0\t0\t33\nGid:\t0\t0\t0\t34\nGroups:\t33 44 \nCapEff:\t0000000000000002\n";
        let credentials = parse(status).expect("credentials");
        assert_eq!((credentials.uid, credentials.gid), (33, 34));
        assert!(credentials.is_in(44) && credentials.is_in(34) && !credentials.is_in(0));
        assert!(credentials.overrides && !credentials.searches);
    }

    #[test]
    fn capabilities_of_a_user_namespace_count_for_what_it_maps() {
        let mapped = Mapped {
            users: ranges("         0     100000      65536\n"),
            groups: ranges("0 100000 1\n"),
        };
        let credentials = Credentials {
            mapped: Some(mapped),
            ..Credentials::default()
        };
        assert!(credentials.commands(165_535, 100_000));
        assert!(!credentials.commands(0, 100_000) && !credentials.commands(165_536, 100_000));
        assert!(!credentials.commands(100_000, 100_001));
        assert!(Credentials::default().commands(0, 0));
    }

    #[test]
    fn this_process_has_credentials() {
        let own = Credentials::of_process(std::process::id()).expect("credentials");
        assert_eq!(own.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(own.mapped, None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse(&text);
            let _ = ranges(&text);
        }
    }
}
