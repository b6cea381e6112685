//! A table as `getsockopt` hands it out.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::LegacyError;
use super::layout::Layout;
use crate::firewall::fields::Fields;

/// Bytes of a table's name, its NUL included (`XT_TABLE_MAXNAMELEN`).
const NAME: usize = 32;

/// Bytes before the entries in `struct ipt_get_entries`, which are aligned to eight.
const BEFORE_ENTRIES: usize = 40;

/// A hundred thousand rules take some 50 MB.
const LARGEST: u32 = 256 << 20;

/// How often a table that is replaced between the two questions is asked for again.
const TRIES: usize = 5;

/// `struct ipt_getinfo`.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// By hook number: offset of the first entry of its chain and of its policy.
    pub hooks: Vec<Option<(u32, u32)>>,
    pub size: u32,
}

pub struct Read {
    pub info: Info,
    pub entries: Vec<u8>,
}

/// Asks for the table `name`, which must exist: the kernel would make it.
pub fn read(layout: &Layout, name: &str) -> Result<Read, LegacyError> {
    let socket = open(layout).map_err(kernel("open a raw socket"))?;
    for _ in 0..TRIES {
        let info = info(&socket, layout, name)?;
        if info.size > LARGEST {
            return Err(LegacyError::TooLarge(info.size));
        }
        match entries(&socket, layout, name, info.size) {
            // The size was another when the entries were asked for (`get_entries`).
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(kernel("get its entries")(errno.into())),
            Ok(entries) => return Ok(Read { info, entries }),
        }
    }
    Err(LegacyError::Unsteady)
}

fn kernel(step: &'static str) -> impl Fn(io::Error) -> LegacyError {
    move |source| LegacyError::Kernel { step, source }
}

fn open(layout: &Layout) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: a system call without pointers; nix's `socket` knows no IPPROTO_RAW for IPv6.
    let fd = unsafe {
        libc::socket(
            layout.domain,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::IPPROTO_RAW,
        )
    };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

fn info(socket: &OwnedFd, layout: &Layout, name: &str) -> Result<Info, LegacyError> {
    let hooks = layout.hooks.len();
    let mut buffer = named(name, NAME + 4 + 8 * hooks + 8)?;
    get(socket, layout.level, layout.get_info, &mut buffer)
        .map_err(|errno| kernel("get its size")(errno.into()))?;
    decode_info(&buffer, hooks).ok_or(LegacyError::Malformed {
        at: 0,
        what: "no room for the hooks",
    })
}

fn decode_info(buffer: &[u8], hooks: usize) -> Option<Info> {
    let fields = Fields(buffer);
    let valid = fields.u32(NAME)?;
    let (entry, underflow) = (NAME + 4, NAME + 4 + 4 * hooks);
    let hook = |number: usize| {
        let place = (
            fields.u32(entry + 4 * number)?,
            fields.u32(underflow + 4 * number)?,
        );
        Some((valid & (1 << number) != 0).then_some(place))
    };
    Some(Info {
        hooks: (0..hooks).map(hook).collect::<Option<_>>()?,
        size: fields.u32(underflow + 4 * hooks + 4)?,
    })
}

fn entries(socket: &OwnedFd, layout: &Layout, name: &str, size: u32) -> Result<Vec<u8>, Errno> {
    let mut buffer =
        named(name, BEFORE_ENTRIES + size as usize).map_err(|_| Errno::ENAMETOOLONG)?;
    buffer[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    get(socket, layout.level, layout.get_info + 1, &mut buffer)?;
    Ok(buffer.split_off(BEFORE_ENTRIES))
}

/// A buffer that begins with the table's name.
fn named(name: &str, length: usize) -> Result<Vec<u8>, LegacyError> {
    if name.len() >= NAME {
        return Err(LegacyError::Malformed {
            at: 0,
            what: "a table's name of more than 31 bytes",
        });
    }
    let mut buffer = vec![0; length];
    buffer[..name.len()].copy_from_slice(name.as_bytes());
    Ok(buffer)
}

/// nix offers no way to ask for an option of a length that is known only when running.
fn get(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    buffer: &mut [u8],
) -> Result<(), Errno> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: `buffer` is writable for `length` bytes and lives longer than the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_answer_is_decoded_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            hooks in 0usize..6,
        ) {
            let _ = decode_info(&bytes, hooks);
        }
    }
}
