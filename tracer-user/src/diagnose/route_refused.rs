//! `route-refused`: this host's routing refused, before any packet was made or on a packet's way
//! through a namespace.

mod removal;

use std::net::{IpAddr, SocketAddr};

use self::removal::{deletion, family_option, refuses};
use crate::case::{Case, Ending, Netns, Route, Segment};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn route_refused(case: &Case) -> Option<Finding> {
    let Ending::ConnectFailed { errno, .. } = case.attempt.ending else {
        return None;
    };
    let address = addresses::dialled(case)?;
    if !refuses_so(errno) {
        return None;
    }
    refused_by_address(case, address, errno)
        .or_else(|| refused_by_route(case, address, errno))
        .map(|finding| finished(case, address, finding))
}

/// Routing refused a packet of the attempt on its way through `netns`, where it had arrived by
/// some device.
pub(super) fn in_passing(case: &Case, netns: Netns, segment: Segment, answer: bool) -> Finding {
    let place = wording::namespace(case, netns);
    let packet = if answer {
        "the answer of"
    } else {
        "the SYN to"
    };
    let (from, to) = (segment.from.ip(), segment.to.ip());
    let family = family_option(segment.to);
    let ask = format!("ip {family}route get {to} from {from} iif <device>");
    let finding = Finding::new(
        Code::RouteRefused,
        Confidence::Certain,
        format!(
            "the routing of {place} refuses {to}: {packet} {} was dropped there",
            wording::dialled(case)
        ),
    )
    .because("the kernel's input routing freed the packet, as it does for a blackhole, unreachable or prohibit route or rule; no ICMP error about it reached nginx")
    .rule_out(
        Code::FirewallDrop,
        "routing freed the packet, not netfilter",
    )
    .rule_out(Code::NoAnswer, "the packet was dropped on this host")
    .missing("which route or rule it was: the evidence names the place, not the line")
    .fix(wording::in_namespace(case, netns, &ask));
    ["blackhole", "unreachable", "prohibit"]
        .iter()
        .map(|kind| format!("ip {family}route show table all type {kind}"))
        .chain([format!("ip {family}rule")])
        .fold(finding, |finding, command| {
            finding.fix(wording::in_namespace(case, netns, &command))
        })
}

/// The error numbers that `ip_route_connect`, `ip6_dst_lookup_flow` and the checks around them
/// give; EPERM and ECONNREFUSED are never among them.
fn refuses_so(errno: i32) -> bool {
    matches!(
        errno,
        libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EACCES
            | libc::EINVAL
            | libc::EADDRNOTAVAIL
            | libc::ENETDOWN
    )
}

/// Addresses that TCP refuses whatever the routes are.
fn refused_by_address(case: &Case, address: SocketAddr, errno: i32) -> Option<Finding> {
    let ip = address.ip();
    let why = match (address, errno) {
        (SocketAddr::V6(v6), libc::EINVAL)
            if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 =>
        {
            format!("{ip} is link-local and nothing says by which interface it is meant")
        }
        (_, libc::ENETUNREACH) if ip.is_multicast() => {
            format!("{ip} is a multicast address, and TCP connects to unicast alone")
        }
        (_, libc::ENETUNREACH) if is_broadcast(case, ip) => {
            format!("{ip} is a broadcast address, and TCP connects to unicast alone")
        }
        _ => return None,
    };
    Some(
        Finding::new(
            Code::RouteRefused,
            Confidence::Certain,
            format!("the kernel refuses to dial {address}: {why}"),
        )
        .fix("nginx.conf: correct the server address of this upstream"),
    )
}

fn refused_by_route(case: &Case, address: SocketAddr, errno: i32) -> Option<Finding> {
    match &case.host.route {
        Some(route) if route_errno(route) == Some(errno) => Some(agreed(case, address, route)),
        Some(route) if errno == libc::EADDRNOTAVAIL && address.is_ipv6() => {
            Some(no_source(case, address, route.error.is_some() || route.source.is_none()))
        }
        Some(_) => None,
        None if errno == libc::EADDRNOTAVAIL => address.is_ipv6().then(|| no_source(case, address, false)),
        // A security module answers EACCES as readily as a route does.
        None if errno == libc::EACCES => None,
        None => Some(
            Finding::new(
                Code::RouteRefused,
                Confidence::Possible,
                format!(
                    "connect() to {address} returned {} before any packet was made, as routing does",
                    wording::errno_name(errno)
                ),
            )
            .missing("the kernel's answer to a route request for this address: it would tell routing from a cgroup program")
        ),
    }
}

