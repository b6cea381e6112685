//! `firewall-drop`: netfilter on this host swallowed the SYN or the answer to it.

use crate::case::{Action, Case, Family, Fitting};
use crate::diagnose::coverage::Observation;
use crate::diagnose::evidence::{self, Dropper, FilterDrop, rejects};
use crate::diagnose::finding::Finding;
use crate::diagnose::firewall::{self, Did, Incident, Suspects};
use crate::diagnose::sent_again;
use crate::verdict::{Code, Confidence};

mod neighbour;

pub(super) use neighbour::neighbour_filtered;

/// `tcp_v6_err` keeps an ICMP error soft until the SYN is sent again, which is after one second.
const FIRST_RETRANSMISSION_NS: u64 = 1_000_000_000;

pub(super) fn firewall_drop(case: &Case) -> Option<Finding> {
    if !evidence::ended_in_silence(case) {
        return None;
    }
    let dropped = evidence::filter_drops(case).next_back()?;
    let incident = dropped.incident(match dropped.by {
        Dropper::Verdict => Did::Dropped,
        Dropper::UnreadQueue | Dropper::Reader => Did::Queued,
    });
    let suspects = suspects(case, &incident);
    let sure = suspects
        .only()
        .is_some_and(|only| only.action == Action::Drop);
    let finding = firewall::finding(
        case,
        Code::FirewallDrop,
        &incident,
        &suspects,
        &what(dropped),
    )
    .rule_out(
        Code::NoAnswer,
        "the packet was dropped on this host, and the kernel says by what",
    )
    .when(suspects.fitting.iter().all(|fitting| !rejects(fitting)), |finding| {
        finding.rule_out(
            Code::FirewallReject,
            "nothing was sent back to nginx: no reset and no ICMP error",
        )
    })
    .when(refused_behind(case), |finding| {
        finding.because("nothing listens there either: the kernel had answered the SYN with a reset, which was dropped on its way back")
    })
    .when(dropped.by == Dropper::UnreadQueue && suspects.fitting.is_empty(), |finding| {
        finding.fix("start the program that reads the NFQUEUE, or add --queue-bypass to the rule")
    });
    let finding = match dropped.answer {
        true => finding,
        false => sent_again::sent_on_since(case, dropped.at, finding),
    };
    Some(if maybe_soft(case) && !sure {
        finding.relies_on(&[Observation::IcmpReceived])
    } else {
        finding
    })
}

/// Rules that drop, and those that reject where their answer can have failed to be sent or seen.
/// What rejects an answer to nginx answers the other side: to nginx that is a drop.
fn suspects<'c>(case: &'c Case, incident: &Incident) -> Suspects<'c> {
    if incident.did != Did::Dropped {
        return Suspects::of(case, incident);
    }
    let stops = |fitting: &Fitting| match fitting.action {
        Action::Drop | Action::Other { .. } => true,
        _ => rejects(fitting) && (incident.answer || evidence::may_reject_unheard(case, fitting)),
    };
    Suspects::that(case, incident, stops)
}

fn what(dropped: FilterDrop) -> String {
    let packet = if dropped.answer {
        format!("the answer of {}", dropped.segment.from)
    } else {
        format!("the SYN to {}", dropped.segment.to)
    };
    match dropped.by {
        Dropper::Verdict => format!("dropped {packet}"),
        Dropper::UnreadQueue => {
            format!("queued {packet} for a program that does not read, and so dropped it")
        }
        Dropper::Reader => format!("queued {packet} for a program, which had it dropped"),
    }
}

fn refused_behind(case: &Case) -> bool {
    evidence::refusal(case).is_some_and(|refusal| refusal.confidence >= Confidence::Probable)
}

/// Whether a rejection could look like this drop.
fn maybe_soft(case: &Case) -> bool {
    case.attempt.family == Family::Ipv6 && evidence::duration(case) < FIRST_RETRANSMISSION_NS
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_netfilter_drop_is_told_from_another_drop() {
        let mut case = silent("10.99.1.2:9101", 3000);
        case.timeline = vec![observed(
            25,
            drop_of("10.99.1.2:9101", OWN, "NETFILTER_DROP", Some(Hook::Output)),
        )];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::FirewallDrop, Confidence::Certain)
        );
        case.timeline = vec![observed(
            25,
            drop_of("10.99.1.2:9101", OWN, "TC_EGRESS", None),
        )];
        assert_eq!(diagnose(&case).verdict.code, Code::PacketDropped);
    }

    #[test]
    fn a_reset_dropped_on_its_way_back_is_the_firewall_and_says_that_the_port_is_closed() {
        let mut case = refused("10.99.1.2:9101", OTHER);
        case.attempt.ending = Ending::GaveUp;
        case.attempt.ended = START + 3 * SECOND;
        case.attempt.connect_timeout_ms = Some(3000);
        case.timeline.pop();
        case.timeline.push(observed(
            40,
            answer_drop("10.99.1.2:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
        ));
        let verdict = diagnose(&case).verdict;
        assert_eq!(verdict.code, Code::FirewallDrop);
        assert!(
            verdict
                .because
                .iter()
                .any(|words| words.contains("nothing listens there either"))
        );
    }

    #[test]
    fn a_short_ipv6_drop_that_could_be_a_rejection_is_not_certain() {
        let mut case = silent("[::1]:9101", 500);
        case.timeline = vec![observed(
            25,
            drop_of("[::1]:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
        )];
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Certain);
        case.coverage.unavailable = vec!["icmp-received".to_owned()];
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Probable);
    }

    #[test]
    fn an_answer_that_is_dropped_after_nginx_gave_up_is_no_cause() {
        let mut case = silent("203.0.113.7:9101", 2000);
        case.timeline = vec![
            observed(1_000_000, Fact::Retransmitted { error: Some(0) }),
            observed(
                2_010_000,
                answer_drop("203.0.113.7:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
            ),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::NoAnswer);
        let mut reset = drop_of("203.0.113.7:9101", OWN, "NETFILTER_DROP", None);
        if let Fact::Dropped { segment, .. } = &mut reset {
            segment.flags = 0x04;
        }
        case.timeline.push(observed(2_010_001, reset));
        assert_eq!(diagnose(&case).verdict.code, Code::NoAnswer);
        case.timeline[1].at = case.attempt.ended;
        assert_eq!(diagnose(&case).verdict.code, Code::FirewallDrop);
    }

    #[test]
    fn a_wildcard_listener_does_not_listen_for_an_address_that_is_not_at_home_there() {
        let mut case = silent("10.96.0.10:80", 3000);
        case.timeline = vec![observed(
            25,
            drop_of("10.96.0.10:80", OWN, "NETFILTER_DROP", Some(Hook::Output)),
        )];
        case.host.listeners = vec![listener("0.0.0.0:80", OWN, "nginx")];
        assert_eq!(diagnose(&case).listener, None);
        case.host.owners = vec![OWN];
        assert_eq!(diagnose(&case).listener, case.host.listeners.pop());
    }
}
