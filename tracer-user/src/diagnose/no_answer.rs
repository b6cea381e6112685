//! `no-answer`: SYNs left this host, and nothing came back.

use crate::case::Case;
use crate::diagnose::coverage::Observation;
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, copies, narration, programs, remote_refused, surface, wording};
use crate::event::Surface;
use crate::verdict::{Code, Confidence};

pub(super) fn no_answer(case: &Case) -> Option<Finding> {
    let target = addresses::target(case)?;
    let silent = evidence::ended_in_silence(case) && !addresses::is_on_this_host(case);
    if !silent || anything_heard(case) {
        return None;
    }
    let namesakes = !addresses::namesakes(case).is_empty();
    if namesakes && !evidence::refusals_are_seen(case) {
        return None;
    }
    let sent_again = evidence::retransmission_count(case);
    let all_left = evidence::retransmissions(case).all(|error| error == 0);
    // Where nginx says nothing and its time was not over it is most likely the client as well.
    let client_left = matches!(surface::surface(case), Surface::ClientAbort | Surface::None);
    if !all_left {
        return None;
    }
    let known_to_leave = evidence::retransmissions(case).next().is_some();
    let left_early = client_left && sent_again == 0;
    let confidence = match (known_to_leave, client_left) {
        (true, false) if !namesakes => Confidence::Certain,
        _ if left_early => Confidence::Possible,
        // Where this host translates to an address of its own, that is hardly by chance.
        _ if namesakes && addresses::translated_to(case).is_some() => Confidence::Possible,
        _ => Confidence::Probable,
    };
    let tries = match sent_again {
        0 => "the SYN".to_owned(),
        more => format!("{} SYNs", more.saturating_add(1)),
    };
    let unseen = programs::of_xdp(case, case.worker.netns, |mode| mode != "generic");
    let confidence = match unseen.is_empty() && copies::freed(case).is_none() {
        true => confidence,
        false => confidence.min(Confidence::Probable),
    };
    let found = finding(case, confidence, &format!("{tries} to {target}"));
    Some(copies::set_aside(case, found).fix(wording::in_namespace(
        case,
        case.worker.netns,
        &format!("traceroute -T -p {} {}", target.port(), target.ip()),
    ))
    .fix(format!("on {}: tcpdump -ni any 'tcp port {}', to see whether the SYN arrives", target.ip(), target.port()))
    .when(left_early, |finding| {
        let who = match surface::surface(case) {
            Surface::ClientAbort => "nginx's client left",
            _ => "nginx closed the socket",
        };
        finding.missing(format!("time: {who} before a second SYN was due, and the target may only have been slow"))
    })
    .when(sent_again == 0 && !left_early, |finding| {
        finding.missing("a second SYN, whose sending tells whether it left: nginx gave up before it was due")
    })
    .when(copies::freed(case).is_some(), |finding| {
        finding.missing("whether what was freed was a copy: of the packet itself it would be a drop on this host")
    })
    .when(namesakes, |finding| {
        finding.because(remote_refused::address_owners(case, target.ip()))
    })
    .with(unseen.first(), |finding, program| {
        finding.missing(format!(
            "whether the {} took the answer in: what XDP drops in a driver leaves no trace",
            programs::words(program)
        ))
    })
    .with(narration::translation(case), Finding::because))
}

fn finding(case: &Case, confidence: Confidence, syns: &str) -> Finding {
    Finding::new(
        Code::NoAnswer,
        confidence,
        format!("{syns} left this host and nothing came back"),
    )
    .because(if copies::freed(case).is_none() {
        "nothing on this host was seen to drop a packet of this attempt, and no reset or ICMP error was seen to arrive"
    } else {
        "no reset or ICMP error was seen to arrive"
    })
    .with(case.host.neighbour.as_ref(), |finding, neighbour| {
        finding.because(format!(
            "the next hop {} on {} is {} in the neighbour table",
            neighbour.address, neighbour.device, neighbour.state
        ))
    })
    .relies_on(&[
        Observation::PacketDrop,
        Observation::ResetReceived,
        Observation::IcmpReceived,
        Observation::SynRetransmission,
    ])
    .rule_out(
        Code::FirewallDrop,
        "netfilter was not seen to free a packet of this attempt on this host",
    )
    .rule_out(
        Code::NeighbourUnreachable,
        "no SYN waited for a neighbour's address",
    )
    .rule_out(Code::RemoteRefused, "a refusal would have come back as a reset")
    .missing("what happened beyond this host: a firewall that drops, a host that is down behind a router, or a lost way back")
}

fn anything_heard(case: &Case) -> bool {
    evidence::reset_received(case) || evidence::refusal(case).is_some()
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn silence_from_afar_is_told_from_silence_of_this_host() {
        let mut case = silent("203.0.113.7:9101", 2000);
        case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoAnswer, Confidence::Certain)
        );
        case.host.owners = vec![OTHER];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoAnswer, Confidence::Probable)
        );
        case.host.far_end = Some(OTHER);
        assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    }

    #[test]
    fn a_syn_that_did_not_leave_is_not_unanswered() {
        let mut case = silent("203.0.113.7:9101", 2000);
        case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(-1) })];
        assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    }

    #[test]
    fn a_client_that_leaves_at_once_proves_nothing() {
        let mut case = silent("203.0.113.7:9101", 80);
        case.attempt.connect_timeout_ms = Some(60_000);
        case.timeline = vec![observed(79_990, Fact::ClientClosed { client: None })];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoAnswer, Confidence::Possible)
        );
        case.attempt.connect_timeout_ms = Some(80);
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoAnswer, Confidence::Probable)
        );
    }
}
