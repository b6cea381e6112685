//! Whether an attempt was one at an upstream, and at which.

use crate::{
    case::{Ending, Endpoint, LogLine, Undialled, Worker},
    correlate::Ended,
    nginx::{config::upstreams::Upstreams, error_log},
};

/// A master dials nobody on behalf of clients. Whatever a worker dials over TCP counts; of Unix
/// sockets those that are configured or that its error log calls an upstream: the C library has
/// its own (`nscd`, `userdb`, `/dev/log`). `serves` tells whether the process is known to do a
/// worker's work.
pub fn is_upstream(
    ended: &Ended,
    worker: &Worker,
    configured: &Upstreams,
    serves: impl FnOnce() -> bool,
) -> bool {
    if worker.master_pid == Some(worker.pid) {
        return false;
    }
    let logged = ended.log.as_ref().is_some_and(error_log::is_about_upstream);
    match &ended.attempt.dialled {
        Some(dialled @ Endpoint::Unix(_)) => {
            let known = configured.attribute(dialled);
            logged || known.name.is_some() || known.server.is_some()
        }
        Some(Endpoint::Inet(_)) => true,
        // A filter answered in place of the call: which socket it was for, the line alone tells.
        None if matches!(ended.attempt.ending, Ending::ConnectFailed { .. }) => logged,
        None if matches!(
            ended.attempt.ending,
            Ending::Undialled { .. } | Ending::AfterConnect { .. }
        ) =>
        {
            true
        }
        // Other sockets than those to upstreams fail as well; the line tells.
        None if ended.log.is_some() => logged,
        None => may_be_for_an_upstream(ended.attempt.ending) && serves(),
    }
}

/// Where no line was written, another socket than one to an upstream may be meant: `nginx -t`
/// binds what it would listen on and is silent where that is taken (`ngx_open_listening_sockets`),
/// and libraries ask for families that the kernel or a policy does not give them (netlink).
fn may_be_for_an_upstream(ending: Ending) -> bool {
    match ending {
        Ending::SocketFailed { errno } => ![
            libc::EAFNOSUPPORT,
            libc::EPROTONOSUPPORT,
            libc::ESOCKTNOSUPPORT,
            libc::EINVAL,
        ]
        .contains(&errno),
        _ => true,
    }
}

/// Whom nginx meant where it dialled nobody: the upstream block, or the name that was not resolved.
pub fn named(line: &LogLine, cause: Undialled) -> Option<String> {
    match cause {
        Undialled::NoLiveUpstreams => error_log::group(line),
        Undialled::Unresolved => error_log::unresolved(line),
        Undialled::OutOfConnections => None,
    }
}

/// The server that the error log names: what was meant where nothing was dialled.
pub fn meant(line: &LogLine) -> Option<Endpoint> {
    let address = error_log::upstream_address(line)?;
    match address.strip_prefix("unix:") {
        Some(path) => Some(Endpoint::Unix(path.as_bytes().to_vec())),
        None => address.parse().ok().map(Endpoint::Inet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        case::{Attempt, Family, Undialled as Cause},
        evidence::Thread,
    };

    fn ended(ending: Ending, line: Option<&str>) -> Ended {
        let thread = Thread {
            pid: 7,
            tid: 7,
            comm: String::new(),
        };
        Ended {
            thread,
            netns: None,
            attempt: Attempt {
                family: Family::Ipv4,
                dialled: None,
                local: None,
                remote: None,
                bound: None,
                started: 1,
                ended: 1,
                ending,
                upstream_name: None,
                upstream_server: None,
                connect_timeout_ms: None,
            },
            timeline: Vec::new(),
            log: line.map(|line| error_log::parse(line.as_bytes()).unwrap()),
            connection: None,
            earlier: Vec::new(),
            unseen: false,
            outcome: None,
        }
    }

    fn taken(ending: Ending, line: Option<&str>, serves: bool) -> bool {
        let worker = Worker {
            pid: 7,
            master_pid: None,
            exe: None,
            config: None,
            netns: 1,
            container: None,
            uid: None,
        };
        let configured = Upstreams::default();
        is_upstream(&ended(ending, line), &worker, &configured, || serves)
    }

    #[test]
    fn a_silent_failure_to_bind_counts_for_those_that_serve_alone() {
        let ending = Ending::BindFailed {
            errno: libc::EADDRINUSE,
        };
        assert!(taken(ending, None, true));
        assert!(!taken(ending, None, false));
    }

    #[test]
    fn a_silent_socket_of_a_family_that_is_not_given_is_none_to_an_upstream() {
        let failed = |errno| Ending::SocketFailed { errno };
        assert!(taken(failed(libc::EMFILE), None, true));
        assert!(!taken(failed(libc::EMFILE), None, false));
        assert!(!taken(failed(libc::EAFNOSUPPORT), None, true));
    }

    #[test]
    fn what_the_line_says_counts_whoever_wrote_it() {
        let ending = Ending::BindFailed {
            errno: libc::EADDRINUSE,
        };
        let own = "2026/11/22 06:10:00 [emerg] 7#7: bind() to 0.0.0.0:80 failed (98: Address already in use)";
        let upstream = "2026/11/22 06:10:00 [crit] 7#7: *1 bind(10.0.0.1:0) failed (98: Address already in use) while connecting to upstream, client: 127.0.0.1, server: _, request: \"GET / HTTP/1.1\", upstream: \"http://127.0.0.1:9101/\", host: \"a\"";
        assert!(!taken(ending, Some(own), true));
        assert!(taken(ending, Some(upstream), false));
        let nobody = Ending::Undialled {
            cause: Cause::NoLiveUpstreams,
        };
        assert!(taken(nobody, None, false));
    }
}
