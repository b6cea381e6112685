//! Users and groups by the files of a process's own root.

use crate::nginx::config::source::{ProcessRoot, Source};

/// The names that a root's `/etc/passwd` and `/etc/group` give to ids. What a directory service
/// knows beyond them is not asked for: it may be slow, and reach other machines.
#[derive(Debug, Default)]
pub struct Names {
    users: Vec<(u32, String)>,
    groups: Vec<(u32, String)>,
}

impl Names {
    /// Reads them as the process sees them; empty where it cannot be done.
    pub fn of_process(pid: u32) -> Self {
        let Ok(root) = ProcessRoot::of(pid) else {
            return Self::default();
        };
        let read = |path: &[u8]| {
            root.read(path)
                .map_or_else(|_| Vec::new(), |text| parse(&text))
        };
        Self {
            users: read(b"/etc/passwd"),
            groups: read(b"/etc/group"),
        }
    }

    pub fn user(&self, uid: u32) -> Option<String> {
        find(&self.users, uid)
    }

    pub fn group(&self, gid: u32) -> Option<String> {
        find(&self.groups, gid)
    }
}

fn find(names: &[(u32, String)], id: u32) -> Option<String> {
    names
        .iter()
        .find(|(known, _)| *known == id)
        .map(|(_, name)| name.clone())
}

/// Both files have the name first and the id third.
fn parse(text: &[u8]) -> Vec<(u32, String)> {
    String::from_utf8_lossy(text)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_field_is_the_id() {
        let names = parse(b"root:x:0:0:root:/root:/bin/sh\n\n:x:7:\nbroken\nwww-data:x:33:\n");
        assert_eq!(find(&names, 33).as_deref(), Some("www-data"));
        assert_eq!(find(&names, 7), None);
        assert_eq!(names.len(), 2);
    }
}
