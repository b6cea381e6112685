//! Who can have denied a call that nobody owned up to.

use crate::case::{AttachedProgram, Case, Ending, Family, Policies, ProgramPlace};
use crate::diagnose::finding::Finding;
use crate::diagnose::policy_denied::answered::{Answer, answer};
use crate::diagnose::policy_denied::{port, unit};
use crate::diagnose::{programs, wording};

/// A policy of this host that gives such an error.
#[derive(Debug, Clone)]
pub(super) enum Suspect<'a> {
    Seccomp,
    /// Programs on the worker's cgroup or above it.
    Cgroup(Vec<&'a AttachedProgram>),
    Bpf(Vec<&'a AttachedProgram>),
    Selinux(&'a Policies),
    Apparmor(&'a Policies),
    Landlock,
    Other(&'a str),
}

/// Those that this host runs and that answer so, the likeliest first.
pub(super) fn suspects(case: &Case, errno: i32) -> Vec<Suspect<'_>> {
    let mut found = able(case, errno);
    match answer(case) {
        Answer::Denied => found.retain(Suspect::is_security_module),
        Answer::Allowed => found.retain(|suspect| !suspect.is_security_module()),
        Answer::Unknown => {}
    }
    found
}

fn able(case: &Case, errno: i32) -> Vec<Suspect<'_>> {
    let mut found = Vec::new();
    if case.host.seccomp_filter == Some(true) && !entered(case.attempt.ending) {
        found.push(Suspect::Seccomp);
    }
    let programs = cgroup_programs(case);
    if !programs.is_empty() {
        found.push(Suspect::Cgroup(programs));
    }
    let security = programs::of_security(case);
    if !security.is_empty() && entered(case.attempt.ending) {
        found.push(Suspect::Bpf(security));
    }
    let Some(policies) = &case.host.policies else {
        return found;
    };
    let modules = policies.modules.iter().flatten();
    found.extend(
        modules
            .filter(|module| gives(module, errno))
            .filter(|module| *module != "landlock" || landlock_judges(case))
            .filter_map(|module| module_suspect(module, policies)),
    );
    found
}

impl Suspect<'_> {
    fn is_security_module(&self) -> bool {
        !matches!(self, Suspect::Seccomp | Suspect::Cgroup(_))
    }

    pub fn name(&self) -> &str {
        match self {
            Suspect::Seccomp => "seccomp",
            Suspect::Cgroup(_) => "cgroup-bpf",
            Suspect::Bpf(_) => "bpf-lsm",
            Suspect::Selinux(_) => "selinux",
            Suspect::Apparmor(_) => "apparmor",
            Suspect::Landlock => "landlock",
            Suspect::Other(module) => module,
        }
    }

    /// It is the only one that can have done it.
    pub fn blame(&self, case: &Case, finding: Finding) -> Finding {
        let finding = finding.missing(format!(
            "a record that {} denied this very call: none was seen",
            self.name()
        ));
        self.name_in(case, finding)
    }

    /// Names it as the only one that gives this error.
    pub fn name_in(&self, case: &Case, finding: Finding) -> Finding {
        let finding = self
            .evidence()
            .into_iter()
            .fold(finding, Finding::because)
            .because("nothing else that this host runs gives this error here")
            .policy(self.name());
        self.remedy(case, finding)
    }

    pub fn remedy(&self, case: &Case, finding: Finding) -> Finding {
        match self {
            Suspect::Seccomp => finding.fix(format!(
                "systemctl show {} -p SystemCallFilter -p RestrictAddressFamilies",
                unit(case)
            )),
            Suspect::Cgroup(programs) => programs.iter().fold(finding, |finding, program| {
                finding
                    .fix(format!("bpftool prog show id {}", program.id))
                    .with(detach(program), Finding::fix)
            }),
            Suspect::Bpf(programs) => programs.iter().fold(finding, |finding, program| {
                finding.fix(format!("bpftool prog show id {}", program.id))
            }),
            Suspect::Selinux(_) => finding.fix("ausearch -m avc -ts recent -c nginx   # nothing there: semodule -DB shows what dontaudit hides"),
            Suspect::Apparmor(_) => finding.fix("journalctl -k -g 'apparmor=\"DENIED\"' -n 10"),
            Suspect::Landlock => finding.fix(match port(case) {
                Some(port) => format!("let the sandbox that starts nginx allow LANDLOCK_ACCESS_NET_CONNECT_TCP to port {port}"),
                None => "look into the sandbox that starts nginx: its Landlock rules allow no such access".to_owned(),
            }),
            Suspect::Other(_) => finding.fix("journalctl -k | grep -i -e denied -e audit"),
        }
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Suspect::Seccomp => vec!["the worker runs under a seccomp filter (Seccomp: 2)".to_owned()],
            Suspect::Cgroup(programs) => programs.iter().map(|program| attached(program)).collect(),
            Suspect::Bpf(programs) => programs.iter().map(|program| attached(program)).collect(),
            Suspect::Selinux(policies) => {
                vec![format!("SELinux enforces; the worker's context is {}", label(policies))]
            }
            Suspect::Apparmor(policies) => {
                vec![format!("AppArmor confines the worker with the profile {}", label(policies))]
            }
            Suspect::Landlock => vec!["the kernel runs Landlock, which denies with EACCES before routing is asked, and of the other security modules that it runs none does".to_owned()],
            Suspect::Other(module) => vec![format!("the kernel runs the security module {module}")],
        }
    }
}

