//! Where the kernel's types come from: the kernel itself, or a file for kernels built without.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{
    Btf,
    elf::{self, Sections, Unread},
    format::MAGIC,
};
use crate::bounded;

/// The running kernel's own types, which it has where it was built with `CONFIG_DEBUG_INFO_BTF`.
const KERNEL: &str = "/sys/kernel/btf/vmlinux";
/// The running kernel's ELF notes, its build id among them.
const NOTES: &str = "/sys/kernel/notes";
/// Bytes of raw BTF; distributions' kernels have 4 to 15 million.
pub(super) const MOST_BTF: u64 = 64 << 20;

/// Why the kernel's types cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error(
        "this kernel does not describe its types ({KERNEL}: {0}): boot one that is built with CONFIG_DEBUG_INFO_BTF=y, \
         as distributions' newer kernels are, or name a file with the types of this very kernel by `--btf FILE`: \
         its file from BTFHub, or its vmlinux with a section .BTF"
    )]
    Absent(String),
    #[error("reading the kernel's types from {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: {problem}; `--btf` takes raw BTF, or a vmlinux with a section .BTF", path.display())]
    Unfit {
        path: PathBuf,
        problem: &'static str,
    },
}

/// Where types come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The running kernel itself.
    Kernel,
    File {
        path: PathBuf,
        kinship: Kinship,
    },
}

/// Whether a file describes the running kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// Its types are the kernel's own.
    SameTypes,
    /// Its build id is the kernel's, which has no types of its own.
    SameBuild,
    /// The kernel's own types differ.
    OtherTypes,
    /// The kernel's build id differs.
    OtherBuild,
    /// Nothing tells: the kernel has no types of its own, and raw BTF no build id.
    Untold,
}

/// What a file gives.
struct Content {
    types: Vec<u8>,
    build_id: Option<Vec<u8>>,
}

impl Btf {
    /// Reads the types from the file, or else those of the running kernel.
    ///
    /// # Errors
    ///
    /// They cannot be read, or are no kernel's; the message says what to do.
    pub fn of(file: Option<&Path>) -> Result<Self, BtfError> {
        file.map_or_else(Self::of_running_kernel, Self::of_file)
    }

    /// Reads the types of the running kernel.
    ///
    /// # Errors
    ///
    /// It has none.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        let bytes =
            bounded::read(KERNEL, MOST_BTF).map_err(|error| BtfError::Absent(error.to_string()))?;
        Self::parse(bytes, Source::Kernel)
            .ok_or_else(|| BtfError::Absent("not the BTF of a kernel".to_owned()))
    }

    /// Reads types from a file of raw BTF, or from the section `.BTF` of an ELF file.
    ///
    /// # Errors
    ///
    /// It is neither, is damaged, or describes no whole kernel of this machine's byte order.
    pub fn of_file(path: &Path) -> Result<Self, BtfError> {
        let content = Content::read(path)?;
        let own = Content {
            types: bounded::read(KERNEL, MOST_BTF).unwrap_or_default(),
            build_id: bounded::read(NOTES, elf::MOST_NOTES)
                .ok()
                .and_then(|notes| elf::build_id(&notes)),
        };
        let source = Source::File {
            path: path.to_owned(),
            kinship: content.kinship(&own),
        };
        drop(own);
        let unfit = |problem| unfit(path, problem);
        let btf = Self::parse(content.types, source)
            .ok_or_else(|| unfit("its BTF is truncated or damaged"))?;
        if !["task_struct", "sock", "sk_buff"]
            .map(|name| btf.has_structure(name))
            .contains(&false)
        {
            return Ok(btf);
        }
        Err(unfit(
            "it holds no kernel's types, but those of a module or a part of them",
        ))
    }

    /// Why it is not certain that these types are the running kernel's, and what follows.
    pub fn doubt(&self) -> Option<String> {
        let Source::File { path, kinship } = &self.source else {
            return None;
        };
        let path = path.display();
        const RISK: &str = "what the kernel says is then read in the wrong places: failures may be missed, and told wrongly";
        match kinship {
            Kinship::SameTypes | Kinship::SameBuild => None,
            Kinship::OtherTypes => Some(format!(
                "the types of {path} are those of another kernel, for {KERNEL} differs; {RISK}; leave --btf out"
            )),
            Kinship::OtherBuild => Some(format!(
                "{path} was built for another kernel, for its build id is not that of {NOTES}; {RISK}"
            )),
            Kinship::Untold => Some(format!(
                "nothing tells whether {path} describes this very kernel; if not, {RISK}"
            )),
        }
    }
}

impl Content {
    fn read(path: &Path) -> Result<Self, BtfError> {
        let unreadable = |error| BtfError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let unfit = |problem| unfit(path, problem);
        // A FIFO is not waited for.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
            .open(path)
            .map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(unfit("it is no regular file"));
        }
        let mut magic = [0; 4];
        if let Err(error) = file.read_exact_at(&mut magic, 0) {
            return Err(match error.kind() {
                io::ErrorKind::UnexpectedEof => unfit("it is empty or truncated"),
                _ => unreadable(error),
            });
        }
        let head = u16::from_ne_bytes([magic[0], magic[1]]);
        if magic == elf::MAGIC {
            return Self::of_elf(&file).map_err(unfit);
        }
        if head == MAGIC.swap_bytes() {
            return Err(unfit("its BTF is of the other byte order"));
        }
        if head != MAGIC {
            return Err(unfit("it is neither; an archive must be unpacked first"));
        }
        let types = bounded::read_open(&file, MOST_BTF + 1).map_err(unreadable)?;
        match types.len() as u64 > MOST_BTF {
            true => Err(unfit(TOO_LARGE)),
            false => Ok(Self {
                types,
                build_id: None,
            }),
        }
    }

    fn of_elf(file: &File) -> Result<Self, &'static str> {
        let sections =
            Sections::of(file).ok_or("it is a damaged ELF file, or not one of 64 bits")?;
        if !sections.is_native() {
            return Err("it is an ELF file of the other byte order");
        }
        let types = sections
            .read(".BTF", MOST_BTF)
            .map_err(|unread| match unread {
                Unread::Absent => "it is an ELF file without a section .BTF",
                Unread::TooLarge => TOO_LARGE,
                Unread::Truncated => "it is a truncated ELF file",
            })?;
        let notes = sections.read(".notes", elf::MOST_NOTES).ok();
        Ok(Self {
            types,
            build_id: notes.and_then(|notes| elf::build_id(&notes)),
        })
    }

    /// Whether this describes the kernel that says the other of itself.
    fn kinship(&self, own: &Self) -> Kinship {
        if !own.types.is_empty() {
            return match self.types == own.types {
                true => Kinship::SameTypes,
                false => Kinship::OtherTypes,
            };
        }
        match (&self.build_id, &own.build_id) {
            (Some(file), Some(kernel)) if file == kernel => Kinship::SameBuild,
            (Some(_), Some(_)) => Kinship::OtherBuild,
            _ => Kinship::Untold,
        }
    }
}

const TOO_LARGE: &str = "its BTF has more than 64 MiB";

fn unfit(path: &Path, problem: &'static str) -> BtfError {
    BtfError::Unfit {
        path: path.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests;
