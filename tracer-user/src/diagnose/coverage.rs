//! What could be observed, and how far its absence weakens a finding.

use crate::case::{Case, Coverage};
use crate::diagnose::finding::Finding;
use crate::verdict::{Code, Confidence};

/// The observations that diagnosis argues with, by the names in [`Coverage::unavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Observation {
    ResetReceived,
    ResetSent,
    PacketDrop,
    /// Why packets are dropped, in the kernel's own words.
    DropReason,
    IcmpSent,
    Icmpv6Sent,
    IcmpReceived,
    SynRetransmission,
    /// Sockets that begin and cease to listen, in any network namespace.
    ListenerChange,
    /// What the security modules answer to `connect()`.
    SecurityAnswer,
}

impl Observation {
    pub const ALL: [Observation; 10] = [
        Observation::ResetReceived,
        Observation::ResetSent,
        Observation::PacketDrop,
        Observation::DropReason,
        Observation::IcmpSent,
        Observation::Icmpv6Sent,
        Observation::IcmpReceived,
        Observation::SynRetransmission,
        Observation::ListenerChange,
        Observation::SecurityAnswer,
    ];

    /// ICMP errors that this host sends in that family.
    pub const fn icmp_sent(v6: bool) -> Self {
        if v6 {
            Observation::Icmpv6Sent
        } else {
            Observation::IcmpSent
        }
    }

    /// The name as it stands in [`Coverage::unavailable`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Observation::ResetReceived => "reset-received",
            Observation::ResetSent => "reset-sent",
            Observation::PacketDrop => "packet-drop",
            Observation::DropReason => "drop-reason",
            Observation::IcmpSent => "icmp-sent",
            Observation::Icmpv6Sent => "icmpv6-sent",
            Observation::IcmpReceived => "icmp-received",
            Observation::SynRetransmission => "syn-retransmission",
            Observation::ListenerChange => "socket-state",
            Observation::SecurityAnswer => "security-answer",
        }
    }

    const fn what_it_shows(self) -> &'static str {
        match self {
            Observation::ResetReceived => "resets that nginx's sockets receive",
            Observation::ResetSent => "resets that this host's TCP sends",
            Observation::PacketDrop => "packets that the kernel drops, and why",
            Observation::DropReason => "why packets are dropped",
            Observation::IcmpSent => "ICMP errors that this host sends",
            Observation::Icmpv6Sent => "ICMPv6 errors that this host sends",
            Observation::IcmpReceived => "ICMP errors that arrive",
            Observation::SynRetransmission => "SYNs sent again, and whether they left",
            Observation::ListenerChange => "sockets that begin and cease to listen",
            Observation::SecurityAnswer => "what security modules answer to connect()",
        }
    }
}

pub(super) fn is_unavailable(coverage: &Coverage, observation: Observation) -> bool {
    coverage
        .unavailable
        .iter()
        .any(|name| name == observation.as_str())
}

/// Whether the absence of these observations' records proves that nothing of the kind happened.
pub(super) fn silence_proves(coverage: &Coverage, observations: &[Observation]) -> bool {
    !coverage.lost_records
        && !observations
            .iter()
            .any(|observation| is_unavailable(coverage, *observation))
}

const NOBODY_KNOWN_BOUND: &str = "whether a process has bound the port without calling listen(): \
     such sockets could not be listed";

const END_LOST: &str = "whether a socket that listened there ended: the kernel's record of such \
     an end was lost, or was older than those that are kept";

const NEIGHBOURS_LOST: &str = "whether a packet filter of this host dropped the question or the \
     answer: such packets were dropped in greater numbers than are told";

