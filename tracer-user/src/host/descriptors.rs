//! What one process may still open, and what its seccomp state is.

use std::fs;
use std::io;

use crate::bounded;
use crate::case::Descriptors;

const STATUS_LIMIT: u64 = 64 << 10;

/// The soft `RLIMIT_NOFILE` and the open descriptors of a process. They are read a moment after
/// the failure: the process may have closed some since.
pub fn descriptors(pid: u32) -> io::Result<Descriptors> {
    let limits = bounded::read(format!("/proc/{pid}/limits"), STATUS_LIMIT)?;
    let limit = soft_limit(&String::from_utf8_lossy(&limits))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no limit of open files"))?;
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    Ok(Descriptors { limit, open })
}

/// Whether a seccomp filter judges the system calls of a process (`Seccomp:` of its status is
/// 2); null where the kernel does not say.
pub fn seccomp_filter(pid: u32) -> io::Result<Option<bool>> {
    let status = bounded::read(format!("/proc/{pid}/status"), STATUS_LIMIT)?;
    Ok(String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .map(|mode| mode.trim() == "2"))
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_column() {
        let limits = "Max cpu time  unlimited  unlimited  seconds\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(
            soft_limit("Max open files unlimited 5 files"),
            Some(u64::MAX)
        );
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn the_descriptors_of_a_process_are_counted() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let read = descriptors(child.id());
        let seccomp = seccomp_filter(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        let descriptors = read.unwrap();
        assert!((3..20).contains(&descriptors.open), "{descriptors:?}");
        assert!(descriptors.limit >= descriptors.open);
        assert_eq!(seccomp.unwrap(), Some(false));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(descriptors(u32::MAX).is_err());
    }
}
