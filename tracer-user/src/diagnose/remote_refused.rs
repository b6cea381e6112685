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