/// Takes certainty from a finding that argues with what could not be observed, and says so.
pub(super) fn weaken(mut finding: Finding, case: &Case) -> Finding {
    let coverage = &case.coverage;
    if !case.host.unread.is_empty() {
        finding.confidence = finding.confidence.min(Confidence::Probable);
        let unread = case.host.unread.iter();
        finding
            .missing
            .extend(unread.map(|what| format!("unread: {what}")));
    }
    if finding.relies_on_nobody_bound && case.host.bound_unlisted {
        finding.confidence = finding.confidence.min(Confidence::Probable);
        finding.missing.push(NOBODY_KNOWN_BOUND.to_owned());
    }
    if finding.relies_on_nobody_bound && case.host.end_lost {
        finding.confidence = finding.confidence.min(Confidence::Probable);
        finding.missing.push(END_LOST.to_owned());
    }
    if finding.code == Code::NeighbourUnreachable && coverage.lost_neighbours {
        finding.confidence = finding.confidence.min(Confidence::Probable);
        finding.missing.push(NEIGHBOURS_LOST.to_owned());
    }
    for observation in finding.relies_on.clone() {
        if is_unavailable(coverage, observation) {
            finding.confidence = finding.confidence.min(Confidence::Probable);
            finding.missing.push(format!(
                "{}: this host gives no `{}` observation",
                observation.what_it_shows(),
                observation.as_str()
            ));
        }
    }
    if coverage.lost_records {
        finding.confidence = finding.confidence.min(Confidence::Probable);
        finding.missing.push(
            "records of the kernel were lost while the attempt was made; evidence may be incomplete"
                .to_owned(),
        );
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Ending, Fact};
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;

    #[test]
    fn what_could_not_be_read_takes_certainty_and_is_named() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.unread = vec!["listeners: permission denied".to_owned()];
        let verdict = diagnose(&case).verdict;
        assert_eq!(verdict.confidence, Confidence::Probable);
        assert!(
            verdict
                .missing
                .iter()
                .any(|words| words.contains("permission denied"))
        );
    }

    #[test]
    fn unlisted_bound_sockets_take_certainty_from_those_that_need_nobody_bound_alone() {
        let mut closed = refused("127.0.0.1:9101", OWN);
        let sure = diagnose(&closed).verdict;
        closed.host.bound_unlisted = true;
        let verdict = diagnose(&closed).verdict;
        assert_eq!(
            (sure.code, sure.confidence),
            (Code::NoListener, Confidence::Certain)
        );
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoListener, Confidence::Probable)
        );
        assert!(verdict.missing.iter().any(|m| m == NOBODY_KNOWN_BOUND));

        let ending = Ending::BindFailed {
            errno: libc::EADDRINUSE,
        };
        let mut other = case("127.0.0.1:9101", ending);
        let sure = diagnose(&other);
        other.host.bound_unlisted = true;
        assert_eq!(diagnose(&other), sure);
    }

    #[test]
    fn a_listener_that_may_have_ended_unnoticed_takes_certainty_and_is_named() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.end_lost = true;
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoListener, Confidence::Probable)
        );
        assert!(verdict.missing.iter().any(|m| m == END_LOST));
    }

    #[test]
    fn lost_packets_of_neighbours_take_certainty_from_a_silent_neighbour_alone() {
        let mut stuck = silent("10.99.1.2:9101", 2000);
        stuck.timeline = vec![observed(
            1_000_000,
            Fact::Retransmitted { error: Some(-16) },
        )];
        stuck.host.neighbour = Some(neighbour("10.99.1.2", "incomplete"));
        let sure = diagnose(&stuck).verdict;
        stuck.coverage.lost_neighbours = true;
        let verdict = diagnose(&stuck).verdict;
        assert_eq!(
            (sure.code, sure.confidence),
            (Code::NeighbourUnreachable, Confidence::Certain)
        );
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NeighbourUnreachable, Confidence::Probable)
        );
        assert!(verdict.missing.iter().any(|m| m == NEIGHBOURS_LOST));

        let mut closed = refused("127.0.0.1:9101", OWN);
        let sure = diagnose(&closed);
        closed.coverage.lost_neighbours = true;
        assert_eq!(diagnose(&closed), sure);
    }

    #[test]
    fn lost_records_take_certainty_and_are_named() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.coverage.lost_records = true;
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoListener, Confidence::Probable)
        );
        assert!(verdict.missing.iter().any(|words| words.contains("lost")));
    }

    #[test]
    fn names_of_observations_are_distinct() {
        for one in Observation::ALL {
            assert_eq!(
                Observation::ALL
                    .iter()
                    .filter(|other| other.as_str() == one.as_str())
                    .count(),
                1
            );
        }
    }
}
