//! `bind-failed`: `proxy_bind` names an address that the kernel does not give.

use std::net::SocketAddr;

use crate::case::{Case, Ending};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

pub(super) fn bind_failed(case: &Case) -> Option<Finding> {
    let Ending::BindFailed { errno } = case.attempt.ending else {
        return None;
    };
    let port = case.attempt.bound.map_or(0, |address| address.port());
    match errno {
        libc::EADDRNOTAVAIL => Some(not_here(case)),
        libc::EADDRINUSE => Some(in_use(case)),
        libc::EACCES if (1..1024).contains(&port) => Some(privileged(case)),
        // Policies answer so: `policy_denied` takes these.
        libc::EACCES | libc::EPERM => None,
        errno => Some(otherwise(case, errno)),
    }
}

fn not_here(case: &Case) -> Finding {
    finding(
        case,
        "that address is not on this host (in nginx's network namespace)",
    )
    .rule_out(
        Code::PortsExhausted,
        "bind() refused the address itself; connect() was never called",
    )
    .fix(wording::in_namespace(
        case,
        case.worker.netns,
        "ip -brief address",
    ))
    .with(case.attempt.bound, |finding, address| {
        finding
            .fix(wording::in_namespace(
                case,
                case.worker.netns,
                &format!("ip address add {} dev <device>", address.ip()),
            ))
            .fix("nginx.conf: correct or remove the proxy_bind directive of this upstream")
    })
}

fn in_use(case: &Case) -> Finding {
    finding(case, "that address and port are in use")
        .rule_out(
            Code::PortsExhausted,
            "bind() refused one fixed port; the kernel was not asked to choose one",
        )
        .fix("nginx.conf: leave the port out of proxy_bind, so that each connection gets its own")
        .with(case.attempt.bound, |finding, address| {
            finding.fix(wording::in_namespace(
                case,
                case.worker.netns,
                &format!("ss -tanp 'sport = :{}'", address.port()),
            ))
        })
}

fn privileged(case: &Case) -> Finding {
    finding(
        case,
        "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
    )
    .fix("nginx.conf: leave the port out of proxy_bind, or take one above 1023")
}

fn otherwise(case: &Case, errno: i32) -> Finding {
    finding(case, &wording::errno_name(errno))
        .fix("nginx.conf: check the proxy_bind directive of this upstream")
}

fn finding(case: &Case, why: &str) -> Finding {
    let address = case.attempt.bound.as_ref().map_or_else(
        || "the address of proxy_bind".to_owned(),
        SocketAddr::to_string,
    );
    Finding::new(
        Code::BindFailed,
        Confidence::Certain,
        format!("nginx could not bind its side of the connection to {address}: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::Code;

    #[test]
    fn a_foreign_address_and_one_in_use_are_told_apart() {
        let mut case = case(
            "127.0.0.1:9101",
            Ending::BindFailed {
                errno: libc::EADDRNOTAVAIL,
            },
        );
        case.attempt.bound = Some(address("192.0.2.1:0"));
        let foreign = diagnose(&case).verdict;
        case.attempt.ending = Ending::BindFailed {
            errno: libc::EADDRINUSE,
        };
        let in_use = diagnose(&case).verdict;
        assert_eq!(
            (foreign.code, in_use.code),
            (Code::BindFailed, Code::BindFailed)
        );
        assert!(
            foreign.summary.contains("not on this host"),
            "{}",
            foreign.summary
        );
        assert!(in_use.summary.contains("in use"), "{}", in_use.summary);
    }

    #[test]
    fn a_privileged_port_is_told_from_a_policy() {
        let mut case = case(
            "127.0.0.1:9101",
            Ending::BindFailed {
                errno: libc::EACCES,
            },
        );
        case.attempt.bound = Some(address("192.0.2.1:80"));
        assert_eq!(diagnose(&case).verdict.code, Code::BindFailed);
        case.attempt.bound = Some(address("192.0.2.1:0"));
        assert_eq!(diagnose(&case).verdict.code, Code::PolicyDenied);
    }
}
