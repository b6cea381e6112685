//! `fd-limit`: no free file descriptor for the socket.

use crate::case::{Case, Ending};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

pub(super) fn fd_limit(case: &Case) -> Option<Finding> {
    match case.attempt.ending {
        Ending::SocketFailed {
            errno: libc::EMFILE,
        } => Some(worker_limit(case)),
        Ending::SocketFailed {
            errno: libc::ENFILE,
        } => Some(system_limit()),
        _ => None,
    }
}

fn worker_limit(case: &Case) -> Finding {
    let limit = case
        .host
        .descriptors
        .as_ref()
        .map(|descriptors| descriptors.limit);
    let words = limit.map_or_else(String::new, |limit| format!(" ({limit})"));
    // A filter can answer with any error in place of socket().
    let perhaps_filtered = case.host.seccomp_filter == Some(true) && has_room(case);
    let confidence = match perhaps_filtered {
        true => Confidence::Possible,
        false => Confidence::Certain,
    };
    Finding::new(
        Code::FdLimit,
        confidence,
        format!(
            "nginx worker {} is at its limit of open files{words}: it got no socket for the upstream",
            case.worker.pid
        ),
    )
    .with(case.host.descriptors.as_ref(), |finding, descriptors| {
        finding.because(format!(
            "the worker had {} of {} file descriptors open",
            descriptors.open, descriptors.limit
        ))
    })
    .rule_out(
        Code::NginxLimit,
        "worker_connections stops nginx after socket() succeeded; here socket() itself failed",
    )
    .when(perhaps_filtered, |finding| {
        finding.missing("whether the worker's seccomp filter gave this error (policy-denied): it was far from its limit when it was looked at")
    })
    .when(case.host.descriptors.is_none(), |finding| {
        finding.missing("the worker's limit and number of open files could not be read")
    })
    .fix(format!(
        "nginx.conf, main context: worker_rlimit_nofile {};",
        limit.unwrap_or(1024).saturating_mul(4).max(8192)
    ))
    .fix("systemctl edit nginx: [Service] LimitNOFILE=65536; then systemctl restart nginx")
    .fix(format!("ls -l /proc/{}/fd | awk '{{print $NF}}' | sort | uniq -c | sort -rn | head", case.worker.pid))
}

/// Fewer than half of the descriptors were open when the worker was looked at.
fn has_room(case: &Case) -> bool {
    let descriptors = case.host.descriptors.as_ref();
    descriptors.is_some_and(|it| it.open < it.limit / 2)
}

fn system_limit() -> Finding {
    Finding::new(
        Code::FdLimit,
        Confidence::Certain,
        "the whole host is at its limit of open files (fs.file-max): nginx got no socket",
    )
    .because(format!(
        "{} is the system-wide limit, not the worker's own ({})",
        wording::errno_name(libc::ENFILE),
        wording::errno_name(libc::EMFILE)
    ))
    .fix("cat /proc/sys/fs/file-nr")
    .fix("sysctl -w fs.file-max=2097152")
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_worker_at_its_limit_is_told_from_a_host_at_its_limit() {
        let mut case = case(
            "127.0.0.1:9101",
            Ending::SocketFailed {
                errno: libc::EMFILE,
            },
        );
        case.host.descriptors = Some(Descriptors {
            limit: 1024,
            open: 1024,
        });
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::FdLimit, Confidence::Certain)
        );
        assert!(
            verdict.fix[0].contains("worker_rlimit_nofile 8192;"),
            "{:?}",
            verdict.fix
        );
        case.attempt.ending = Ending::SocketFailed {
            errno: libc::ENFILE,
        };
        let verdict = diagnose(&case).verdict;
        assert_eq!(verdict.code, Code::FdLimit);
        assert!(
            verdict.summary.contains("whole host"),
            "{}",
            verdict.summary
        );
    }

    #[test]
    fn a_filter_that_gives_the_error_of_a_limit_is_not_excluded_where_there_is_room() {
        let mut case = case(
            "127.0.0.1:9101",
            Ending::SocketFailed {
                errno: libc::EMFILE,
            },
        );
        let with = |open| Some(Descriptors { limit: 1024, open });
        case.host.descriptors = with(8);
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Certain);
        case.host.seccomp_filter = Some(true);
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Possible);
        case.host.descriptors = with(1024);
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Certain);
    }

    #[test]
    fn another_failure_of_socket_is_not_a_limit() {
        let case = case(
            "127.0.0.1:9101",
            Ending::SocketFailed {
                errno: libc::ENOBUFS,
            },
        );
        assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    }
}
