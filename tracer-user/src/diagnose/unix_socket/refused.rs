//! `unix-no-listener` and `unix-not-a-socket`: the kernel refused the connection.

use crate::case::{FileKind, SocketKind, Step, UnixSocket, WalkEnd};
use crate::diagnose::finding::Finding;
use crate::diagnose::unix_socket::story::listens;
use crate::diagnose::unix_socket::subject::{Subject, kind, listing};
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

pub(super) fn refused(subject: &Subject<'_>) -> Finding {
    match subject.file() {
        Some(file) if file.kind != FileKind::Socket => {
            let since = subject.changed_since(file);
            let confidence = if since {
                Confidence::Probable
            } else {
                Confidence::Certain
            };
            not_a_socket(subject, file, confidence)
        }
        _ => no_listener(subject),
    }
}

/// The kernel looks at the type of a file once it has found it writable (`unix_find_bsd`): the
/// error number depends on its permissions, the cause does not.
pub(super) fn not_a_socket(subject: &Subject<'_>, file: &Step, confidence: Confidence) -> Finding {
    let finding = Finding::new(
        Code::UnixNotASocket,
        confidence,
        format!("{} is {}, no socket", subject.text, kind(&file.kind)),
    )
    .because(format!("{}: {}", file.path, listing(file)))
    .rule_out(
        Code::UnixMissing,
        "the path exists: a missing one gives ENOENT",
    );
    let finding = match subject.errno {
        libc::ECONNREFUSED => finding.rule_out(Code::UnixNoListener, "no socket is bound to a file of that kind"),
        _ => finding
            .because(format!(
                "connect() returned {} because the worker may not write to it; a worker that may gets ECONNREFUSED",
                wording::errno_name(subject.errno)
            ))
            .rule_out(
                Code::UnixPermission,
                "to grant the permission would not help: nothing can listen there",
            ),
    };
    let finding = subject.tell_candidates(subject.tell(finding));
    finding
        .fix(format!("ls -ld {}", subject.shell_path()))
        .fix("remove what stands there and let the backend create its socket, or correct the path in nginx.conf")
}

/// EROFS: a file system that takes no writes refuses them to files, directories and links, and
/// not to sockets (`sb_permission`).
pub(super) fn read_only(subject: &Subject<'_>) -> Option<Finding> {
    let file = subject
        .file()
        .filter(|file| file.kind != FileKind::Socket)?;
    Some(not_a_socket(subject, file, Confidence::Certain))
}

fn no_listener(subject: &Subject<'_>) -> Finding {
    let (confidence, why) = judged(subject);
    let finding = Finding::new(
        Code::UnixNoListener,
        confidence,
        format!("no socket listens behind {}{why}", subject.text),
    )
    .rule_out(
        Code::UnixMissing,
        if subject.is_abstract() {
            "an abstract name is no file"
        } else {
            "the path exists: a missing one gives ENOENT"
        },
    );
    let finding = match subject.file() {
        Some(file) => finding
            .because(format!("{}: {}", file.path, listing(file)))
            .rule_out(Code::UnixNotASocket, "it is a socket"),
        None if subject.facts.is_none() => finding.missing(
            "whether the file is a socket: a regular file or a directory gives the same error",
        ),
        None => finding,
    };
    let finding = told(subject, finding);
    let mut finding = subject.tell_candidates(subject.tell(finding));
    let bound = subject.facts.and_then(|facts| facts.bound.first());
    finding.unix_listener = subject.serving().or(bound).cloned();
    subject
        .tell_ended(finding)
        .fix(command(subject))
        .fix("start the backend; it replaces a stale socket file")
}

/// How sure it is, and what the summary adds.
fn judged(subject: &Subject<'_>) -> (Confidence, String) {
    let Some(facts) = subject.facts else {
        return (Confidence::Probable, String::new());
    };
    if let Some(socket) = subject.serving() {
        let who = wording::owner(&socket.owners);
        let confidence = match subject.anything_changed() {
            true => Confidence::Probable,
            false => Confidence::Possible,
        };
        return (
            confidence,
            format!(" as nginx dialled; {who} listens there now"),
        );
    }
    let found = subject.is_abstract() || subject.file().is_some();
    let certain = found && subject.unread().is_empty() && !file_changed(subject);
    let confidence = if certain {
        Confidence::Certain
    } else {
        Confidence::Probable
    };
    let clause = match facts.bound.first() {
        Some(socket) => format!(": {}", state(socket)),
        None => subject
            .ended_clause()
            .map_or_else(|| stale(subject), |clause| format!(": {clause}")),
    };
    (confidence, clause)
}

fn stale(subject: &Subject<'_>) -> String {
    if subject.is_abstract() {
        ": no socket of nginx's network namespace has that abstract name".to_owned()
    } else if subject.file().is_some() {
        ": the socket file is stale, nobody has it bound".to_owned()
    } else {
        String::new()
    }
}

fn file_changed(subject: &Subject<'_>) -> bool {
    subject
        .file()
        .is_some_and(|file| subject.changed_since(file))
}

/// What keeps a bound socket from taking connections.
fn state(socket: &UnixSocket) -> String {
    let who = wording::owner(&socket.owners);
    match (socket.kind, socket.listening) {
        (SocketKind::Stream, true) => {
            format!("{who} listens there and has shut its socket down for receiving")
        }
        (SocketKind::Stream, false) => {
            format!("{who} has bound a socket there and does not listen on it")
        }
        _ => format!("{who} has bound a socket of another type there"),
    }
}

fn told(subject: &Subject<'_>, finding: Finding) -> Finding {
    let Some(facts) = subject.facts else {
        return finding;
    };
    if let Some(socket) = subject.serving() {
        let finding = finding.because(format!("{} now", listens(socket)));
        return match subject.anything_changed() {
            true => finding.because("the path has changed since nginx dialled: a backend that starts binds its socket first and listens later"),
            false => finding
                .because("nothing on the way has changed since before the attempt: it was bound already and not listening yet, or something else refused")
                .missing("when it began to listen, and whether a cgroup program or a seccomp filter refused instead"),
        };
    }
    let finding = match facts.walk.as_ref().map(|walk| &walk.end) {
        Some(WalkEnd::Missing { path }) => finding.because(format!(
            "{path} was there as nginx dialled and has been removed since"
        )),
        _ => finding,
    };
    let finding = facts
        .bound
        .iter()
        .fold(finding, |finding, socket| finding.because(state(socket)));
    let unowned = facts.bound.iter().any(|socket| socket.owners.is_empty());
    let finding = finding.when(unowned, |finding| {
        finding.missing("who holds that socket: no process that could be searched does")
    });
    if facts.bound.is_empty() && subject.file().is_some() {
        return finding
            .because("no socket of any network namespace of this host is bound to that file");
    }
    finding
}

fn command(subject: &Subject<'_>) -> String {
    let path = subject.text.strip_prefix("unix:").unwrap_or(&subject.text);
    let command = format!("ss -xlp src {}", wording::shell_word(path));
    wording::in_namespace(subject.case, subject.case.worker.netns, &command)
}
