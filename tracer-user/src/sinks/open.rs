//! Opens the file that events are appended to.
//!
//! This runs as root on paths that people type: it follows no symbolic link, never waits (a FIFO
//! without a reader) and writes to regular files and to devices such as `/dev/null` alone.
//! Everything else is what redirection by the shell is for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the output cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("cannot open {} to append events: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "{} is a symbolic link, which --output does not follow; name the file itself, \
         or use `-` for standard output", path.display()
    )]
    SymbolicLink { path: PathBuf },
    #[error(
        "{} is a {kind}; --output appends to regular files: redirect standard output to it instead", path.display()
    )]
    NotRegular { path: PathBuf, kind: &'static str },
    #[error("cannot use standard output: {0}")]
    Stdout(io::Error),
    #[error("cannot start the thread that writes events: {0}")]
    Thread(io::Error),
}

/// Opens a regular file to append to, or creates it with mode 0600.
pub fn file(path: &Path) -> Result<File, OutputError> {
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = opened.map_err(|source| open_error(path, source))?;
    let kind = file
        .metadata()
        .map_err(|source| open_error(path, source))?
        .file_type();
    if kind.is_file() || kind.is_char_device() {
        return Ok(file);
    }
    Err(not_regular(path, kind))
}

/// Standard output, without the buffer of [`std::io::Stdout`].
pub fn stdout() -> Result<File, OutputError> {
    io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .map_err(OutputError::Stdout)
}

/// A FIFO without a reader and a socket are told by `ENXIO`, a link by `ELOOP`: say what it is.
fn open_error(path: &Path, source: io::Error) -> OutputError {
    let kind = std::fs::symlink_metadata(path).map(|metadata| metadata.file_type());
    match (source.raw_os_error(), kind) {
        (Some(libc::ELOOP), Ok(kind)) if kind.is_symlink() => OutputError::SymbolicLink {
            path: path.to_owned(),
        },
        (Some(libc::ENXIO | libc::EISDIR), Ok(kind)) => not_regular(path, kind),
        _ => OutputError::Open {
            path: path.to_owned(),
            source,
        },
    }
}

fn not_regular(path: &Path, kind: std::fs::FileType) -> OutputError {
    let kind = if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_dir() {
        "directory"
    } else {
        "device"
    };
    OutputError::NotRegular {
        path: path.to_owned(),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_new_file_is_private_and_an_old_one_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        file(&path).unwrap().write_all(b"one\n").unwrap();
        file(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("t"), directory.path().join("l"));
        symlink(&target, &link).unwrap();
        assert!(matches!(file(&link), Err(OutputError::SymbolicLink { .. })));
        assert!(!target.exists());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_name_and_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, kind) in [(fifo.as_path(), "FIFO"), (directory.path(), "directory")] {
            let message = file(path).unwrap_err().to_string();
            assert!(message.contains(&format!("is a {kind}")), "{message}");
        }
    }

    #[test]
    fn a_character_device_takes_events() {
        assert!(file(Path::new("/dev/null")).is_ok());
    }
}
