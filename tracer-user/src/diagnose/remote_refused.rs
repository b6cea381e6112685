//! `remote-refused`: a reset came from off this host.

use std::net::IpAddr;

use crate::case::Case;
use crate::diagnose::coverage::Observation;
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, narration, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn remote_refused(case: &Case) -> Option<Finding> {
    let refused = evidence::answered_errno(case) == Some(libc::ECONNREFUSED);
    if !refused || evidence::refusal(case).is_some() || addresses::is_on_this_host(case) {
        return None;
    }
    let target = addresses::target(case)?;
    let confidence = confidence(case);
    Some(
        Finding::new(
            Code::RemoteRefused,
            confidence,
            format!(
                "{} answered the SYN with a reset, from off this host: nothing listens on port {} there, or a firewall in between refused",
                target.ip(),
                target.port()
            ),
        )
        .with(narration::translation(case), Finding::because)
        .because(address_owners(case, target.ip()))
        .because("no TCP stack of this host was seen to send a reset for this attempt, and netfilter was not seen to free a packet of it")
        .with(distance(case, target.ip()), Finding::because)
        .relies_on(&[
            Observation::ResetReceived,
            Observation::ResetSent,
            Observation::PacketDrop,
        ])
        .rule_out(Code::NoListener, "no TCP stack of this host was seen to refuse the SYN")
        .rule_out(
            Code::FirewallReject,
            "netfilter was not seen to free a packet of this attempt on this host",
        )
        .rule_out(
            Code::RouteRefused,
            "the SYN left: a reset came back for it",
        )
        .missing("whether the target's own TCP sent the reset or something in between forged it")
        .fix(format!("on {}: ss -ltnp 'sport = :{}'", target.ip(), target.port()))
        .fix(format!("on {} and on the firewalls in between: look for a rule that rejects with tcp reset", target.ip())),
    )
}

/// What the time to live of the reset says about where it was made, and no more than that: who
/// forges a reset may choose it.
fn distance(case: &Case, target: IpAddr) -> Option<String> {
    let ttl = evidence::ttl_of_reset(case)?;
    let name = if target.is_ipv4() { "TTL" } else { "hop limit" };
    // What systems begin with.
    let initial = [64, 128, 255].into_iter().find(|initial| ttl <= *initial)?;
    let routers = initial - ttl;
    let gateway = case.host.route.as_ref().and_then(|route| route.gateway);
    let routed = case.host.route.as_ref().is_some_and(|it| it.kind.is_some());
    Some(match (gateway, routers) {
        (None, _) if !routed => format!("the reset arrived with {name} {ttl}"),
        (None, 0) => format!(
            "the reset arrived with {name} {ttl}, which no router had lowered, as fits {target}: the route leads there without a gateway"
        ),
        (None, more) => format!(
            "the reset arrived with {name} {ttl}, {more} below the usual {initial}, yet the route leads to {target} without a gateway: something further away may have made it"
        ),
        (Some(gateway), 0) => format!(
            "the reset arrived with {name} {ttl}, which no router had lowered, yet the way to {target} is by the gateway {gateway}: that gateway or something before it may have made it"
        ),
        (Some(gateway), more) => format!(
            "the reset arrived with {name} {ttl}, {more} below the usual {initial}; the way to {target} is by the gateway {gateway}, so that it may have come from there or from anything that many routers away"
        ),
    })
}

/// Which namespaces of this host have the target's address, in words.
pub(super) fn address_owners(case: &Case, ip: IpAddr) -> String {
    match addresses::namesakes(case)[..] {
        [] => format!("no network namespace of this host owns {ip}"),
        [one] => format!(
            "{} has the address {ip} too, but nothing tells that the route leads there, and no packet of this attempt was seen there",
            wording::namespace(case, one)
        ),
        ref several => format!(
            "{} network namespaces of this host have the address {ip} too, but nothing tells that the route leads to one of them, and no packet of this attempt was seen there",
            several.len()
        ),
    }
}

fn confidence(case: &Case) -> Confidence {
    if evidence::reset_received(case) && addresses::namesakes(case).is_empty() {
        Confidence::Certain
    } else {
        Confidence::Probable
    }
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_reset_from_afar_is_told_from_one_of_this_host() {
        let verdict = diagnose(&refused_from_afar("203.0.113.7:9101")).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::RemoteRefused, Confidence::Certain)
        );
        let mut here = refused_from_afar("203.0.113.7:9101");
        here.host.owners = vec![OTHER];
        here.host.far_end = Some(OTHER);
        let verdict = diagnose(&here).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoListener, Confidence::Possible)
        );
    }

    #[test]
    fn a_reset_that_passed_no_router_is_told_from_one_that_came_from_afar() {
        let mut case = refused_from_afar("203.0.113.7:9101");
        let reset = |ttl| {
            let mut fact = answer_drop("203.0.113.7:9101", OWN, "TCP_RESET", None);
            if let Fact::Dropped { circumstances, .. } = &mut fact {
                *circumstances = Some(Circumstances {
                    ttl,
                    ..Circumstances::default()
                });
            }
            observed(41, fact)
        };
        let mut route = route(None, "unicast", None);
        route.gateway = Some("10.0.0.254".parse().expect("an address"));
        case.host.route = Some(route);
        let told = |case: &Case| diagnose(case).verdict.because.join("; ");
        case.timeline.push(reset(64));
        assert!(told(&case).contains("TTL 64, which no router had lowered, yet"));
        case.timeline.pop();
        case.timeline.push(reset(57));
        assert!(told(&case).contains("TTL 57, 7 below the usual 64"));
        assert_eq!(diagnose(&case).verdict.code, Code::RemoteRefused);
        case.timeline.pop();
        assert!(!told(&case).contains("TTL"));
    }

    #[test]
    fn a_namespace_that_has_the_same_address_by_chance_refuses_nothing() {
        let mut case = refused_from_afar("10.99.9.2:9101");
        case.host.owners = vec![OTHER];
        case.host.listeners = vec![listener("10.99.9.2:9101", OTHER, "stranger")];
        let diagnosis = diagnose(&case);
        assert_eq!(
            (diagnosis.verdict.code, diagnosis.verdict.confidence),
            (Code::RemoteRefused, Confidence::Probable)
        );
        assert_eq!(diagnosis.listener, None);
        case.host.listeners.clear();
        case.coverage.unavailable = vec!["reset-sent".to_owned()];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoListener, Confidence::Possible)
        );
        assert!(
            verdict
                .missing
                .iter()
                .any(|words| words.contains("whether the SYN was sent to that namespace"))
        );
        case.host.listeners = vec![listener("127.0.0.1:9101", OTHER, "stranger")];
        let diagnosis = diagnose(&case);
        assert_eq!(diagnosis.verdict.confidence, Confidence::Possible);
        assert_eq!(diagnosis.listener, None);
    }

    #[test]
    fn what_could_not_be_seen_takes_the_certainty() {
        let mut case = refused_from_afar("203.0.113.7:9101");
        case.coverage.unavailable = vec!["packet-drop".to_owned()];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::RemoteRefused, Confidence::Probable)
        );
        assert!(
            verdict
                .missing
                .iter()
                .any(|words| words.contains("packet-drop"))
        );
    }
}
