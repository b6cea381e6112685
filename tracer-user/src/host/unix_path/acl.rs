//! POSIX access control lists, as `system.posix_acl_access` holds them.

use crate::case::{Credentials, RefusedBy};

const VERSION: u32 = 2;
const USER: u16 = 0x02;
const GROUP_OBJECT: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An access control list without the owner's entry: who owns a file never gets as far as to
/// the list (`acl_permission_check`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

impl Acl {
    /// Reads the value of the attribute; null where it is none that this tool knows.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, mut left) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let mut entries = Vec::new();
        while let Some(([t0, t1, p0, p1, id @ ..], rest)) = left.split_first_chunk::<8>() {
            entries.push(Entry {
                tag: u16::from_le_bytes([*t0, *t1]),
                permissions: u16::from_le_bytes([*p0, *p1]),
                id: u32::from_le_bytes(*id),
            });
            left = rest;
        }
        left.is_empty().then_some(Self { entries })
    }

    /// What refuses `wanted` (one of the bits `rwx`) to somebody who is not the owner; null where
    /// it is granted (`posix_acl_permission`).
    pub fn refuses(&self, wanted: u16, who: &Credentials, group: u32) -> Option<RefusedBy> {
        let named = self
            .entries
            .iter()
            .find(|entry| entry.tag == USER && entry.id == who.uid);
        if let Some(entry) = named {
            return self.masked(*entry, wanted, RefusedBy::AclUser);
        }
        let mut in_group = false;
        for entry in &self.entries {
            let of_group = match entry.tag {
                GROUP_OBJECT => who.is_in(group),
                GROUP => who.is_in(entry.id),
                _ => false,
            };
            if of_group && entry.permissions & wanted == wanted {
                return self.masked(*entry, wanted, RefusedBy::AclGroup);
            }
            in_group |= of_group;
        }
        if in_group {
            return Some(RefusedBy::AclGroup);
        }
        let other = self.entries.iter().find(|entry| entry.tag == OTHER);
        let granted = other.is_some_and(|entry| entry.permissions & wanted == wanted);
        (!granted).then_some(RefusedBy::Other)
    }

    fn masked(&self, entry: Entry, wanted: u16, by: RefusedBy) -> Option<RefusedBy> {
        if entry.permissions & wanted != wanted {
            return Some(by);
        }
        let mask = self.entries.iter().find(|entry| entry.tag == MASK);
        let kept = mask.is_none_or(|mask| mask.permissions & wanted == wanted);
        (!kept).then_some(RefusedBy::AclMask)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USER_OBJECT: u16 = 0x01;

    fn list(entries: &[(u16, u16, u32)]) -> Acl {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        Acl::parse(&bytes).expect("a list")
    }

    fn worker() -> Credentials {
        Credentials {
            uid: 33,
            gid: 33,
            groups: vec![100],
            ..Credentials::default()
        }
    }

    #[test]
    fn the_mask_takes_away_what_an_entry_grants() {
        let entries = [
            (USER_OBJECT, 7, 0),
            (USER, 7, 33),
            (GROUP_OBJECT, 7, 0),
            (MASK, 4, 0),
            (OTHER, 0, 0),
        ];
        assert_eq!(
            list(&entries).refuses(2, &worker(), 5),
            Some(RefusedBy::AclMask)
        );
    }

    #[test]
    fn any_group_that_grants_it_is_enough_and_others_do_not_count_then() {
        let granted = list(&[(GROUP_OBJECT, 0, 0), (GROUP, 2, 100), (OTHER, 0, 0)]);
        assert_eq!(granted.refuses(2, &worker(), 33), None);
        let refused = list(&[(GROUP_OBJECT, 0, 0), (GROUP, 4, 100), (OTHER, 7, 0)]);
        assert_eq!(refused.refuses(2, &worker(), 33), Some(RefusedBy::AclGroup));
        assert_eq!(refused.refuses(2, &Credentials::default(), 5), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(list) = Acl::parse(&bytes) {
                let _ = list.refuses(2, &worker(), 7);
            }
        }
    }
}
