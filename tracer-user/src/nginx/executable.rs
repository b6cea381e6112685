//! Which executables are nginx, by what they contain and never by running them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use memchr::memmem;

use crate::nginx::elf::{self, Segment};

/// Strings of every nginx since 0.7 and of its derivatives: what `ngx_worker_process_cycle` makes
/// the title of a leaving worker, and what `main` says about a tested configuration. They count
/// where NUL bytes stand around them, as around a literal of C: a program that knows about nginx
/// without being it, such as this one, has them otherwise.
const SIGNATURE: [&[u8]; 2] = [
    b"worker process is shutting down",
    b"the configuration file %s syntax is ok",
];

/// `ngx_show_version_info` prints it: the same literal goes on with the arguments.
const ARGUMENTS: &[u8] = b"configure arguments:";

const CHUNK: usize = 256 * 1024;
const OVERLAP: usize = 64;
const LONGEST_ARGUMENTS: usize = 64 * 1024;
/// The read-only data of the largest builds (OpenSSL, Brotli and Lua linked in) stays well below.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
const MOST_ENTRIES: usize = 4096;

/// What was found out about executables, by identity of the file: a replaced file is a new one.
#[derive(Debug, Default)]
pub struct ExecutableCache {
    known: HashMap<FileIdentity, Option<Arc<Build>>>,
}

/// How an nginx was configured when it was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// The arguments of `configure`, as `nginx -V` prints them.
    pub arguments: String,
}

/// The answer about one process's executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognised {
    Nginx(Arc<Build>),
    Other,
    /// It can't be read: gone, or another user's and we are not root.
    Unreadable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileIdentity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl ExecutableCache {
    /// Whether the executable of a process is an nginx. A file is read once.
    pub fn recognise(&mut self, pid: u32) -> Recognised {
        let path = format!("/proc/{pid}/exe");
        let Ok(metadata) = std::fs::metadata(&path) else {
            return Recognised::Unreadable;
        };
        let identity = FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
        };
        if let Some(known) = self.known.get(&identity) {
            return Recognised::from(known.clone());
        }
        // Only regular files are executed, so that opening can't block.
        let Ok(build) = File::open(&path).and_then(|file| examine(&file)) else {
            return Recognised::Unreadable;
        };
        if self.known.len() >= MOST_ENTRIES {
            self.known.clear();
        }
        self.known.insert(identity, build.clone());
        Recognised::from(build)
    }
}

impl From<Option<Arc<Build>>> for Recognised {
    fn from(build: Option<Arc<Build>>) -> Self {
        build.map_or(Self::Other, Self::Nginx)
    }
}

impl Build {
    /// The value of an option such as `--prefix`, without the quotes that `auto/options` puts
    /// around values with spaces; of several the last counts, as in `configure`.
    pub fn option(&self, name: &str) -> Option<String> {
        split_quoted(&self.arguments)
            .into_iter()
            .filter_map(|argument| Some(argument.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
            .next_back()
    }
}

/// The build of an executable that is an nginx, None for any other.
fn examine(file: &File) -> io::Result<Option<Arc<Build>>> {
    let segments = elf::constant_segments(file)?;
    let mut chunk = vec![0; CHUNK];
    for text in SIGNATURE {
        if find(file, &segments, &mut chunk, |bytes| c_string(bytes, text))?.is_none() {
            return Ok(None);
        }
    }
    let begin = find(file, &segments, &mut chunk, |bytes| {
        memmem::find(bytes, ARGUMENTS)
    })?;
    let arguments = match begin {
        Some(begin) => read_string(file, begin + ARGUMENTS.len() as u64)?,
        None => String::new(),
    };
    Ok(Some(Arc::new(Build { arguments })))
}

/// The place in the file of what `search` finds in one chunk after the other.
fn find(
    file: &File,
    segments: &[Segment],
    chunk: &mut [u8],
    search: impl Fn(&[u8]) -> Option<usize>,
) -> io::Result<Option<u64>> {
    let mut budget = MOST_BYTES;
    for segment in segments {
        let length = segment.length.min(budget);
        budget -= length;
        let mut at = segment.offset;
        let end = at.saturating_add(length);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let read = elf::read_up_to(file, &mut chunk[..wanted], at)?;
            if let Some(found) = search(&chunk[..read]) {
                return Ok(Some(at + found as u64));
            }
            if read <= OVERLAP {
                break;
            }
            // A string may lie across two chunks.
            at += (read - OVERLAP) as u64;
        }
    }
    Ok(None)
}

fn c_string(bytes: &[u8], text: &[u8]) -> Option<usize> {
    memmem::find_iter(bytes, text)
        .find(|at| *at > 0 && bytes[at - 1] == 0 && bytes.get(at + text.len()) == Some(&0))
}

fn read_string(file: &File, offset: u64) -> io::Result<String> {
    let mut bytes = vec![0; LONGEST_ARGUMENTS];
    let read = elf::read_up_to(file, &mut bytes, offset)?;
    let bytes = &bytes[..read];
    let end = memchr::memchr2(0, b'\n', bytes).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(&bytes[..end]).trim().to_owned())
}

