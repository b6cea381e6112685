//! Which processes hold a socket.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bounded;
use crate::case::Process;
use crate::cgroup;
use crate::host::procfile;

/// A process name is at most 15 bytes long, a title is looked at no further than this.
const TITLE_LIMIT: u64 = 256;

/// The processes that hold the sockets asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Pids by the socket's inode, as [`by_likelihood`] orders them.
    pub by_inode: HashMap<u64, Vec<u32>>,
    /// Every visible process was looked at. False where the time was up.
    pub complete: bool,
}

impl Holders {
    pub fn of(&self, inode: u64) -> &[u32] {
        self.by_inode.get(&inode).map_or(&[], Vec::as_slice)
    }
}

/// Looks through the descriptors of all processes for the sockets in `inodes`, those of `first`
/// before the others. Asks the kernel about every descriptor of every process, and ends when
/// `budget` is used up. Processes that vanish or may not be looked at are passed over.
pub fn holders(inodes: &HashSet<u64>, first: &[u32], budget: Duration) -> io::Result<Holders> {
    let deadline = Instant::now() + budget;
    let mut found = Holders::default();
    if inodes.is_empty() {
        found.complete = true;
        return Ok(found);
    }
    let others = procfile::pids()?.filter(|pid| !first.contains(pid));
    found.complete = first
        .iter()
        .copied()
        .chain(others)
        .all(|pid| look_through(pid, inodes, deadline, &mut found.by_inode));
    for pids in found.by_inode.values_mut() {
        by_likelihood(pids);
    }
    Ok(found)
}

/// Puts those first that are likeliest to serve the socket: with socket activation pid 1 holds
/// it beside the service, and of a process and its children the eldest names the service.
pub fn by_likelihood(pids: &mut [u32]) {
    pids.sort_unstable_by_key(|pid| (*pid == 1, *pid));
}

/// What can be said of a process; null where it is gone.
pub fn describe(pid: u32) -> Option<Process> {
    let process = Path::new("/proc").join(pid.to_string());
    let comm = bounded::read(process.join("comm"), TITLE_LIMIT).ok()?;
    let place = cgroup::place(pid);
    Some(Process {
        pid,
        comm: String::from_utf8_lossy(comm.trim_ascii_end()).into_owned(),
        exe: fs::read_link(process.join("exe"))
            .ok()
            .map(|exe| exe.to_string_lossy().into_owned()),
        unit: place.unit,
        container: place.container,
        nginx: titled_as_nginx(&process),
    })
}

/// nginx and its derivatives title their processes `nginx: master process …`, angie with its
/// own name (`ngx_setproctitle`).
fn titled_as_nginx(process: &Path) -> bool {
    bounded::read(process.join("cmdline"), TITLE_LIMIT)
        .is_ok_and(|title| title.starts_with(b"nginx: ") || title.starts_with(b"angie: "))
}

/// Returns whether there is time for the next process.
fn look_through(
    pid: u32,
    inodes: &HashSet<u64>,
    deadline: Instant,
    found: &mut HashMap<u64, Vec<u32>>,
) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Instant::now() < deadline;
    };
    for (number, descriptor) in descriptors.flatten().enumerate() {
        // The clock is cheap, yet not free beside a readlink.
        if number % 64 == 0 && Instant::now() >= deadline {
            return false;
        }
        let inode = fs::read_link(descriptor.path())
            .ok()
            .and_then(|link| procfile::inode_of_link(link.as_os_str().as_bytes(), "socket"))
            .filter(|inode| inodes.contains(inode));
        if let Some(inode) = inode {
            let pids = found.entry(inode).or_default();
            if !pids.contains(&pid) {
                pids.push(pid);
            }
        }
    }
    Instant::now() < deadline
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    fn inode(listener: &TcpListener) -> u64 {
        nix::sys::stat::fstat(listener.as_fd()).unwrap().st_ino
    }

    #[test]
    fn a_socket_leads_to_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = HashSet::from([inode(&listener)]);
        let found = holders(&wanted, &[], Duration::from_secs(10)).unwrap();
        assert!(found.complete);
        assert_eq!(found.of(inode(&listener)), [std::process::id()]);
    }

    #[test]
    fn a_scan_without_time_is_not_complete() {
        let found = holders(&HashSet::from([1]), &[], Duration::ZERO).unwrap();
        assert!(!found.complete);
    }

    #[test]
    fn pid_1_serves_least_likely() {
        let mut pids = [1, 900, 30];
        by_likelihood(&mut pids);
        assert_eq!(pids, [30, 900, 1]);
    }

    #[test]
    fn this_process_is_described() {
        let process = describe(std::process::id()).unwrap();
        assert_eq!(
            process.exe.unwrap(),
            std::env::current_exe().unwrap().to_string_lossy()
        );
        assert!(!process.nginx);
        assert!(!process.comm.is_empty() && !process.comm.contains('\n'));
    }

    #[test]
    fn a_process_that_is_gone_has_no_description() {
        assert_eq!(describe(u32::MAX), None);
    }
}
