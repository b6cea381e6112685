//! `unix-missing`: nothing at the path.

use crate::case::{FileKind, Relation, UnixCandidate, Walk, WalkEnd};
use crate::diagnose::finding::Finding;
use crate::diagnose::unix_socket::story::listens;
use crate::diagnose::unix_socket::subject::Subject;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

pub(super) fn missing(subject: &Subject<'_>) -> Finding {
    let finding = Finding::new(
        Code::UnixMissing,
        confidence(subject),
        format!(
            "{} does not exist as the nginx worker sees it{}",
            subject.text,
            clause(subject)
        ),
    )
    .rule_out(
        Code::UnixNoListener,
        "a stale socket file gives ECONNREFUSED, not ENOENT",
    );
    let finding = match subject.facts {
        Some(_) => finding,
        None => finding
            .missing("whether the path dangles, or exists in another mount namespace or root"),
    };
    let finding = subject.tell(told_end(subject, finding));
    let finding = subject.tell_candidates(finding);
    let finding = match subject.same_elsewhere() {
        Some(candidate) => remedy_elsewhere(subject, candidate, finding),
        None => finding,
    };
    let finding = subject.tell_ended(finding);
    with_serving(subject, finding)
        .fix(subject.look())
        .fix("start the backend that creates the socket, or correct the path in nginx.conf")
}

/// The kernel said that it was missing. Only a path that is there, and of which nothing has
/// changed for long, speaks against that: then something else returned the error.
fn confidence(subject: &Subject<'_>) -> Confidence {
    if subject.file().is_some() && !subject.anything_changed() {
        Confidence::Possible
    } else {
        Confidence::Certain
    }
}

fn clause(subject: &Subject<'_>) -> String {
    if let Some(candidate) = subject.same_elsewhere() {
        let who = wording::owner(&candidate.socket.owners);
        return match candidate.relation {
            Relation::Unlinked => {
                format!("; {who} still listens on that socket, but its file is gone")
            }
            _ => format!("; {who} listens at that path as it sees the file system itself"),
        };
    }
    if subject.file().is_some() {
        return "; it came into being afterwards".to_owned();
    }
    if let Some(link) = subject.walk().and_then(dangling) {
        return format!(": {link} is a dangling symbolic link");
    }
    if let Some(clause) = subject.ended_clause() {
        return format!("; {clause}");
    }
    subject
        .walk()
        .and_then(|walk| missing_directory(subject, walk))
        .map_or_else(String::new, |path| {
            format!(": the directory {path} is missing")
        })
}

fn told_end(subject: &Subject<'_>, finding: Finding) -> Finding {
    let Some(walk) = subject.walk() else {
        return finding;
    };
    match &walk.end {
        WalkEnd::Missing { path } => finding.because(format!("{path} does not exist")),
        WalkEnd::Found if subject.anything_changed() => {
            finding.because("the path exists now: it was created after nginx dialled it")
        }
        WalkEnd::Found => finding
            .because("the path exists now, and nothing on the way to it has changed since before the attempt")
            .missing("what returned ENOENT: a seccomp filter or a cgroup program may have"),
        _ => finding,
    }
}

fn with_serving(subject: &Subject<'_>, mut finding: Finding) -> Finding {
    if let Some(socket) = subject.serving() {
        finding = finding.because(format!("{} now", listens(socket))).fix(
            "start nginx after the backend (After= in its unit), or let the request be retried",
        );
        finding.unix_listener = Some(socket.clone());
        finding.ended = None;
    }
    finding
}

/// The last link on the way, where what is missing is what it leads to.
fn dangling(walk: &Walk) -> Option<&str> {
    let WalkEnd::Missing { path: missing } = &walk.end else {
        return None;
    };
    let (link, target) = walk.steps.iter().rev().find_map(|step| match &step.kind {
        FileKind::Symlink(target) => Some((step.path.as_str(), target.as_str())),
        _ => None,
    })?;
    let target = match target.starts_with('/') {
        true => target.to_owned(),
        false => format!("{}/{target}", &link[..link.rfind('/').unwrap_or(0)]),
    };
    let target = plain(&target);
    let leads = target == *missing || target.starts_with(&format!("{missing}/"));
    leads.then_some(link)
}

/// A path without `.`, `..` and double slashes.
fn plain(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

fn missing_directory<'a>(subject: &Subject<'_>, walk: &'a Walk) -> Option<&'a str> {
    let WalkEnd::Missing { path } = &walk.end else {
        return None;
    };
    let dialled = subject.path?;
    let last = dialled.rsplit(|byte| *byte == b'/').next()?;
    let named = path.as_bytes().ends_with(&[b"/", last].concat());
    (!named && last.is_ascii()).then_some(path.as_str())
}

fn remedy_elsewhere(subject: &Subject<'_>, candidate: &UnixCandidate, finding: Finding) -> Finding {
    let owner = candidate.socket.owners.first();
    let unit = owner.and_then(|owner| owner.unit.as_deref());
    let Relation::SamePathElsewhere { mounted, .. } = &candidate.relation else {
        return finding.with(unit.map(wording::shell_word), |finding, unit| {
            finding.fix(format!(
                "systemctl restart {unit}  # it binds the socket anew"
            ))
        });
    };
    let private = mounted
        .as_ref()
        .is_some_and(|directory| directory.contains("systemd-private-"));
    if private {
        let unit = unit.unwrap_or("the backend's unit");
        return finding.fix(format!(
            "{unit} has PrivateTmp=: let it listen below /run instead (RuntimeDirectory= in its unit), and pass to that path"
        ));
    }
    match (owner.and_then(|o| o.container.as_deref()), &subject.case.worker.container) {
        (None, None) => finding.fix(
            "let both see one directory: listen below /run, without a private mount over it (PrivateTmp=, TemporaryFileSystem=, RootDirectory= in the units)",
        ),
        _ => finding.fix(
            "mount the directory that holds the socket into both containers (a volume at the same path), and pass to it there",
        ),
    }
}
