//! The security policies that a process is under.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::bounded;
use crate::case::{Family, Policies};
use crate::cgroup;

const SMALL: u64 = 64 << 10;
const TOMOYO_PROFILES: &str = "/sys/kernel/security/tomoyo/profile";
/// More modules than any kernel runs at once.
const MODULES: usize = 64;
/// The same number on every architecture: the table is one since Linux 5.1.
const LSM_LIST_MODULES: libc::c_long = 461;

/// What can deny a call of the process. `refused` is the family for which `socket()` failed.
pub fn of_process(pid: u32, refused: Option<Family>) -> Policies {
    let status = text(&format!("/proc/{pid}/status"));
    Policies {
        modules: modules(),
        label: text(&format!("/proc/{pid}/attr/current")),
        selinux_enforces: text("/sys/fs/selinux/enforce").map(|enforces| enforces == "1"),
        no_new_privileges: status.as_deref().and_then(no_new_privileges),
        unit: cgroup::place(pid).unit,
        family_works: refused.map(works),
    }
}

/// The system call came with Linux 6.8; before that `securityfs` tells, where it is mounted.
fn modules() -> Option<Vec<String>> {
    let mut modules = listed().or_else(|| {
        let list = text("/sys/kernel/security/lsm")?;
        Some(list.split(',').map(str::to_owned).collect())
    })?;
    if text(TOMOYO_PROFILES).is_some_and(|profiles| !enforces(&profiles)) {
        modules.retain(|module| module != "tomoyo");
    }
    Some(modules)
}

/// TOMOYO is there on many kernels and denies nothing until a profile says so
/// (`tomoyo_get_mode`).
fn enforces(profiles: &str) -> bool {
    profiles.contains("mode=enforcing")
}

fn listed() -> Option<Vec<String>> {
    let mut ids = [0_u64; MODULES];
    let mut size = size_of_val(&ids) as u32;
    // SAFETY: the kernel writes at most `size` bytes to `ids` and a number to `size`.
    let count = unsafe {
        libc::syscall(
            LSM_LIST_MODULES,
            ids.as_mut_ptr(),
            std::ptr::from_mut(&mut size),
            0,
        )
    };
    let count = usize::try_from(count).ok()?;
    let ids = ids.get(..count)?;
    Some(ids.iter().map(|id| name(*id)).collect())
}

/// `LSM_ID_*` of `include/uapi/linux/lsm.h`.
fn name(id: u64) -> String {
    const FIRST: u64 = 100;
    const NAMES: [&str; 15] = [
        "capability",
        "selinux",
        "smack",
        "tomoyo",
        "apparmor",
        "yama",
        "loadpin",
        "safesetid",
        "lockdown",
        "bpf",
        "landlock",
        "ima",
        "evm",
        "ipe",
        "integrity",
    ];
    id.checked_sub(FIRST)
        .and_then(|index| NAMES.get(usize::try_from(index).ok()?))
        .map_or_else(|| format!("module {id}"), |name| (*name).to_owned())
}

fn no_new_privileges(status: &str) -> Option<bool> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("NoNewPrivs:"))?;
    Some(value.trim() == "1")
}

/// Whether this tool, which no filter of the worker's binds, can open such a socket.
fn works(family: Family) -> bool {
    let family = match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
        Family::Unix => AddressFamily::Unix,
    };
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).is_ok()
}

/// What a small file holds, without its line's end; null where it cannot be read or is empty.
fn text(path: &str) -> Option<String> {
    let bytes = bounded::read(path, SMALL).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches(['\0', '\n']).to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_the_names_that_securityfs_gives_them() {
        assert_eq!(name(100), "capability");
        assert_eq!(name(110), "landlock");
        assert_eq!(name(7), "module 7");
        assert_eq!(name(u64::MAX), format!("module {}", u64::MAX));
    }

    #[test]
    fn tomoyo_denies_nothing_without_a_profile_that_enforces() {
        assert!(!enforces("PROFILE_VERSION=20150505"));
        assert!(!enforces("0-CONFIG={ mode=disabled grant_log=yes }\n"));
        assert!(enforces("3-CONFIG::network={ mode=enforcing }\n"));
    }

    #[test]
    fn the_status_tells_of_new_privileges() {
        assert_eq!(no_new_privileges("Name:\tx\nNoNewPrivs:\t1\n"), Some(true));
        assert_eq!(no_new_privileges("NoNewPrivs:\t0\n"), Some(false));
        assert_eq!(no_new_privileges("Name:\tx\n"), None);
    }

    #[test]
    fn a_family_that_this_process_can_open_works() {
        assert!(works(Family::Unix));
    }
}
