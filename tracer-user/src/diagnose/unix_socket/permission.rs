//! `unix-permission`, and what else answers with EACCES, EPERM or EROFS.

use crate::case::{Access, FileKind, RefusedBy, Step};
use crate::diagnose::finding::Finding;
use crate::diagnose::policy_denied;
use crate::diagnose::unix_socket::subject::{Subject, kind, listing};
use crate::diagnose::unix_socket::{refused, remedy};
use crate::verdict::{Code, Confidence};

/// File systems whose server judges as well.
const JUDGED_ELSEWHERE: [&str; 8] = [
    "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "virtiofs", "fuse",
];

pub(super) fn permission(subject: &Subject<'_>) -> Finding {
    if subject.is_abstract() {
        return policy(subject);
    }
    if let Some(step) = subject.refused() {
        let behind = subject.file().filter(|file| std::ptr::eq(*file, step));
        return match behind {
            Some(file) if file.kind != FileKind::Socket => {
                refused::not_a_socket(subject, file, Confidence::Certain)
            }
            _ => refused_at(subject, step),
        };
    }
    let judged = subject
        .facts
        .is_some_and(|facts| facts.credentials.is_some())
        && subject.file().is_some();
    match judged {
        true => granted(subject),
        false => unknown(subject, Confidence::Probable),
    }
}

/// EPERM: no permission of a file gives it, a flag may.
pub(super) fn forbidden(subject: &Subject<'_>) -> Finding {
    match subject.file() {
        Some(file) if file.kind != FileKind::Socket => {
            refused::not_a_socket(subject, file, Confidence::Probable)
        }
        _ => policy(subject),
    }
}

fn refused_at(subject: &Subject<'_>, step: &Step) -> Finding {
    let worker = subject.worker();
    let finding = Finding::new(
        Code::UnixPermission,
        Confidence::Certain,
        format!(
            "{worker} may not {}: {}",
            denied(step, &subject.text),
            decided(step)
        ),
    )
    .because(format!("{}: {}", step.path, listing(step)))
    .with(groups(subject), Finding::because)
    .rule_out(
        Code::PolicyDenied,
        "the permissions of the file system refuse it already",
    );
    let finding = match subject.file() {
        Some(file) if file.kind != FileKind::Socket => {
            finding.because(format!("behind it, {} is {}", file.path, kind(&file.kind)))
        }
        _ => finding,
    };
    let finding = if subject.changed_since(step) {
        finding.because(format!("{} has changed since nginx dialled", step.path))
    } else {
        finding
    };
    let mut finding = remedy::permission(subject, step, subject.tell(finding));
    finding.unix_listener = subject.serving().cloned();
    finding.fix(subject.look())
}

fn denied(step: &Step, text: &str) -> String {
    let path = &step.path;
    match step.refused.map(|refusal| refusal.wanted) {
        Some(Access::Search) => format!("pass the directory {path} on the way to {text}"),
        Some(Access::Follow) => format!("follow the symbolic link {path} on the way to {text}"),
        _ if *text == format!("unix:{path}") => format!("write to {text}"),
        _ => format!("write to {path}, which {text} leads to"),
    }
}

/// Which bit of which entry, and why that entry.
fn decided(step: &Step) -> String {
    let Some(refusal) = step.refused else {
        return String::new();
    };
    let bit = match refusal.wanted {
        Access::Search => "x",
        Access::Write | Access::Follow => "w",
    };
    let shown = listing(step);
    match refusal.by {
        RefusedBy::Owner => format!("it owns it, and {shown} lacks {bit} for the owner"),
        RefusedBy::Group => format!("it is in the group, and {shown} lacks {bit} for the group"),
        RefusedBy::Other => {
            format!("it is neither owner nor in the group, and {shown} lacks {bit} for others")
        }
        RefusedBy::AclUser => {
            format!("the access control list lacks {bit} for this user ({shown})")
        }
        RefusedBy::AclGroup => {
            format!("the access control list lacks {bit} for the groups that it is in ({shown})")
        }
        RefusedBy::AclMask => {
            format!("the access control list grants {bit}, and its mask takes it away ({shown})")
        }
        RefusedBy::ProtectedSymlinks => format!(
            "fs.protected_symlinks forbids links of others in a directory that all may write ({shown})"
        ),
    }
}

