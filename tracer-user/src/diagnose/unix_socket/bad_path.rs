//! `unix-bad-path`: the path cannot be walked.

use crate::case::WalkEnd;
use crate::diagnose::finding::Finding;
use crate::diagnose::unix_socket::subject::{Subject, kind, listing};
use crate::verdict::{Code, Confidence};

pub(super) fn bad_path(subject: &Subject<'_>) -> Finding {
    let text = &subject.text;
    let finding = Finding::new(
        Code::UnixBadPath,
        Confidence::Certain,
        format!("{text} cannot be walked: {}", why(subject)),
    )
    .rule_out(
        Code::UnixMissing,
        "a path that merely does not exist gives ENOENT",
    );
    let finding = match at_fault(subject) {
        Some(_) => finding,
        None if subject.walk().is_some() => {
            finding.because("read after the failure, the path has changed: it no longer fails so")
        }
        None => finding,
    };
    subject
        .tell(finding)
        .fix(subject.look())
        .fix(remedy(subject))
}

fn why(subject: &Subject<'_>) -> String {
    let fault = at_fault(subject);
    match (subject.errno, fault) {
        (libc::ENOTDIR, Some(path)) => {
            let steps = subject.walk().map_or(&[][..], |walk| &walk.steps);
            match steps.iter().rev().find(|step| step.path == path) {
                Some(step) => format!(
                    "{path} is {}, no directory ({})",
                    kind(&step.kind),
                    listing(step)
                ),
                None => format!("{path} is no directory"),
            }
        }
        (libc::ENOTDIR, None) => "a component of it is not a directory".to_owned(),
        (libc::ELOOP, Some(path)) => format!("its symbolic links form a loop at {path}"),
        (libc::ELOOP, None) => "its symbolic links form a loop".to_owned(),
        (_, Some(path)) => format!("{path} is too long"),
        (_, None) => "it is too long".to_owned(),
    }
}

/// Where the walk met the same obstacle as the kernel did.
fn at_fault<'a>(subject: &Subject<'a>) -> Option<&'a str> {
    match (subject.errno, &subject.walk()?.end) {
        (libc::ENOTDIR, WalkEnd::NotADirectory { path })
        | (libc::ELOOP, WalkEnd::Loop { path })
        | (libc::ENAMETOOLONG, WalkEnd::TooLong { path }) => Some(path),
        _ => None,
    }
}

fn remedy(subject: &Subject<'_>) -> &'static str {
    match subject.errno {
        libc::ELOOP => {
            "let the symbolic link lead to the backend's socket, or pass to that path itself"
        }
        _ => "correct the path in nginx.conf",
    }
}
