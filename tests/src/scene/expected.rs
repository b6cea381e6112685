//! What a test expects to be said of a failure.

use anyhow::{Result, ensure};
use nix::errno::Errno;

use crate::contract::Failure;

/// What a failure must say.
#[derive(Debug, Clone)]
pub struct Expected {
    pub code: &'static str,
    pub surface: &'static str,
    pub errno: Option<&'static str>,
    /// nginx writes a line about it.
    pub logged: bool,
}

/// The answer was a refusal.
pub fn refused(code: &'static str) -> Expected {
    reported(code, "ECONNREFUSED")
}

/// nginx read the error from the socket.
pub fn reported(code: &'static str, errno: &'static str) -> Expected {
    Expected {
        code,
        surface: "so_error",
        errno: Some(errno),
        logged: true,
    }
}

/// `connect()` itself failed.
pub fn denied(code: &'static str, errno: &'static str) -> Expected {
    Expected {
        code,
        surface: "connect",
        errno: Some(errno),
        logged: true,
    }
}

/// nginx's timer ran out.
pub fn timed_out(code: &'static str) -> Expected {
    Expected {
        code,
        surface: "timer",
        errno: None,
        logged: true,
    }
}

/// nginx's client left first.
pub fn aborted(code: &'static str) -> Expected {
    Expected {
        code,
        surface: "client-abort",
        errno: None,
        logged: true,
    }
}

/// `bind()` failed.
pub fn failed_to_bind(errno: &'static str) -> Expected {
    Expected {
        code: "bind-failed",
        surface: "bind",
        errno: Some(errno),
        logged: true,
    }
}

/// `socket()` failed.
pub fn no_socket(code: &'static str, errno: &'static str) -> Expected {
    Expected {
        code,
        surface: "socket",
        errno: Some(errno),
        logged: true,
    }
}

/// nginx met the end of a connection that stood as it read from it: a reset with its errno, a FIN
/// without.
pub fn met(code: &'static str, errno: Option<&'static str>) -> Expected {
    Expected {
        code,
        surface: "recv",
        errno,
        logged: true,
    }
}

impl Expected {
    pub(super) fn check(&self, failure: &Failure) -> Result<()> {
        let said = &failure.verdict.code;
        ensure!(said == self.code, "expected {}, got {said}", self.code);
        let surface = &failure.attempt.surface;
        ensure!(
            surface == self.surface,
            "expected surface {}, got {surface}",
            self.surface
        );
        let errno = failure.attempt.errno.as_deref();
        ensure!(
            errno == self.errno,
            "expected {:?}, got {errno:?}",
            self.errno
        );
        Ok(())
    }
}

/// The symbolic name of the number in `(111: Connection refused)`.
pub(super) fn logged_errno(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(" failed (")?;
    let (number, _) = rest.split_once(':')?;
    Some(errno_name(number.parse().ok()?))
}

/// The symbolic name of an error number.
pub fn errno_name(number: i32) -> String {
    format!("{:?}", Errno::from_raw(number))
}
