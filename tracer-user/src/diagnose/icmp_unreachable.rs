//! `icmp-unreachable`: a router or the remote host answered with an ICMP error.

use std::net::IpAddr;

use crate::case::{Case, Fact, Icmp, Netns};
use crate::diagnose::coverage::{Observation, is_unavailable, silence_proves};
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, icmp, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn icmp_unreachable(case: &Case) -> Option<Finding> {
    let errno = evidence::answered_errno(case);
    if errno.is_none() && !evidence::ended_in_silence(case) {
        return None;
    }
    if evidence::reset_received(case) && errno == Some(libc::ECONNREFUSED) {
        return None;
    }
    let received = received(case);
    let sent = evidence::icmp_sent(case).next_back();
    let finding = match (received, sent) {
        (Some((from, icmp)), sent) => answered(case, Some(from), icmp, sent.map(|sent| sent.netns)),
        (None, Some(sent)) => answered(case, None, sent.icmp, Some(sent.netns)),
        (None, None) => only_errno(case, errno?)?,
    };
    Some(finding.when(errno.is_none(), |finding| {
        finding.because("the kernel kept the ICMP error as a soft one, so nginx did not hear of it: it looks like silence to nginx")
    }))
}

fn answered(case: &Case, from: Option<IpAddr>, icmp: Icmp, sender: Option<Netns>) -> Finding {
    let who = match (from, sender) {
        (Some(from), Some(netns)) => format!("{from} ({})", wording::namespace(case, netns)),
        (Some(from), None) => from.to_string(),
        (None, Some(netns)) => wording::namespace(case, netns),
        (None, None) => "an unknown sender".to_owned(),
    };
    let is_remote = from.is_some_and(|from| is_target(case, from));
    Finding::new(
        Code::IcmpUnreachable,
        Confidence::Certain,
        format!(
            "{who} answered the SYN to {} with {}",
            wording::dialled(case),
            icmp::words(icmp)
        ),
    )
    .because(if is_remote {
        "the target itself sent the ICMP error, not a router"
    } else {
        "a router on the way sent the ICMP error, not the target"
    })
    .when(icmp::only_filters_send(icmp), |finding| {
        finding.because(
            "no TCP stack answers a SYN with this error: a packet filter at the sender does",
        )
    })
    .rule_out(
        Code::RouteRefused,
        "this host's routing sent the SYN; the refusal came back as a packet",
    )
    .rule_out(
        Code::NeighbourUnreachable,
        "the neighbour of this host answered; the SYN left",
    )
    .rule_out(Code::NoAnswer, "an answer came, as an ICMP error")
    .when(sender.is_none(), |finding| {
        finding.missing("why the sender refused: it is not on this host")
    })
    .fix(advice(icmp, &who))
    .fix(trace(case))
}

fn is_target(case: &Case, from: IpAddr) -> bool {
    addresses::target(case).is_some_and(|target| target.ip().to_canonical() == from.to_canonical())
}

fn advice(icmp: Icmp, who: &str) -> String {
    match (icmp.v6, icmp.kind, icmp.code) {
        (false, 3, 0 | 6 | 11) | (true, 1, 0 | 6) => {
            format!("on {who}: is there a route to the target?")
        }
        (false, 3, 1 | 7 | 12) | (true, 1, 3) => {
            format!("on {who}: does the target answer ARP or ND there? is it up?")
        }
        (false, 11, _) | (true, 3, _) => {
            format!("look for a routing loop before {who}")
        }
        _ => format!(
            "on {who}: look for a firewall rule or a prohibit route that refuses this traffic"
        ),
    }
}

fn trace(case: &Case) -> String {
    let target = addresses::target(case);
    let ip = target.map_or_else(|| "<target>".to_owned(), |target| target.ip().to_string());
    let port = target.map_or(80, |target| target.port());
    wording::in_namespace(
        case,
        case.worker.netns,
        &format!("traceroute -T -p {port} {ip}"),
    )
}

/// Without the ICMP error itself: these error numbers reach SYN_SENT by ICMP alone.
fn only_errno(case: &Case, errno: i32) -> Option<Finding> {
    let by_icmp = matches!(
        errno,
        libc::ENETUNREACH
            | libc::EACCES
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EPROTO
    );
    let host_unreachable = errno == libc::EHOSTUNREACH;
    // `tcp_v4_err` and `tcp_v6_err` give this for an unreachable port, and else only a reset does.
    let without_reset = errno == libc::ECONNREFUSED
        && silence_proves(&case.coverage, &[Observation::ResetReceived]);
    let v6 = addresses::target(case).is_some_and(|to| to.ip().to_canonical().is_ipv6());
    let unseen = [Observation::IcmpReceived, Observation::icmp_sent(v6)]
        .iter()
        .any(|observation| is_unavailable(&case.coverage, *observation))
        || case.coverage.lost_records;
    if !by_icmp && !host_unreachable && !without_reset {
        return None;
    }
    let confidence = if by_icmp && unseen {
        Confidence::Probable
    } else {
        Confidence::Possible
    };
    Some(
        Finding::new(
            Code::IcmpUnreachable,
            confidence,
            format!(
                "an ICMP error answered the SYN to {}: nginx got {} while it waited",
                wording::dialled(case),
                wording::errno_name(errno)
            ),
        )
        .because(if without_reset {
            "nginx's socket received no reset, and without one only an ICMP error brings this error number"
        } else {
            "while a SYN waits for its answer, only an ICMP error brings this error number"
        })
        .missing("the ICMP error itself: its type, code and sender were not seen")
        .when(host_unreachable, |finding| {
            finding.missing("whether this host's own neighbour table gave the error: it does so after three seconds")
        })
        .fix(trace(case)),
    )
}

fn received(case: &Case) -> Option<(IpAddr, Icmp)> {
    case.timeline
        .iter()
        .rev()
        .find_map(|observed| match observed.fact {
            Fact::IcmpReceived { from, icmp } => icmp::errno(icmp).map(|_| (from, icmp)),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn an_answer_from_a_router_is_told_from_a_filter_of_this_host() {
        let mut case = case(
            "203.0.113.7:9101",
            Ending::SocketError {
                errno: libc::EHOSTUNREACH,
            },
        );
        case.timeline = vec![observed(90, icmp_received("198.51.100.1", 3, 10))];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::IcmpUnreachable, Confidence::Certain)
        );
        case.timeline.insert(
            0,
            observed(
                30,
                icmp_sent("203.0.113.7:9101", OTHER, 3, 10, Some(Hook::Forward)),
            ),
        );
        assert_eq!(diagnose(&case).verdict.code, Code::FirewallReject);
    }

    #[test]
    fn an_error_number_that_only_icmp_brings_is_evidence_where_icmp_cannot_be_seen() {
        let mut case = case(
            "[2001:db8::7]:9101",
            Ending::SocketError {
                errno: libc::EACCES,
            },
        );
        case.coverage.unavailable = vec!["icmp-received".to_owned()];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::IcmpUnreachable, Confidence::Probable)
        );
        case.coverage.unavailable.clear();
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Possible);
    }

    #[test]
    fn a_refusal_without_a_reset_came_by_icmp_unless_resets_cannot_be_seen() {
        let ending = Ending::SocketError {
            errno: libc::ECONNREFUSED,
        };
        let mut case = case("203.0.113.7:9101", ending);
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::IcmpUnreachable, Confidence::Possible)
        );
        case.coverage.unavailable = vec!["reset-received".to_owned()];
        assert_eq!(diagnose(&case).verdict.code, Code::RemoteRefused);
    }
}