fn groups(subject: &Subject<'_>) -> Option<String> {
    let who = subject.facts?.credentials.as_ref()?;
    let mut groups: Vec<u32> = who.groups.clone();
    if !groups.contains(&who.gid) {
        groups.insert(0, who.gid);
    }
    let shown: Vec<String> = groups.iter().take(20).map(u32::to_string).collect();
    Some(format!(
        "the worker runs as uid {} in the groups {}",
        who.uid,
        shown.join(" ")
    ))
}

/// As read afterwards, nothing in the file system refuses it.
fn granted(subject: &Subject<'_>) -> Finding {
    if subject.anything_changed() {
        return unknown(subject, Confidence::Possible).because(
            "as read after the failure the permissions allow it; something on the way has changed since nginx dialled",
        );
    }
    let foreign = subject.walk().and_then(|walk| {
        walk.steps.iter().find_map(|step| {
            let name = step.filesystem.as_deref()?;
            let plain = name.split('.').next().unwrap_or(name);
            JUDGED_ELSEWHERE.contains(&plain).then_some((step, name))
        })
    });
    match foreign {
        Some((step, name)) => unknown(subject, Confidence::Possible).because(format!(
            "mode bits allow it, and {} lies on {name}, whose server judges by itself",
            step.path
        )),
        None => policy(subject)
            .because("the permissions of every component allow this worker to search and write")
            .rule_out(
                Code::UnixPermission,
                "mode bits and access control lists allow it, and nothing on the way has changed since",
            ),
    }
}

fn unknown(subject: &Subject<'_>, confidence: Confidence) -> Finding {
    let finding = Finding::new(
        Code::UnixPermission,
        confidence,
        format!(
            "{} may not reach or write {}",
            subject.worker(),
            subject.text
        ),
    )
    .missing("which component and which bit refuse, and whether a security module did instead");
    subject.tell(finding).fix(subject.look()).fix(
        "give the socket to nginx's group and mode 0660, and its directories mode x for that group",
    )
}

fn policy(subject: &Subject<'_>) -> Finding {
    let finding = policy_denied::at_unix_socket(subject.case, subject.errno);
    subject.tell(finding.unwrap_or_else(|| unknown_policy(subject)))
}

fn unknown_policy(subject: &Subject<'_>) -> Finding {
    let name = crate::diagnose::wording::errno_name(subject.errno);
    let confidence = match subject.errno {
        libc::EACCES => Confidence::Probable,
        _ => Confidence::Possible,
    };
    Finding::new(
        Code::PolicyDenied,
        confidence,
        format!(
            "a policy of this host denied nginx's connect() to {} with {name}",
            subject.text
        ),
    )
    .missing(match subject.errno {
        libc::EACCES => "which policy it was: SELinux, AppArmor, another LSM, or a cgroup program",
        _ => "which policy it was: seccomp, a cgroup program, Landlock or another LSM",
    })
    .fix("journalctl -k | grep -i -e denied -e audit")
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_program_on_the_cgroup_is_named_where_it_is_for_unix_sockets() {
        let ending = Ending::ConnectFailed {
            errno: libc::EPERM,
            reached_syn_sent: false,
        };
        let mut case = case("127.0.0.1:1", ending);
        case.attempt.family = Family::Unix;
        case.attempt.dialled = Some(Endpoint::Unix(b"/run/app.sock".to_vec()));
        case.attempt.remote = None;
        for (attach_type, policy, confidence) in [
            ("cgroup_inet4_connect", None, Confidence::Possible),
            (
                "cgroup_unix_connect",
                Some("cgroup-bpf"),
                Confidence::Probable,
            ),
        ] {
            case.host.programs = vec![AttachedProgram {
                id: 77,
                name: "deny_connect".to_owned(),
                place: ProgramPlace::Cgroup {
                    cgroup: "/web.slice".to_owned(),
                    attach_type: attach_type.to_owned(),
                },
            }];
            let verdict = diagnose(&case).verdict;
            assert_eq!(
                (verdict.code, verdict.policy.as_deref(), verdict.confidence),
                (Code::PolicyDenied, policy, confidence)
            );
        }
    }
}
