//! `firewall-drop` of a packet that is not nginx's: without ARP or neighbour discovery the SYN
//! never leaves.

use crate::case::Case;
use crate::diagnose::coverage::Observation;
use crate::diagnose::finding::Finding;
use crate::diagnose::neighbours::{self, Starved};
use crate::diagnose::{addresses, evidence, firewall, neighbour_unreachable, wording};
use crate::verdict::{Code, Confidence};

/// A neighbour was not found, and this host's own filter had dropped what was to find it.
pub(in crate::diagnose) fn neighbour_filtered(case: &Case) -> Option<Finding> {
    match neighbours::of_next_hop(case) {
        Some(starved) if neighbour_unreachable::is_unresolved(case) => Some(finding(
            case,
            starved,
            confidence(case, starved),
            &format!(
                "the SYN to {} could not leave for {}",
                wording::dialled(case),
                starved.wanted
            ),
        )),
        _ => answer_starved(case),
    }
}

/// The SYN left, and whoever was to answer it, on this host, could not find nginx's own address.
/// From elsewhere nothing tells that the answer waits for it: most learn it with the SYN.
fn answer_starved(case: &Case) -> Option<Finding> {
    let starved = neighbours::of_nginx(case)?;
    let quiet = evidence::ended_in_silence(case) && evidence::filter_drops(case).next().is_none();
    let during = starved.at >= case.attempt.started;
    let stuck = evidence::neighbour_drop(case).is_some_and(|(_, answer)| answer);
    let here = addresses::is_on_this_host(case) && !neighbour_unreachable::is_unresolved(case);
    if !(stuck || quiet && during && here) {
        return None;
    }
    let confidence = if stuck {
        Confidence::Certain
    } else {
        Confidence::Probable
    };
    let consequence = format!(
        "the answer of {} could not leave for {}",
        wording::dialled(case),
        starved.wanted
    );
    Some(
        finding(case, starved, confidence, &consequence).when(!stuck, |finding| {
            finding.missing("whether the answer waited for that address: it was not seen")
        }),
    )
}

fn confidence(case: &Case, starved: Starved) -> Confidence {
    if starved.at >= case.attempt.started {
        Confidence::Certain
    } else {
        Confidence::Probable
    }
}

