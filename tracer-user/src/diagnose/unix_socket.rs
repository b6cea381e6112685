//! Unix sockets: every decision is the return of `connect()` (`unix_stream_connect`).

use crate::case::{Case, Ending, Endpoint, Family};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

pub(super) fn unix_socket(case: &Case) -> Option<Finding> {
    let Ending::ConnectFailed { errno, .. } = case.attempt.ending else {
        return None;
    };
    let path = match &case.attempt.dialled {
        Some(Endpoint::Unix(path)) => wording::unix_path(path),
        _ if case.attempt.family == Family::Unix => "the unix socket".to_owned(),
        _ => return None,
    };
    let file = wording::shell_word(path.strip_prefix("unix:").unwrap_or(&path));
    let look = format!("nsenter -t {} -m namei -l {file}", case.worker.pid);
    let finding = match errno {
        libc::ENOENT => missing(&path, &look),
        libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => bad_path(&path, errno, &look),
        libc::EACCES => permission(case, &path, &look),
        libc::ECONNREFUSED => no_listener(&path, &file),
        libc::EPROTOTYPE => wrong_type(&path, &file),
        libc::EAGAIN => backlog_full(&path, &file),
        libc::EPERM => policy(&path),
        _ => return None,
    };
    Some(finding)
}

fn missing(path: &str, look: &str) -> Finding {
    Finding::new(
        Code::UnixMissing,
        Confidence::Certain,
        format!("{path} does not exist as the nginx worker sees it"),
    )
    .rule_out(
        Code::UnixNoListener,
        "a stale socket file gives ECONNREFUSED, not ENOENT",
    )
    .missing("whether the path dangles, or exists in another mount namespace or root")
    .fix(look)
    .fix("start the backend that creates the socket, or correct the path in nginx.conf")
}

fn bad_path(path: &str, errno: i32, look: &str) -> Finding {
    let why = match errno {
        libc::ENOTDIR => "a component of it is not a directory",
        libc::ELOOP => "its symbolic links form a loop",
        _ => "it is too long",
    };
    Finding::new(
        Code::UnixBadPath,
        Confidence::Certain,
        format!("{path} cannot be walked: {why}"),
    )
    .fix(look)
}

fn permission(case: &Case, path: &str, look: &str) -> Finding {
    let user = case
        .worker
        .uid
        .map_or_else(String::new, |uid| format!(" (uid {uid})"));
    Finding::new(
        Code::UnixPermission,
        Confidence::Probable,
        format!("the nginx worker{user} may not reach or write {path}"),
    )
    .missing("which component and which bit refuse, and whether a security module did instead")
    .fix(look)
    .fix(
        "give the socket to nginx's group and mode 0660, and its directories mode x for that group",
    )
}

fn no_listener(path: &str, file: &str) -> Finding {
    Finding::new(
        Code::UnixNoListener,
        Confidence::Probable,
        format!("no socket listens behind {path}"),
    )
    .rule_out(
        Code::UnixMissing,
        "the path exists: a missing one gives ENOENT",
    )
    .missing("whether the file is a socket: a regular file or a directory gives the same error")
    .fix(format!("ss -xlp src {file}"))
    .fix("start the backend; it replaces a stale socket file")
}

fn wrong_type(path: &str, file: &str) -> Finding {
    Finding::new(
        Code::UnixWrongType,
        Confidence::Certain,
        format!("{path} is a socket of another type than a stream, which nginx dials"),
    )
    .fix(format!("ss -xap src {file}"))
    .fix("let the backend create a SOCK_STREAM socket")
}

fn backlog_full(path: &str, file: &str) -> Finding {
    Finding::new(
        Code::UnixBacklogFull,
        Confidence::Certain,
        format!("the backlog of {path} is full: its process accepts too slowly or not at all"),
    )
    .fix(format!("ss -xlp src {file}"))
    .fix("look whether the backend hangs or has too few workers; raise its backlog and net.core.somaxconn")
}

fn policy(path: &str) -> Finding {
    Finding::new(
        Code::PolicyDenied,
        Confidence::Possible,
        format!("a policy of this host denied connect() to {path} with EPERM"),
    )
    .missing("which policy it was: seccomp, a cgroup program or an LSM")
    .fix("journalctl -k | grep -i -e denied -e audit")
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
