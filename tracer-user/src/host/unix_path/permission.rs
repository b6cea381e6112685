//! Whether a process may do something with a file, by the rules of `fs/namei.c`.

use crate::case::{Access, Credentials, Refusal, RefusedBy};
use crate::host::unix_path::acl::Acl;

const EXECUTE: u16 = 1;
const WRITE: u16 = 2;

/// Sticky and writable by all.
const SHARED: u32 = 0o1002;

/// What the rules look at.
#[derive(Debug, Clone)]
pub struct Guarded<'a> {
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub acl: Option<&'a Acl>,
}

/// What refuses `wanted` to `who`; null where it is granted (`generic_permission`).
pub fn refusal(file: &Guarded<'_>, wanted: Access, who: &Credentials) -> Option<Refusal> {
    let bit = match wanted {
        Access::Search => EXECUTE,
        Access::Write => WRITE,
        Access::Follow => return None,
    };
    let by = refused_by(file, bit, who)?;
    let privileged = match wanted {
        Access::Search => who.overrides || who.searches,
        _ => who.overrides,
    };
    let overruled = privileged && who.commands(file.uid, file.gid);
    (!overruled).then_some(Refusal { wanted, by })
}

/// Whether `fs.protected_symlinks` forbids to follow the link that ends a path
/// (`may_follow_link`).
pub fn link_refusal(
    link: &Guarded<'_>,
    directory: &Guarded<'_>,
    who: &Credentials,
) -> Option<Refusal> {
    let refused =
        link.uid != who.uid && directory.mode & SHARED == SHARED && directory.uid != link.uid;
    refused.then_some(Refusal {
        wanted: Access::Follow,
        by: RefusedBy::ProtectedSymlinks,
    })
}

/// `acl_permission_check`.
fn refused_by(file: &Guarded<'_>, bit: u16, who: &Credentials) -> Option<RefusedBy> {
    let granted = |shift: u32| file.mode >> shift & u32::from(bit) != 0;
    if file.uid == who.uid {
        return (!granted(6)).then_some(RefusedBy::Owner);
    }
    // Without any bit for the group, which is the mask's place, the list is not even read.
    if let Some(acl) = file.acl.filter(|_| file.mode & 0o070 != 0) {
        return acl.refuses(bit, who, file.gid);
    }
    if who.is_in(file.gid) {
        return (!granted(3)).then_some(RefusedBy::Group);
    }
    (!granted(0)).then_some(RefusedBy::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32, uid: u32, gid: u32) -> Guarded<'static> {
        Guarded {
            mode,
            uid,
            gid,
            acl: None,
        }
    }

    fn worker() -> Credentials {
        Credentials {
            uid: 33,
            gid: 33,
            ..Credentials::default()
        }
    }

    #[test]
    fn one_class_alone_decides() {
        let by = |file: Guarded<'_>| refusal(&file, Access::Write, &worker()).map(|r| r.by);
        assert_eq!(by(file(0o066, 33, 33)), Some(RefusedBy::Owner));
        assert_eq!(by(file(0o606, 0, 33)), Some(RefusedBy::Group));
        assert_eq!(by(file(0o660, 0, 0)), Some(RefusedBy::Other));
        assert_eq!(by(file(0o002, 0, 0)), None);
    }

    #[test]
    fn the_power_to_search_is_no_power_to_write() {
        let mut who = worker();
        who.searches = true;
        assert_eq!(refusal(&file(0, 0, 0), Access::Search, &who), None);
        assert!(refusal(&file(0, 0, 0), Access::Write, &who).is_some());
        who.overrides = true;
        assert_eq!(refusal(&file(0, 0, 0), Access::Write, &who), None);
    }

    #[test]
    fn a_link_of_somebody_else_in_a_shared_directory_is_not_followed() {
        let (link, shared) = (file(0o777, 1000, 0), file(0o1777, 0, 0));
        assert!(link_refusal(&link, &shared, &worker()).is_some());
        assert!(link_refusal(&file(0o777, 33, 0), &shared, &worker()).is_none());
        assert!(link_refusal(&file(0o777, 0, 0), &shared, &worker()).is_none());
        assert!(link_refusal(&link, &file(0o777, 0, 0), &worker()).is_none());
    }
}
