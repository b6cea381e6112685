//! Whether a denial in the audit log is what ended an attempt.

use std::net::SocketAddr;

use crate::case::{Attempt, Denial, Ending, Endpoint, Family, Module};

impl Denial {
    /// Whether it is about the call that ended the attempt. A worker is denied other things, too,
    /// and the log names no call: the record must fit the call, the family, and the port or path
    /// as far as it has them.
    pub fn is_about(&self, attempt: &Attempt) -> bool {
        match self.module {
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
            Module::Seccomp => true,
        }
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
mod tests {
    use super::*;
    use crate::diagnose::example::case;

    fn attempt(address: &str, ending: Ending) -> Attempt {
        case(address, ending).attempt
    }

    fn denied(address: &str) -> Attempt {
        let ending = Ending::ConnectFailed {
            errno: libc::EACCES,
            reached_syn_sent: false,
        };
        attempt(address, ending)
    }

    fn denied_path(path: &str) -> Attempt {
        Attempt {
            family: Family::Unix,
            dialled: Some(Endpoint::Unix(path.as_bytes().to_vec())),
            ..denied("127.0.0.1:1")
        }
    }

    fn selinux(request: &str, class: &str, rest: &str) -> Denial {
        Denial {
            module: Module::Selinux,
            request: Some(request.to_owned()),
            subject: None,
            object: None,
            class: Some(class.to_owned()),
            permissive: false,
            text: format!(
                "avc:  denied  {{ {request} }} for  pid=9 comm=\"nginx\" {rest} tclass={class}"
            ),
        }
    }

    #[test]
    fn a_denied_connection_is_the_one_to_that_port() {
        let denial = selinux("name_connect", "tcp_socket", "dest=9101");
        assert!(denial.is_about(&denied("127.0.0.1:9101")));
        assert!(denial.is_about(&denied("[::1]:9101")));
        assert!(!denial.is_about(&denied("127.0.0.1:9102")));
        assert!(!denial.is_about(&denied_path("/run/app.sock")));
        let failed = Ending::SocketFailed {
            errno: libc::EACCES,
        };
        assert!(!denial.is_about(&attempt("127.0.0.1:9101", failed)));
        assert!(selinux("create", "tcp_socket", "").is_about(&attempt("127.0.0.1:9101", failed)));
    }

    #[test]
    fn a_denied_file_is_no_denied_connection() {
        for (request, class) in [
            ("search", "dir"),
            ("getattr", "file"),
            ("write", "sock_file"),
        ] {
            let denial = selinux(request, class, "name=\"etc\"");
            assert!(!denial.is_about(&denied("127.0.0.1:9101")), "{class}");
        }
    }

    #[test]
    fn what_is_denied_on_the_way_to_a_socket_is_a_part_of_its_path() {
        let attempt = denied_path("/run/my app/app.sock");
        for (request, class, rest) in [
            (
                "connectto",
                "unix_stream_socket",
                "path=2F72756E2F6D79206170702F6170702E736F636B",
            ),
            ("write", "sock_file", "name=\"app.sock\""),
            ("search", "dir", "name=\"run\""),
            ("search", "dir", "name=6D7920617070"),
            ("search", "dir", "name=\"/\""),
        ] {
            assert!(selinux(request, class, rest).is_about(&attempt), "{rest}");
        }
        for (request, class, rest) in [
            (
                "connectto",
                "unix_stream_socket",
                "path=\"/run/other.sock\"",
            ),
            ("write", "sock_file", "name=\"run\""),
            ("search", "dir", "name=\"www\""),
            ("read", "file", "name=\"app.sock\""),
        ] {
            assert!(!selinux(request, class, rest).is_about(&attempt), "{rest}");
        }
    }

    #[test]
    fn an_apparmor_record_is_about_the_same_operation_and_family() {
        let denial = |operation: &str, family: &str| Denial {
            module: Module::Apparmor,
            request: Some(operation.to_owned()),
            text: format!("apparmor=\"DENIED\" operation=\"{operation}\" family=\"{family}\""),
            ..selinux("", "", "")
        };
        let attempted = denied("127.0.0.1:9101");
        assert!(denial("connect", "inet").is_about(&attempted));
        assert!(!denial("connect", "inet6").is_about(&attempted));
        assert!(!denial("open", "inet").is_about(&attempted));
        let failed = Ending::SocketFailed {
            errno: libc::EACCES,
        };
        // Its family is not known yet.
        let unmade = attempt("127.0.0.1:9101", failed);
        assert!(denial("create", "inet6").is_about(&unmade));
        assert!(!denial("connect", "inet").is_about(&unmade));
    }
}
