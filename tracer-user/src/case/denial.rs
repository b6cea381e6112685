//! Whether a denial in the audit log is what ended an attempt.

use std::net::SocketAddr;

use crate::case::{Attempt, Denial, Ending, Endpoint, Fact, Family, Module, Observed};

impl Denial {
    /// Whether it is about the call that ended the attempt, of which `timeline` is known. A worker
    /// is denied other things, too, and most records name no call: the record must fit the call,
    /// its error, the family, and the port or path as far as it has them.
    pub fn is_about(&self, attempt: &Attempt, timeline: &[Observed]) -> bool {
        let Some(errno) = errno(attempt.ending) else {
            return false;
        };
        match self.module {
            Module::Seccomp => self.seccomp_is_about(attempt.ending, errno, timeline),
            // What else the call fails with is not the answer of a security module.
            _ if !matches!(errno, libc::EPERM | libc::EACCES) => false,
            Module::Selinux => self.selinux_is_about(attempt),
            Module::Apparmor => {
                // Of a socket that was not made, nginx's line tells the family, and it comes later.
                let made = !matches!(attempt.ending, Ending::SocketFailed { .. });
                self.request.as_deref() == operation(attempt.ending)
                    && (!made || self.names_or_lacks("family", family(attempt.family)))
            }
            // Its records name no process, so the port has to fit.
            Module::Landlock => match attempt.ending {
                Ending::BindFailed { .. } => self.has_port("src", attempt.bound),
                _ => self.has_port("dest", dialled(attempt)),
            },
        }
    }

    /// A filter can answer with any error number, and what a call lacks is none of its making. Of
    /// `connect()` the kernel tells whether it was entered; then no filter answered.
    fn seccomp_is_about(&self, ending: Ending, errno: i32, timeline: &[Observed]) -> bool {
        let intercepted = || {
            let mut facts = timeline.iter().map(|seen| &seen.fact);
            facts.any(|fact| matches!(fact, Fact::CallIntercepted))
        };
        let (call, fits) = match ending {
            Ending::SocketFailed { .. } => (libc::SYS_socket, !is_exhaustion(errno)),
            Ending::BindFailed { .. } => (libc::SYS_bind, !is_taken(errno)),
            _ => (libc::SYS_connect, intercepted()),
        };
        // Another architecture's calls have other numbers.
        let native = self.field("compat").is_none_or(|compat| compat == "0");
        fits && native && self.request.as_deref() == Some(&*call.to_string())
    }

    /// `selinux_socket_connect_helper` asks for `connect` and then, with the port, `name_connect`;
    /// `selinux_socket_unix_stream_connect` for `connectto`; the path is walked before that.
    fn selinux_is_about(&self, attempt: &Attempt) -> bool {
        let class = self.class.as_deref().unwrap_or_default();
        let socket = class.ends_with("socket");
        match attempt.ending {
            Ending::SocketFailed { .. } => socket && self.asks_for(&["create"]),
            Ending::BindFailed { .. } => {
                socket && self.asks_for(&["bind", "name_bind", "node_bind"])
            }
            _ if attempt.family == Family::Unix => self.is_on_the_way(class, attempt),
            _ => {
                socket
                    && self.asks_for(&["connect", "name_connect"])
                    && (self.field("dest").is_none() || self.has_port("dest", dialled(attempt)))
            }
        }
    }

    /// A record names the last part of a path alone; `/` is the root of a mount.
    fn is_on_the_way(&self, class: &str, attempt: &Attempt) -> bool {
        let Some(Endpoint::Unix(path)) = &attempt.dialled else {
            return false;
        };
        let named = |parts: &[&[u8]]| {
            self.field("name")
                .is_none_or(|name| parts.iter().any(|part| is_text(part, name)))
        };
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        match class {
            "unix_stream_socket" => {
                self.asks_for(&["connect", "connectto"])
                    && self.field("path").is_none_or(|text| is_text(path, text))
            }
            "sock_file" => self.asks_for(&["write"]) && named(&parts[parts.len() - 1..]),
            "dir" => {
                self.asks_for(&["search"]) && (self.field("name") == Some("/") || named(&parts))
            }
            "lnk_file" => self.asks_for(&["read"]) && named(&parts),
            _ => false,
        }
    }

    fn asks_for(&self, permissions: &[&str]) -> bool {
        let request = self.request.as_deref().unwrap_or_default();
        request
            .split(' ')
            .any(|permission| permissions.contains(&permission))
    }

    fn has_port(&self, field: &str, address: Option<SocketAddr>) -> bool {
        let port = address.map(|address| address.port().to_string());
        port.is_some() && self.field(field) == port.as_deref()
    }

    fn names_or_lacks(&self, field: &str, value: &str) -> bool {
        self.field(field).is_none_or(|found| found == value)
    }

    /// `NAME=VALUE` of the record, without quotes.
    fn field(&self, name: &str) -> Option<&str> {
        let value = self.text.split(' ').find_map(|word| {
            let (key, value) = word.split_once('=')?;
            (key == name).then_some(value)
        })?;
        Some(value.trim_matches('"'))
    }
}

/// What a call that can be denied failed with.
fn errno(ending: Ending) -> Option<i32> {
    match ending {
        Ending::SocketFailed { errno }
        | Ending::BindFailed { errno }
        | Ending::ConnectFailed { errno, .. } => Some(errno),
        _ => None,
    }
}

fn is_exhaustion(errno: i32) -> bool {
    [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS].contains(&errno)
}

fn is_taken(errno: i32) -> bool {
    [libc::EADDRINUSE, libc::EADDRNOTAVAIL].contains(&errno)
}

/// What AppArmor calls the call.
fn operation(ending: Ending) -> Option<&'static str> {
    match ending {
        Ending::SocketFailed { .. } => Some("create"),
        Ending::BindFailed { .. } => Some("bind"),
        Ending::ConnectFailed { .. } => Some("connect"),
        _ => None,
    }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "inet",
        Family::Ipv6 => "inet6",
        Family::Unix => "unix",
    }
}

fn dialled(attempt: &Attempt) -> Option<SocketAddr> {
    match attempt.dialled {
        Some(Endpoint::Inet(address)) => Some(address),
        _ => None,
    }
}

/// `audit_log_untrustedstring` writes what has blanks, quotes or control characters in
/// hexadecimal digits.
fn is_text(bytes: &[u8], text: &str) -> bool {
    let digits = || bytes.iter().map(|byte| format!("{byte:02X}"));
    bytes == text.as_bytes() || digits().collect::<String>() == text
}

#[cfg(test)]
mod tests;
