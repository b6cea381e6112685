//! Where the text of a configuration comes from.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;

use crate::bounded;

/// A larger file is no configuration.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
const MOST_NAMES: usize = 16 * 1024;

/// Reads files by their path as nginx has it.
pub trait Source {
    /// The whole text of a file.
    fn read(&self, path: &[u8]) -> io::Result<Vec<u8>>;

    /// The names in a directory, in any order.
    fn names(&self, directory: &[u8]) -> io::Result<Vec<Vec<u8>>>;

    /// When a file, or what is known of it, changed last, in nanoseconds of the calendar's clock.
    fn changed(&self, path: &[u8]) -> io::Result<i64>;
}

/// The files that a process sees: its mount namespace, below its root directory.
#[derive(Debug)]
pub struct ProcessRoot {
    root: OwnedFd,
}

impl ProcessRoot {
    /// The root stays reachable after the process ends.
    pub fn of(pid: u32) -> io::Result<Self> {
        Self::at(&format!("/proc/{pid}/root"))
    }

    fn at(path: &str) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = fcntl::open(path, flags, Mode::empty())?;
        Ok(Self { root })
    }

    /// A symbolic link leads to what it means inside of the root, never out of it; the links of
    /// `/proc` that do lead out are refused.
    fn open(&self, path: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(fcntl::openat2(&self.root, OsStr::from_bytes(path), how)?)
    }
}

impl Source for ProcessRoot {
    fn read(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        // To open a device or a FIFO can have an effect or block, to look at its place can't.
        let place = self.open(path, OFlag::O_PATH)?;
        let place = File::from(place);
        if !place.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let file = File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        let bytes = bounded::read_open(&file, LARGEST_FILE + 1)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "larger than 4 MiB",
            ));
        }
        Ok(bytes)
    }

    fn names(&self, directory: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let directory = self.open(directory, OFlag::O_DIRECTORY | OFlag::O_RDONLY)?;
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        Ok(entries
            .take(MOST_NAMES)
            .flatten()
            .map(|entry| entry.file_name().into_vec())
            .collect())
    }

    fn changed(&self, path: &[u8]) -> io::Result<i64> {
        let found = File::from(self.open(path, OFlag::O_PATH)?).metadata()?;
        // A file that is put in another's place keeps the time of its text, not that of its inode.
        Ok(found
            .ctime()
            .saturating_mul(1_000_000_000)
            .saturating_add(found.ctime_nsec()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, ProcessRoot) {
        let directory = tempfile::tempdir().expect("a directory");
        let etc = directory.path().join("etc");
        std::fs::create_dir(&etc).expect("created");
        std::fs::write(etc.join("a.conf"), "inside").expect("written");
        symlink("/etc/a.conf", etc.join("link.conf")).expect("linked");
        symlink("../../../../../../etc/a.conf", etc.join("up.conf")).expect("linked");
        symlink("/etc/passwd", etc.join("out.conf")).expect("linked");
        symlink("loop.conf", etc.join("loop.conf")).expect("linked");
        let root = ProcessRoot::at(&directory.path().to_string_lossy()).expect("opened");
        (directory, root)
    }

    #[test]
    fn links_are_followed_inside_of_the_root() {
        let (_directory, root) = root();
        for path in ["/etc/a.conf", "/etc/link.conf", "/etc/up.conf"] {
            assert_eq!(root.read(path.as_bytes()).expect(path), b"inside");
        }
    }

    #[test]
    fn nothing_outside_of_the_root_is_read() {
        let (_directory, root) = root();
        for path in ["/etc/out.conf", "/etc/loop.conf", "/../etc/passwd", "/none"] {
            assert!(root.read(path.as_bytes()).is_err(), "{path}");
        }
    }

    #[test]
    fn directories_and_fifos_are_no_text() {
        let (directory, root) = root();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("a fifo");
        assert!(root.read(b"/fifo").is_err());
        assert!(root.read(b"/etc").is_err());
    }

    #[test]
    fn a_huge_file_is_refused() {
        let (directory, root) = root();
        let file = File::create(directory.path().join("huge")).expect("created");
        file.set_len(LARGEST_FILE).expect("sized");
        assert!(root.read(b"/huge").is_ok());
        file.set_len(1 << 40).expect("sized");
        assert!(root.read(b"/huge").is_err());
    }

    #[test]
    fn names_are_listed() {
        let (_directory, root) = root();
        let mut names = root.names(b"/etc").expect("listed");
        names.sort();
        assert_eq!(names[0], b"a.conf");
        assert_eq!(names.len(), 5);
    }

    #[test]
    fn our_own_root_is_readable() {
        let root = ProcessRoot::of(std::process::id()).expect("opened");
        assert!(
            root.names(b"/")
                .expect("listed")
                .contains(&b"proc".to_vec())
        );
    }
}
