//! Whether an attempt was one at an upstream, and at which.

use crate::{
    case::{Ending, Endpoint, LogLine, Undialled, Worker},
    correlate::Ended,
    nginx::{config::upstreams::Upstreams, error_log},
};

/// A master dials nobody on behalf of clients. Whatever a worker dials over TCP counts; of Unix
/// sockets those that are configured or that its error log calls an upstream: the C library has
/// its own (`nscd`, `userdb`, `/dev/log`).
pub fn is_upstream(ended: &Ended, worker: &Worker, configured: &Upstreams) -> bool {
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
        // Other sockets than those to upstreams fail as well; the line tells.
        None => {
            let told = matches!(
                ended.attempt.ending,
                Ending::Undialled { .. } | Ending::AfterConnect { .. }
            );
            told || logged || ended.log.is_none()
        }
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
