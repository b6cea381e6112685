//! One file on the way.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};

use crate::case::FileKind;
use crate::host::unix_path::RootId;
use crate::host::unix_path::acl::Acl;
use crate::host::unix_path::permission::Guarded;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file that is looked at, and never opened for anything else.
#[derive(Debug)]
pub(super) struct Node {
    fd: OwnedFd,
    pub stat: Statx,
}

impl Node {
    pub fn of(fd: OwnedFd) -> rustix::io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(&fd, c"", flags, wanted)?;
        Ok(Self { fd, stat })
    }

    pub fn child(&self, name: &[u8]) -> rustix::io::Result<Self> {
        Self::of(rustix::fs::openat(&self.fd, name, LOOK, Mode::empty())?)
    }

    pub fn again(&self) -> rustix::io::Result<Self> {
        Ok(Self {
            fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?,
            stat: self.stat,
        })
    }

    pub fn id(&self) -> RootId {
        (self.stat.stx_mnt_id, self.device(), self.stat.stx_ino)
    }

    pub fn device(&self) -> (u32, u32) {
        (self.stat.stx_dev_major, self.stat.stx_dev_minor)
    }

    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.stx_mode.into())
    }

    pub fn mode(&self) -> u32 {
        u32::from(self.stat.stx_mode) & 0o7777
    }

    pub fn acl(&self) -> Option<Acl> {
        let mut value = Vec::with_capacity(4096);
        // A descriptor that is only for looking has no attributes of its own.
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let spare = rustix::buffer::spare_capacity(&mut value);
        rustix::fs::getxattr(path, c"system.posix_acl_access", spare).ok()?;
        Acl::parse(&value)
    }

    /// What a symbolic link says; null where following it leads elsewhere than its text.
    pub fn target(&self) -> Result<Vec<u8>, String> {
        const PROC: i64 = 0x9fa0;
        let kind = rustix::fs::fstatfs(&self.fd).map_err(|error| error.to_string())?;
        if kind.f_type as i64 == PROC {
            return Err("it is a link of /proc, which means something else to each process".into());
        }
        rustix::fs::readlinkat(&self.fd, c"", Vec::new())
            .map(|target| target.into_bytes())
            .map_err(|error| error.to_string())
    }

    /// What the rules of permissions look at.
    pub fn guarded<'a>(&self, acl: Option<&'a Acl>) -> Guarded<'a> {
        Guarded {
            mode: self.mode(),
            uid: self.stat.stx_uid,
            gid: self.stat.stx_gid,
            acl,
        }
    }

    pub fn kind(&self) -> FileKind {
        match self.file_type() {
            FileType::Directory => FileKind::Directory,
            FileType::Socket => FileKind::Socket,
            FileType::RegularFile => FileKind::Regular,
            FileType::Fifo => FileKind::Fifo,
            FileType::CharacterDevice => FileKind::CharacterDevice,
            FileType::BlockDevice => FileKind::BlockDevice,
            _ => FileKind::Other,
        }
    }
}
