//! `unix-wrong-type` and `unix-backlog-full`: a socket is there and does not serve.

use crate::case::{SocketKind, UnixSocket};
use crate::diagnose::finding::Finding;
use crate::diagnose::unix_socket::subject::Subject;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

pub(super) fn wrong_type(subject: &Subject<'_>) -> Finding {
    let bound = subject.facts.and_then(|facts| {
        let other = |socket: &&UnixSocket| socket.kind != SocketKind::Stream;
        facts.bound.iter().find(other)
    });
    let (what, who) = match bound {
        Some(socket) => (
            kind(socket.kind),
            format!(", bound by {}", wording::owner(&socket.owners)),
        ),
        None => ("a socket of another type", String::new()),
    };
    let finding = Finding::new(
        Code::UnixWrongType,
        Confidence::Certain,
        format!("{} is {what}{who}; nginx dials a stream", subject.text),
    )
    .rule_out(
        Code::UnixNoListener,
        "a stream socket that does not listen gives ECONNREFUSED, not EPROTOTYPE",
    );
    let mut finding = subject.tell_candidates(subject.tell(finding));
    finding.unix_listener = bound.cloned();
    finding
        .fix(format!("ss -xap src {}", plain_path(subject)))
        .fix("let the backend create a SOCK_STREAM socket, or pass to the path of the one that it has")
}

pub(super) fn backlog_full(subject: &Subject<'_>) -> Finding {
    let socket = subject.serving();
    let who = socket.map_or_else(
        || "its process".to_owned(),
        |socket| wording::owner(&socket.owners),
    );
    let finding = Finding::new(
        Code::UnixBacklogFull,
        Confidence::Certain,
        format!(
            "the backlog of {} is full: {who} {}",
            subject.text,
            socket.map_or("accepts too slowly or not at all", pace)
        ),
    )
    .rule_out(
        Code::UnixNoListener,
        "somebody listens: without a listener connect() gives ECONNREFUSED",
    );
    let finding = subject.tell(told(subject, socket, finding));
    let mut finding = remedy(subject, socket, finding);
    finding.unix_listener = socket.cloned();
    finding
}

/// What the owner's state says of its pace (`proc_pid_stat(5)`).
fn pace(socket: &UnixSocket) -> &'static str {
    match socket.owner_state {
        Some('T' | 't') => "is stopped and accepts nothing",
        Some('D') => "waits for a disk or a device and accepts nothing meanwhile",
        Some('Z' | 'X') => "is dead and not reaped",
        Some('R') => "is busy and accepts too slowly",
        _ => "accepts too slowly or not at all",
    }
}

fn told(subject: &Subject<'_>, socket: Option<&UnixSocket>, finding: Finding) -> Finding {
    let Some(socket) = socket else {
        return match subject.facts {
            Some(_) => finding.because("read after the failure, nobody listens there any more"),
            None => finding,
        };
    };
    let finding = match socket.queue {
        Some(queue) if queue.length > queue.limit => finding.because(format!(
            "{} connections wait to be accepted; the backlog is {}, and one more is let in",
            queue.length, queue.limit
        )),
        Some(queue) => finding.because(format!(
            "read after the failure, {} connections wait to be accepted; the backlog is {}: it drained meanwhile",
            queue.length, queue.limit
        )),
        None => finding.missing("how many connections wait, and the backlog"),
    };
    finding.with(
        subject.facts.and_then(|facts| facts.somaxconn),
        |finding, limit| {
            finding.because(format!(
                "net.core.somaxconn is {limit} in the network namespace of the listener"
            ))
        },
    )
}

fn remedy(subject: &Subject<'_>, socket: Option<&UnixSocket>, finding: Finding) -> Finding {
    let owner = socket.and_then(|socket| socket.owners.first());
    let stopped = socket
        .and_then(|s| s.owner_state)
        .is_some_and(|state| matches!(state, 'T' | 't'));
    let finding = finding.with(owner.filter(|_| stopped), |finding, owner| {
        finding.fix(format!("kill -CONT {}", owner.pid))
    });
    let limit = socket
        .and_then(|socket| socket.queue)
        .map(|queue| queue.limit);
    let capped = limit.is_some() && limit == subject.facts.and_then(|facts| facts.somaxconn);
    let finding = finding
        .fix(format!("ss -xlp src {}", plain_path(subject)))
        .fix("look whether the backend hangs or has too few workers");
    match capped {
        true => finding.fix(format!(
            "raise net.core.somaxconn above {}, and with it the backend's backlog, which listen() cuts to it",
            limit.unwrap_or_default()
        )),
        false => finding.fix("raise the backend's backlog (the argument of its listen()), for bursts alone"),
    }
}

fn kind(kind: SocketKind) -> &'static str {
    match kind {
        SocketKind::Stream => "a stream socket",
        SocketKind::Datagram => "a datagram socket",
        SocketKind::Seqpacket => "a seqpacket socket",
        SocketKind::Other => "a socket of another type",
    }
}

fn plain_path(subject: &Subject<'_>) -> String {
    wording::shell_word(subject.text.strip_prefix("unix:").unwrap_or(&subject.text))
}