/// Splits at spaces outside of single quotes, and drops the quotes.
fn split_quoted(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => {
                if let Some(word) = words.last_mut() {
                    word.push(character);
                }
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(arguments: &str) -> Build {
        Build {
            arguments: arguments.to_owned(),
        }
    }

    /// An ELF file of 64 bits with one read-only segment that holds `data`.
    fn elf_with(data: &[u8]) -> tempfile::NamedTempFile {
        let mut bytes = vec![0_u8; 64 + 56];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&1_u32.to_le_bytes());
        bytes[68..72].copy_from_slice(&4_u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&120_u64.to_le_bytes());
        bytes[96..104].copy_from_slice(&(data.len() as u64).to_le_bytes());
        bytes.extend_from_slice(data);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        file
    }

    fn examined(data: &[u8]) -> Option<Arc<Build>> {
        let file = elf_with(data);
        examine(&File::open(file.path()).expect("open")).expect("read")
    }

    /// The signature as a compiler of C lays it down.
    fn signature() -> Vec<u8> {
        [b"\0", &SIGNATURE.join(&0)[..], b"\0"].concat()
    }

    #[test]
    fn an_executable_with_nginx_own_strings_is_nginx_whatever_its_name() {
        for before in [0, CHUNK - 60, CHUNK - 20, 2 * CHUNK - 90] {
            let mut data = vec![b'x'; before];
            data.extend_from_slice(&signature());
            data.extend_from_slice(b"configure arguments: --prefix=/p --conf-path=/n\n\0more");
            let build = examined(&data).expect("an nginx");
            assert_eq!(build.arguments, "--prefix=/p --conf-path=/n", "{before}");
        }
    }

    #[test]
    fn a_program_that_merely_mentions_nginx_is_not_one() {
        assert!(examined(&signature()).is_some());
        assert_eq!(examined(&SIGNATURE.concat()), None);
        assert_eq!(examined(&SIGNATURE.join(&b'"')), None);
        assert_eq!(examined(&[b"\0", SIGNATURE[0], b"\0"].concat()), None);
    }

    #[test]
    fn this_test_program_is_not_nginx() {
        let mut cache = ExecutableCache::default();
        assert_eq!(cache.recognise(std::process::id()), Recognised::Other);
        assert_eq!(cache.known.len(), 1);
    }

    #[test]
    fn a_process_that_is_gone_is_unreadable() {
        let mut cache = ExecutableCache::default();
        assert_eq!(cache.recognise(u32::MAX), Recognised::Unreadable);
    }

    #[test]
    fn options_are_found_between_quoted_ones() {
        let build = build("--with-cc-opt='-g --prefix=/no' --prefix=/usr/share/nginx --with-debug");
        assert_eq!(
            build.option("--prefix").as_deref(),
            Some("/usr/share/nginx")
        );
        assert_eq!(build.option("--conf-path"), None);
    }

    #[test]
    fn the_last_of_several_equal_options_counts_and_may_hold_spaces() {
        let build = build("--prefix=/a --prefix='/b c'");
        assert_eq!(build.option("--prefix").as_deref(), Some("/b c"));
    }
}