fn finding(case: &Case, starved: Starved, confidence: Confidence, consequence: &str) -> Finding {
    let on_the_way = starved.is_on_the_way(case);
    let confidence = match on_the_way {
        true => confidence,
        false => confidence.min(Confidence::Probable),
    };
    firewall::starved(case, &starved, confidence, consequence)
        .when(!on_the_way, |finding| {
            finding.missing("whether that namespace lies on the way: the addresses are the same, and may be in use elsewhere as well")
        })
        .relies_on(&[Observation::PacketDrop])
        .when(starved.answer, |finding| {
            finding.because(format!(
                "{} is there: it answered, and its answer was dropped",
                starved.wanted
            ))
        })
        .when(!starved.answer, |finding| {
            finding.missing(format!(
                "whether {} would answer: the question did not reach it",
                starved.wanted
            ))
        })
        .rule_out(
            Code::NeighbourUnreachable,
            "the neighbour's silence is this host's own doing",
        )
        .rule_out(Code::NoAnswer, "the packet was dropped on this host")
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    const SYN_WAITS: Fact = Fact::Retransmitted { error: Some(-16) };

    fn arp_drop(wanted: &str, answer: bool) -> Fact {
        Fact::NeighbourPacketDropped {
            netns: OWN,
            hook: Some(Hook::Output),
            wanted: wanted.parse().expect("an address"),
            asker: None,
            answer,
            circumstances: Circumstances::default(),
        }
    }

    #[test]
    fn a_filter_that_eats_arp_is_told_from_a_neighbour_that_is_gone() {
        let mut case = silent("10.99.1.2:9101", 2000);
        case.host.neighbour = Some(neighbour("10.99.1.2", "incomplete"));
        case.timeline = vec![
            observed(30, arp_drop("10.99.1.2", false)),
            observed(1_000_000, SYN_WAITS),
        ];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::FirewallDrop, Confidence::Certain)
        );
        assert!(verdict.summary.contains("ARP request for 10.99.1.2"));
        assert!(verdict.summary.contains("output hook"));
        case.timeline[0] = observed(30, arp_drop("10.99.1.77", false));
        assert_eq!(diagnose(&case).verdict.code, Code::NeighbourUnreachable);
    }

    #[test]
    fn arp_that_was_dropped_for_a_neighbour_that_is_known_explains_nothing() {
        let mut case = silent("10.99.1.2:9101", 2000);
        case.host.neighbour = Some(neighbour("10.99.1.2", "reachable"));
        case.timeline = vec![
            observed(30, arp_drop("10.99.1.2", true)),
            observed(1_000_000, Fact::Retransmitted { error: Some(0) }),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::NoAnswer);
    }

    fn filtering(neighbour: Option<&str>, position: u32) -> Filtering {
        let fitting = Fitting {
            backend: Backend::Nft,
            family: FilterFamily::Arp,
            table: "lab".to_owned(),
            chain: "c".to_owned(),
            base_chain: "c".to_owned(),
            handle: Some(position.into()),
            position: Some(position),
            action: Action::Drop,
            text: "arp operation request drop".to_owned(),
            comment: None,
            certain: true,
            counted: None,
            never_met: false,
            leads_to: Vec::new(),
        };
        Filtering {
            netns: OWN,
            hook: Hook::Output,
            answer: false,
            neighbour: neighbour.map(|address| address.parse().expect("an address")),
            purpose: Purpose::Stopped,
            fitting: vec![fitting],
            doubts: Vec::new(),
            changed: false,
            unread: Vec::new(),
            known_by: KnownBy::Evaluation,
            disagreement: None,
        }
    }

    #[test]
    fn the_rule_is_that_of_the_packet_and_not_one_for_nginx_s_own() {
        let mut case = silent("10.99.1.2:9101", 2000);
        case.host.neighbour = Some(neighbour("10.99.1.2", "incomplete"));
        case.timeline = vec![
            observed(30, arp_drop("10.99.1.2", false)),
            observed(1_000_000, SYN_WAITS),
        ];
        case.host.filterings = vec![
            filtering(None, 4),
            filtering(Some("10.99.1.77"), 5),
            filtering(Some("10.99.1.2"), 6),
        ];
        let diagnosis = diagnose(&case);
        let rule = diagnosis.rule.expect("a rule");
        assert_eq!((rule.handle, rule.alternatives.len()), (Some(6), 0));
        let fix = &diagnosis.verdict.fix;
        assert!(fix[0].ends_with(
            "nft insert rule arp lab c handle 6 arp operation request arp daddr ip 10.99.1.2 accept"
        ));
        case.host.filterings.pop();
        assert_eq!(diagnose(&case).rule, None);
    }

    #[test]
    fn nginx_s_own_namespace_comes_first_and_a_stranger_s_is_not_certain() {
        let elsewhere = |wanted| match arp_drop(wanted, false) {
            Fact::NeighbourPacketDropped {
                hook,
                wanted,
                asker,
                answer,
                circumstances,
                ..
            } => Fact::NeighbourPacketDropped {
                netns: OTHER,
                hook,
                wanted,
                asker,
                answer,
                circumstances,
            },
            other => other,
        };
        let mut case = silent("10.99.1.2:9101", 2000);
        case.host.neighbour = Some(neighbour("10.99.1.2", "incomplete"));
        case.timeline = vec![
            observed(30, arp_drop("10.99.1.2", false)),
            observed(40, elsewhere("10.99.1.2")),
            observed(1_000_000, SYN_WAITS),
        ];
        let verdict = diagnose(&case).verdict;
        assert_eq!(verdict.confidence, Confidence::Certain);
        assert!(verdict.summary.contains("nginx's network namespace"));
        case.timeline.remove(0);
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::FirewallDrop, Confidence::Probable)
        );
        case.host.far_end = Some(OTHER);
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Certain);
    }
}
