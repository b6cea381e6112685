//! The least privilege that lets the worker through.

use crate::case::{Access, Process, RefusedBy, Step};
use crate::diagnose::finding::Finding;
use crate::diagnose::unix_socket::subject::Subject;
use crate::diagnose::wording;

/// Adds what lets the worker pass the step that refuses it, the narrowest first.
pub(super) fn permission(subject: &Subject<'_>, step: &Step, finding: Finding) -> Finding {
    let Some(refusal) = step.refused else {
        return finding;
    };
    let (bit, entry) = match refusal.wanted {
        Access::Search => ('x', "x"),
        Access::Write | Access::Follow => ('w', "rw"),
    };
    let path = subject.reached(&step.path);
    let user = user(subject);
    match refusal.by {
        RefusedBy::Owner => finding.fix(format!("chmod u+{bit} {path}")),
        RefusedBy::AclUser | RefusedBy::AclGroup => {
            finding.fix(format!("setfacl -m u:{user}:{entry} {path}"))
        }
        RefusedBy::AclMask => finding.fix(format!("setfacl -m m::{entry} {path}")),
        RefusedBy::ProtectedSymlinks => finding.fix(format!(
            "put the link into a directory that not everybody may write, or `chown -h {user} {path}`"
        )),
        RefusedBy::Group | RefusedBy::Other => match refusal.wanted {
            Access::Search => directory(step, refusal.by, &path, &user, finding),
            _ => socket(subject, step, refusal.by, &path, &user, finding),
        },
    }
}

fn directory(step: &Step, by: RefusedBy, path: &str, user: &str, finding: Finding) -> Finding {
    if by == RefusedBy::Group {
        return finding.fix(format!("chmod g+x {path}"));
    }
    let finding = finding.fix(format!(
        "setfacl -m u:{user}:x {path}  # this user may pass, and list nothing"
    ));
    match joinable(step, 0o010) {
        Some(group) => finding.fix(format!("or: usermod -aG {group} {user}, then reload nginx")),
        None => finding,
    }
}

fn socket(
    subject: &Subject<'_>,
    step: &Step,
    by: RefusedBy,
    path: &str,
    user: &str,
    finding: Finding,
) -> Finding {
    if by == RefusedBy::Other
        && let Some(group) = joinable(step, 0o020)
    {
        return finding.fix(format!(
            "usermod -aG {group} {user}, then reload nginx  # the group may write to the socket already"
        ));
    }
    let owner = subject.serving().and_then(|socket| socket.owners.first());
    let finding = finding.fix(setting(owner, by, user));
    match by {
        RefusedBy::Group => {
            finding.fix(format!("until it binds the socket anew: chmod g+w {path}"))
        }
        _ => finding.fix(format!(
            "until it binds the socket anew: setfacl -m u:{user}:rw {path}"
        )),
    }
}

/// The group of a file that gives what is needed, where it is one to join: never that of root.
fn joinable(step: &Step, bit: u32) -> Option<String> {
    let open = step.mode & bit != 0 && step.gid != 0 && !step.acl;
    let name = step.group.clone().unwrap_or_else(|| step.gid.to_string());
    open.then(|| wording::shell_word(&name))
}

/// The backend's own setting: what it binds next time gets its mode and group from there.
fn setting(owner: Option<&Process>, by: RefusedBy, user: &str) -> String {
    let Some(owner) = owner else {
        return format!("let the backend create its socket with mode 0660 and the group of {user}");
    };
    let comm = owner.comm.as_str();
    let regroup = by == RefusedBy::Other;
    let (group, socket_group, chown) = if regroup {
        (
            format!("listen.group = {user}, "),
            format!("SocketGroup={user}, "),
            format!("chown-socket = :{user}, "),
        )
    } else {
        Default::default()
    };
    if owner.pid == 1 {
        format!("in the .socket unit: {socket_group}SocketMode=0660")
    } else if comm.starts_with("php") {
        format!("in PHP-FPM's pool: {group}listen.mode = 0660")
    } else if comm.contains("gunicorn") {
        let group = if regroup {
            format!(" --group {user}")
        } else {
            String::new()
        };
        format!("start gunicorn with --umask 007{group}")
    } else if comm.starts_with("uwsgi") {
        format!("in uWSGI's configuration: {chown}chmod-socket = 660")
    } else {
        let of_group = if regroup {
            format!(" and the group of {user}")
        } else {
            String::new()
        };
        format!(
            "let {} create its socket with mode 0660{of_group} (its own setting, or UMask=0007 in its unit)",
            wording::process(owner)
        )
    }
}

fn user(subject: &Subject<'_>) -> String {
    let who = subject.facts.and_then(|facts| facts.credentials.as_ref());
    let name = who.and_then(|who| who.user.clone());
    let uid = who.map(|who| who.uid.to_string());
    wording::shell_word(&name.or(uid).unwrap_or_else(|| "nginx's user".to_owned()))
}