/// The route request gave the same error number as connect().
fn agreed(case: &Case, address: SocketAddr, route: &Route) -> Finding {
    let refusing = route.line.as_deref().filter(|_| refuses(route));
    let what = match (refusing, route.by_rule) {
        (Some(line), true) => format!("the policy rule `{line}` refuses it"),
        (Some(line), false) => format!("the route `{line}` refuses it"),
        (None, _) if route.link_up == Some(false) => link_down(route),
        (None, _) => no_line(route),
    };
    Finding::new(
        Code::RouteRefused,
        Confidence::Certain,
        format!("this host's routing refuses {}: {what}", address.ip()),
    )
    .because(format!(
        "the kernel answers a route request for {} with {}, as connect() did",
        address.ip(),
        route_errno(route).map_or_else(String::new, wording::errno_name)
    ))
    .when(route.link_up == Some(false), |finding| {
        finding.because(link_down(route))
    })
    .rule_out(
        Code::PolicyDenied,
        "a route request, which no policy on connect() touches, gets the same answer",
    )
    .with(refusing, |finding, line| {
        finding.fix(deletion(case, address, route, line))
    })
    .when(route.link_up == Some(false), |finding| {
        finding.with(route.device.as_deref(), |finding, device| {
            finding.fix(wording::in_namespace(
                case,
                case.worker.netns,
                &format!("ip link set {} up", wording::shell_word(device)),
            ))
        })
    })
}

/// `ipv6_dev_get_saddr` found no source address: IPv6 is disabled, or no address is configured.
fn no_source(case: &Case, address: SocketAddr, confirmed: bool) -> Finding {
    let confidence = if confirmed {
        Confidence::Certain
    } else {
        Confidence::Probable
    };
    Finding::new(
        Code::RouteRefused,
        confidence,
        format!("this host has no IPv6 address to dial {address} from: IPv6 is disabled or not configured here"),
    )
    .because("EADDRNOTAVAIL came before SYN_SENT: no source address, rather than no free port")
    .rule_out(
        Code::PortsExhausted,
        "the search for a local port begins after SYN_SENT, which was not reached",
    )
    .fix(wording::in_namespace(case, case.worker.netns, "sysctl net.ipv6.conf.all.disable_ipv6 net.ipv6.conf.lo.disable_ipv6"))
    .fix("nginx.conf: dial the IPv4 address, or `resolver … ipv6=off;` where the name is resolved at run time")
}

fn finished(case: &Case, address: SocketAddr, finding: Finding) -> Finding {
    let uid = case
        .worker
        .uid
        .map_or_else(String::new, |uid| format!(" uid {uid}"));
    let command = format!(
        "ip {}route get {}{uid}",
        family_option(address),
        address.ip()
    );
    let command = wording::in_namespace(case, case.worker.netns, &command);
    finding.fix(command)
}

/// The error number that a route answer stands for (`fib_props`, `tcp_v4_connect`).
fn route_errno(route: &Route) -> Option<i32> {
    let by_kind = match route.kind.as_deref() {
        Some("unreachable") if route.by_rule => Some(libc::ENETUNREACH),
        Some("unreachable") => Some(libc::EHOSTUNREACH),
        Some("prohibit") => Some(libc::EACCES),
        Some("blackhole") => Some(libc::EINVAL),
        Some("throw" | "broadcast" | "multicast") => Some(libc::ENETUNREACH),
        _ => None,
    };
    route.error.or(by_kind)
}

fn is_broadcast(case: &Case, ip: IpAddr) -> bool {
    let by_route = case
        .host
        .route
        .as_ref()
        .is_some_and(|route| route.kind.as_deref() == Some("broadcast"));
    by_route || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

fn link_down(route: &Route) -> String {
    let device = route.device.as_deref().unwrap_or("its device");
    format!("the link of {device} is down")
}

fn no_line(route: &Route) -> String {
    match route_errno(route) {
        Some(libc::ENETUNREACH) => "no route leads there".to_owned(),
        Some(errno) => format!("it answers {}", wording::errno_name(errno)),
        None => "no reason is given".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_route_that_refuses_is_told_from_a_policy_with_the_same_error() {
        let ending = Ending::ConnectFailed {
            errno: libc::EHOSTUNREACH,
            reached_syn_sent: false,
        };
        let mut case = case("10.99.1.2:9101", ending);
        case.host.route = Some(route(
            Some(libc::EHOSTUNREACH),
            "unreachable",
            Some("unreachable 10.99.1.0/24"),
        ));
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::RouteRefused, Confidence::Certain)
        );
        case.host.route = Some(route(None, "unicast", None));
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::PolicyDenied, Confidence::Possible)
        );
    }

    #[test]
    fn a_denied_call_without_a_route_answer_stays_open() {
        let ending = Ending::ConnectFailed {
            errno: libc::EACCES,
            reached_syn_sent: false,
        };
        let verdict = diagnose(&case("10.99.1.2:9101", ending)).verdict;
        assert_eq!(verdict.code, Code::Undetermined);
        assert!(
            verdict.missing[0].contains("route request"),
            "{:?}",
            verdict.missing
        );
    }

    #[test]
    fn a_link_local_address_needs_its_scope() {
        let ending = Ending::ConnectFailed {
            errno: libc::EINVAL,
            reached_syn_sent: false,
        };
        let mut case = case("[fe80::1]:9101", ending);
        case.host.route = Some(route(None, "unicast", None));
        assert_eq!(diagnose(&case).verdict.code, Code::RouteRefused);
        case.attempt.dialled = Some(Endpoint::Inet(address("[fe80::1%2]:9101")));
        assert_eq!(diagnose(&case).verdict.code, Code::PolicyDenied);
    }
}
