//! A denial that the kernel's audit log tells.

use crate::case::{Case, Denial, Fact, Family, Module};
use crate::diagnose::finding::Finding;
use crate::diagnose::policy_denied::{call, denied_by, port};
use crate::verdict::{Code, Confidence};

pub(super) fn audited(case: &Case, errno: i32) -> Option<Finding> {
    let denial = case
        .timeline
        .iter()
        .rev()
        .find_map(|observed| match &observed.fact {
            Fact::Audited { denial }
                if !denial.permissive && denial.is_about(&case.attempt, &case.timeline) =>
            {
                Some(denial)
            }
            _ => None,
        })?;
    // A filter may leave the answer to another process, and a record of Landlock names none.
    let confidence = match denial.module {
        Module::Selinux | Module::Apparmor => Confidence::Certain,
        Module::Landlock | Module::Seccomp => Confidence::Probable,
    };
    let mut finding = denied_by(title(denial.module), case, call(case), errno, confidence)
        .policy(name(denial.module))
        .rule_out(
            Code::RouteRefused,
            "the security module's own record says that it denied the call",
        );
    if let Some(what) = what(denial) {
        finding.summary += &format!(": {what}");
    }
    Some(remedy(case, denial, finding))
}

/// Who lacks which right.
fn what(denial: &Denial) -> Option<String> {
    let subject = denial.subject.as_deref()?;
    match denial.module {
        Module::Selinux => Some(format!(
            "{} lacks {} on {} of the type {}",
            type_of(Some(subject))?,
            denial.request.as_deref()?,
            denial.class.as_deref()?,
            type_of(denial.object.as_deref())?,
        )),
        Module::Apparmor => Some(format!("the profile {subject} does not allow it")),
        Module::Landlock | Module::Seccomp => None,
    }
}

fn title(module: Module) -> &'static str {
    match module {
        Module::Selinux => "SELinux",
        Module::Apparmor => "AppArmor",
        Module::Landlock => "Landlock",
        Module::Seccomp => "a seccomp filter",
    }
}

fn name(module: Module) -> &'static str {
    match module {
        Module::Selinux => "selinux",
        Module::Apparmor => "apparmor",
        Module::Landlock => "landlock",
        Module::Seccomp => "seccomp",
    }
}

fn remedy(case: &Case, denial: &Denial, finding: Finding) -> Finding {
    match denial.module {
        Module::Selinux => selinux(case, denial, finding),
        Module::Apparmor => {
            let profile = denial.subject.as_deref().unwrap_or("the worker's profile");
            finding
                .fix(format!("add to the AppArmor profile {profile}: {}", permission(case)))
                .fix("apparmor_parser -r /etc/apparmor.d/<the profile's file>")
        }
        Module::Landlock => finding.fix(match port(case) {
            Some(port) => format!("let the sandbox that starts nginx allow LANDLOCK_ACCESS_NET_CONNECT_TCP to port {port}"),
            None => "let the sandbox that starts nginx allow this access".to_owned(),
        }),
        Module::Seccomp => finding.fix("allow the call in the seccomp profile of nginx's unit or container"),
    }
}

fn permission(case: &Case) -> &'static str {
    match case.attempt.family {
        Family::Ipv4 => "network inet stream,",
        Family::Ipv6 => "network inet6 stream,",
        Family::Unix => "a rule `rw` for the socket's path",
    }
}

/// The booleans are those of the reference policy's `apache` module, which nginx runs under.
fn selinux(case: &Case, denial: &Denial, finding: Finding) -> Finding {
    let object = type_of(denial.object.as_deref());
    let connects = denial.request.as_deref() == Some("name_connect");
    let finding = match (connects, port(case)) {
        (true, Some(port)) if object != Some("http_port_t") => finding.fix(format!(
            "semanage port -a -t http_port_t -p tcp {port}   # -m where the port has a type already"
        )),
        _ => finding,
    };
    let boolean = match object {
        Some("http_port_t" | "http_cache_port_t") => Some("httpd_can_network_relay"),
        Some("memcache_port_t") => Some("httpd_can_network_connect_memcache"),
        Some("mysqld_port_t" | "postgresql_port_t") => Some("httpd_can_network_connect_db"),
        _ if connects => Some("httpd_can_network_connect"),
        _ => None,
    };
    finding
        .with(boolean, |finding, boolean| {
            finding.fix(format!("setsebool -P {boolean} 1"))
        })
        .when(object == Some("memcache_port_t"), |finding| {
            finding.fix("setsebool -P httpd_can_network_memcache 1   # its name in Fedora's policy")
        })
        .fix("ausearch -m avc -ts recent -c nginx | audit2allow -M nginx_upstream   # then semodule -i nginx_upstream.pp")
}

/// The type is the third part of a context.
fn type_of(context: Option<&str>) -> Option<&str> {
    context?.split(':').nth(2)
}
