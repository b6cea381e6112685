//! Denials that security modules report to the kernel's audit log.
//!
//! The log is read as it is multicast; audit's own daemon and its settings stay as they are.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::case::{Denial, Module};

mod filter;

/// `AUDIT_NLGRP_READLOG` as a bit of the groups to join.
const READ_LOG: u32 = 1;
/// Bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// A record is one line; `MAX_AUDIT_MESSAGE_LENGTH` bounds it.
const LONGEST: usize = 8970;

/// Types of records that tell of a denial (`include/uapi/linux/audit.h`).
mod kind {
    pub const SECCOMP: u16 = 1326;
    pub const AVC: u16 = 1400;
    pub const LANDLOCK_ACCESS: u16 = 1423;
    pub const APPARMOR_DENIED: u16 = 1503;
}

/// A denial and whose it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// As the first pid namespace numbers it; null where the record names none, as Landlock's.
    pub pid: Option<u32>,
    pub denial: Denial,
}

/// A socket on which the kernel multicasts its audit log.
#[derive(Debug)]
pub struct AuditLog {
    fd: OwnedFd,
}

impl AuditLog {
    /// Joins the readers of the log.
    ///
    /// # Errors
    ///
    /// The kernel has no audit, or the caller lacks `CAP_AUDIT_READ`.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkAudit,
        )?;
        filter::denials(fd.as_fd())?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, READ_LOG))?;
        Ok(Self { fd })
    }

    /// The next record. Null where it tells of no denial; `WouldBlock` where there is none.
    pub fn receive(&mut self) -> io::Result<Option<Audited>> {
        let mut bytes = [0; LONGEST];
        let length = recv(self.fd.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT)?;
        Ok(parse(&bytes[..length]))
    }
}

impl AsRawFd for AuditLog {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Reads a netlink message of the audit family.
pub fn parse(message: &[u8]) -> Option<Audited> {
    let kind = u16::from_ne_bytes([*message.get(4)?, *message.get(5)?]);
    let text = String::from_utf8_lossy(message.get(HEADER..)?);
    denial(kind, text.trim_end_matches('\0').trim())
}

fn denial(kind: u16, text: &str) -> Option<Audited> {
    let field = |name| field(text, name);
    let (module, request, subject) = match kind {
        kind::SECCOMP if !lets_through(text) => (Module::Seccomp, field("syscall"), field("subj")),
        kind::LANDLOCK_ACCESS => (Module::Landlock, field("blockers"), field("domain")),
        kind::AVC | kind::APPARMOR_DENIED if text.contains("apparmor=\"DENIED\"") => {
            (Module::Apparmor, field("operation"), field("profile"))
        }
        kind::AVC if text.contains("avc:  denied") => {
            (Module::Selinux, permissions(text), field("scontext"))
        }
        _ => return None,
    };
    Some(Audited {
        pid: field("pid").and_then(|pid| pid.parse().ok()),
        denial: Denial {
            module,
            request,
            subject,
            object: field("tcontext"),
            class: field("tclass"),
            permissive: field("permissive").as_deref() == Some("1"),
            text: text.to_owned(),
        },
    })
}

/// `seccomp_log` audits what a filter did; of these two the call went on.
fn lets_through(text: &str) -> bool {
    const LET_THROUGH: [u32; 2] = [libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_ALLOW];
    let code = field(text, "code");
    let code = code.as_deref().and_then(|code| code.strip_prefix("0x"));
    code.and_then(|code| u32::from_str_radix(code, 16).ok())
        .is_some_and(|code| LET_THROUGH.contains(&code))
}

/// `NAME=VALUE`, the value in quotes or without.
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.split(' ').find_map(|word| {
        let (key, value) = word.split_once('=')?;
        (key == name).then_some(value)
    })?;
    let value = value.trim_matches('"');
    (!value.is_empty()).then(|| value.to_owned())
}

/// What stands in the braces of `avc:  denied  { name_connect } for ...`.
fn permissions(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('{')?;
    let (inside, _) = rest.split_once('}')?;
    Some(inside.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u16, text: &str) -> Option<Audited> {
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend(text.as_bytes());
        message.push(0);
        parse(&message)
    }

    #[test]
    fn an_selinux_denial_names_both_contexts_and_the_permission() {
        let audited = record(
            1400,
            "audit(1764000000.123:42): avc:  denied  { name_connect } for  pid=977 comm=\"nginx\" dest=8081 \
             scontext=system_u:system_r:httpd_t:s0 tcontext=system_u:object_r:transproxy_port_t:s0 tclass=tcp_socket permissive=0",
        )
        .expect("a denial");
        assert_eq!(audited.pid, Some(977));
        let denial = audited.denial;
        assert_eq!(denial.module, Module::Selinux);
        assert_eq!(denial.request.as_deref(), Some("name_connect"));
        assert_eq!(
            denial.subject.as_deref(),
            Some("system_u:system_r:httpd_t:s0")
        );
        assert_eq!(
            denial.object.as_deref(),
            Some("system_u:object_r:transproxy_port_t:s0")
        );
        assert_eq!(denial.class.as_deref(), Some("tcp_socket"));
        assert!(!denial.permissive);
    }

    #[test]
    fn an_apparmor_denial_names_its_profile_and_an_allowed_one_is_none() {
        let text = "audit(1764000000.123:43): apparmor=\"DENIED\" operation=\"connect\" class=\"net\" \
                    profile=\"/usr/sbin/nginx\" pid=977 comm=\"nginx\" family=\"inet\" sock_type=\"stream\"";
        for kind in [1400, 1503] {
            let audited = record(kind, text).expect("a denial");
            assert_eq!(audited.denial.module, Module::Apparmor);
            assert_eq!(audited.denial.subject.as_deref(), Some("/usr/sbin/nginx"));
            assert_eq!(audited.denial.request.as_deref(), Some("connect"));
        }
        assert_eq!(record(1400, &text.replace("DENIED", "ALLOWED")), None);
    }

    #[test]
    fn a_landlock_denial_names_no_process() {
        let audited = record(
            1423,
            "audit(1764000000.123:44): domain=195ba459b blockers=net.connect_tcp daddr=127.0.0.1 dest=9101",
        )
        .expect("a denial");
        assert_eq!(audited.pid, None);
        assert_eq!(audited.denial.request.as_deref(), Some("net.connect_tcp"));
    }

    #[test]
    fn what_a_seccomp_filter_logs_and_lets_through_is_no_denial() {
        let text = |code: &str| {
            format!(
                "audit(1764000000.123:45): auid=0 uid=33 gid=33 ses=1 pid=977 comm=\"nginx\" exe=\"/usr/sbin/nginx\" \
                 sig=0 arch=c000003e syscall=42 compat=0 ip=0x7f2a code={code}"
            )
        };
        let audited = record(1326, &text("0x50000")).expect("a denial");
        assert_eq!(audited.pid, Some(977));
        assert_eq!(audited.denial.request.as_deref(), Some("42"));
        assert_eq!(record(1326, &text("0x7ffc0000")), None);
        assert_eq!(record(1326, &text("0x7fff0000")), None);
    }

    #[test]
    fn other_records_are_none() {
        assert_eq!(
            record(1300, "audit(1764000000.123:44): arch=c000003e"),
            None
        );
        assert_eq!(
            record(1400, "audit(1.1:1): avc:  granted  { x } for  pid=1"),
            None
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
