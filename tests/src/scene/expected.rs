//! What a test expects to be said of a failure.

use anyhow::{Result, ensure};
use nix::errno::Errno;

use crate::contract::Failure;
use crate::ruleset::Culprit;

/// What a failure must say.
#[derive(Debug, Clone)]
pub struct Expected {
    pub code: &'static str,
    pub surface: &'static str,
    pub errno: Option<&'static str>,
    /// nginx writes a line about it.
    pub logged: bool,
    /// The rule that must be named.
    pub rule: Option<Culprit>,
    /// Where the packet must have been sent instead.
    pub translated_to: Option<String>,
    /// What the evidence must contain.
    pub because: Vec<String>,
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
        ..nothing_more()
    }
}

/// `connect()` itself failed.
pub fn denied(code: &'static str, errno: &'static str) -> Expected {
    Expected {
        code,
        surface: "connect",
        errno: Some(errno),
        logged: true,
        ..nothing_more()
    }
}

/// nginx's timer ran out.
pub fn timed_out(code: &'static str) -> Expected {
    Expected {
        code,
        surface: "timer",
        errno: None,
        logged: true,
        ..nothing_more()
    }
}

/// nginx's client left first.
pub fn aborted(code: &'static str) -> Expected {
    Expected {
        code,
        surface: "client-abort",
        errno: None,
        logged: true,
        ..nothing_more()
    }
}

/// `bind()` failed.
pub fn failed_to_bind(errno: &'static str) -> Expected {
    Expected {
        code: "bind-failed",
        surface: "bind",
        errno: Some(errno),
        logged: true,
        ..nothing_more()
    }
}

/// `socket()` failed.
pub fn no_socket(code: &'static str, errno: &'static str) -> Expected {
    Expected {
        code,
        surface: "socket",
        errno: Some(errno),
        logged: true,
        ..nothing_more()
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
        ..nothing_more()
    }
}

impl Expected {
    /// The rule that must be named.
    #[must_use]
    pub fn by(mut self, culprit: Culprit) -> Self {
        self.rule = Some(culprit);
        self
    }

    /// Where the packet must have been sent instead.
    #[must_use]
    pub fn sent_to(mut self, address: &str) -> Self {
        self.translated_to = Some(address.to_owned());
        self
    }

    /// What the evidence must contain.
    #[must_use]
    pub fn because(mut self, words: &str) -> Self {
        self.because.push(words.to_owned());
        self
    }

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
        let told = &failure.attempt.translated_to;
        ensure!(
            *told == self.translated_to,
            "expected to be sent to {:?}, got {told:?}",
            self.translated_to
        );
        let because = failure.verdict.because.join("\n");
        for words in &self.because {
            ensure!(because.contains(words), "no evidence says {words:?}");
        }
        Ok(())
    }
}

/// What is expected of no failure unless a test says so.
fn nothing_more() -> Expected {
    Expected {
        code: "",
        surface: "",
        errno: None,
        logged: true,
        rule: None,
        translated_to: None,
        because: Vec::new(),
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
