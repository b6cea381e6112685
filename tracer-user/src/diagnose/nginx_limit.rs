//! `nginx-limit`: a limit of nginx itself stopped it.

use crate::case::{Case, Ending, Met, Undialled};
use crate::diagnose::finding::Finding;
use crate::diagnose::{after, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn nginx_limit(case: &Case) -> Option<Finding> {
    match case.attempt.ending {
        Ending::Undialled {
            cause: Undialled::OutOfConnections,
        } => Some(connections(case)),
        Ending::AfterConnect {
            met: Met::TooBig, ..
        } => Some(header(case)),
        _ => None,
    }
}

fn connections(case: &Case) -> Finding {
    let number = case
        .log
        .as_ref()
        .and_then(|line| line.message.as_deref()?.split(' ').next())
        .unwrap_or_default();
    Finding::new(
        Code::NginxLimit,
        Confidence::Certain,
        format!(
            "worker {} uses all of its {number} worker_connections: it could not dial its upstream",
            case.worker.pid
        ),
    )
    .rule_out(
        Code::FdLimit,
        "nginx's own table was full; its descriptors were not",
    )
    .fix("raise `worker_connections` in the events block, and `worker_rlimit_nofile` with it: a proxied request takes two of each")
    .fix("where connections pile up for want of answers, look at the upstream that is slow first")
}

fn header(case: &Case) -> Finding {
    let finding = Finding::new(
        Code::NginxLimit,
        Confidence::Certain,
        format!(
            "{} sent a response header that is larger than nginx's buffer for it",
            wording::dialled(case)
        ),
    )
    .fix("raise `proxy_buffer_size` (`fastcgi_buffer_size`, …), or let the backend send smaller headers: cookies, mostly");
    after::with_listener(case, finding)
}