/// A filter that denies answers before the call is entered.
fn entered(ending: Ending) -> bool {
    matches!(ending, Ending::ConnectFailed { .. })
}

/// Landlock has no hook at `socket()`, and judges paths of sockets in the newest kernels alone
/// (`LANDLOCK_ACCESS_FS_RESOLVE_UNIX`).
fn landlock_judges(case: &Case) -> bool {
    let makes = matches!(case.attempt.ending, Ending::SocketFailed { .. });
    !makes && case.attempt.family != Family::Unix
}

/// `selinux_socket_connect_helper`, `aa_inet_msg_perm` and `hook_socket_connect` of Landlock
/// answer EACCES; EPERM is that of capabilities and of programs that return 0.
fn gives(module: &str, errno: i32) -> bool {
    match module {
        "selinux" | "apparmor" | "landlock" | "smack" => errno == libc::EACCES,
        "tomoyo" => errno == libc::EPERM,
        _ => false,
    }
}

fn module_suspect<'a>(module: &'a str, policies: &'a Policies) -> Option<Suspect<'a>> {
    match module {
        "selinux" => (policies.selinux_enforces != Some(false)
            && !label(policies).contains(":unconfined_t:"))
        .then_some(Suspect::Selinux(policies)),
        "apparmor" => label(policies)
            .ends_with("(enforce)")
            .then_some(Suspect::Apparmor(policies)),
        "landlock" => Some(Suspect::Landlock),
        other => Some(Suspect::Other(other)),
    }
}

fn label(policies: &Policies) -> &str {
    policies.label.as_deref().unwrap_or("not known")
}

/// Programs that `connect()`, `bind()` or `socket()` of this family runs.
fn cgroup_programs(case: &Case) -> Vec<&AttachedProgram> {
    match case.attempt.ending {
        Ending::SocketFailed { .. } => programs::of_cgroups(case, &["cgroup_inet_sock_create"]),
        Ending::BindFailed { .. } => {
            programs::of_cgroups(case, &["cgroup_inet4_bind", "cgroup_inet6_bind"])
        }
        _ => programs::at_connect(case),
    }
}

fn attached(program: &AttachedProgram) -> String {
    format!("{} runs at this call", programs::words(program))
}

fn detach(program: &AttachedProgram) -> Option<String> {
    let ProgramPlace::Cgroup {
        cgroup,
        attach_type,
    } = &program.place
    else {
        return None;
    };
    Some(format!(
        "bpftool cgroup detach <mount of cgroup2>{} {} id {}   # once its owner agrees",
        wording::shell_word(cgroup),
        wording::shell_word(attach_type),
        program.id
    ))
}
