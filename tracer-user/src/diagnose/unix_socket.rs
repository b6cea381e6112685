//! Unix sockets: every decision is the return of `connect()` (`unix_stream_connect`).
//!
//! The error number names the family of causes, for the kernel chose it at the time. What was
//! read of the path and its sockets afterwards gives the detail, and where it contradicts the
//! error number it is told as what has changed since.

use crate::case::Case;
use crate::diagnose::finding::Finding;

mod bad_path;
mod listener;
mod missing;
mod permission;
mod refused;
mod remedy;
mod story;
mod subject;

use subject::Subject;

pub(super) fn unix_socket(case: &Case) -> Option<Finding> {
    let subject = Subject::of(case)?;
    match subject.errno {
        libc::ENOENT => Some(missing::missing(&subject)),
        libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => Some(bad_path::bad_path(&subject)),
        libc::EACCES => Some(permission::permission(&subject)),
        libc::EPERM => Some(permission::forbidden(&subject)),
        libc::EROFS => refused::read_only(&subject),
        libc::ECONNREFUSED => Some(refused::refused(&subject)),
        libc::EPROTOTYPE => Some(listener::wrong_type(&subject)),
        libc::EAGAIN => Some(listener::backlog_full(&subject)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::Code;

    #[test]
    fn every_error_number_of_a_path_has_its_own_verdict() {
        for (errno, code) in [
            (libc::ENOENT, Code::UnixMissing),
            (libc::ENOTDIR, Code::UnixBadPath),
            (libc::ELOOP, Code::UnixBadPath),
            (libc::ENAMETOOLONG, Code::UnixBadPath),
            (libc::EACCES, Code::UnixPermission),
            (libc::ECONNREFUSED, Code::UnixNoListener),
            (libc::EPROTOTYPE, Code::UnixWrongType),
            (libc::EAGAIN, Code::UnixBacklogFull),
            (libc::EPERM, Code::PolicyDenied),
            (libc::EINTR, Code::Undetermined),
        ] {
            let ending = Ending::ConnectFailed {
                errno,
                reached_syn_sent: false,
            };
            let mut case = case("127.0.0.1:1", ending);
            case.attempt.family = Family::Unix;
            case.attempt.dialled = Some(Endpoint::Unix(b"/run/app.sock".to_vec()));
            case.attempt.remote = None;
            assert_eq!(diagnose(&case).verdict.code, code, "errno {errno}");
        }
    }
}
