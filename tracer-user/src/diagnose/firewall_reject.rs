//! `firewall-reject`: netfilter on this host answered the SYN with a reset or an ICMP error.

use crate::case::{Case, Fact};
use crate::diagnose::evidence::{self, FilterDrop, IcmpSent};
use crate::diagnose::finding::Finding;
use crate::diagnose::firewall::{self, Place};
use crate::diagnose::{addresses, icmp, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn firewall_reject(case: &Case) -> Option<Finding> {
    if evidence::refusal(case).is_some_and(|refusal| refusal.confidence == Confidence::Certain) {
        return None;
    }
    let dropped = evidence::filter_drops(case).rfind(|dropped| !dropped.answer && !dropped.queued);
    rejected_by_icmp(case, dropped).or_else(|| rejected_by_answer(case, dropped?))
}

/// The ICMP error was sent from within a hook, or where netfilter freed the SYN, or is one that
/// only a packet filter sends about TCP.
fn rejected_by_icmp(case: &Case, dropped: Option<FilterDrop>) -> Option<Finding> {
    let sent = evidence::icmp_sent(case)
        .rev()
        .find(|sent| sent.hook.is_some() || filtered_in(dropped, *sent))
        .or_else(|| evidence::icmp_sent(case).rfind(|sent| icmp::only_filters_send(sent.icmp)))?;
    let known = sent.hook.is_some() || filtered_in(dropped, sent);
    let place = Place {
        netns: sent.netns,
        hook: sent.hook.or(dropped.and_then(|dropped| dropped.hook)),
    };
    let mut finding = firewall::finding(
        case,
        Code::FirewallReject,
        place,
        &format!(
            "rejected the SYN to {} with {}",
            target(case),
            icmp::words(sent.icmp)
        ),
    );
    if !known {
        finding.confidence = Confidence::Probable;
        finding = finding.because(
            "only a packet filter answers TCP with this ICMP error; the kernel's own paths do not",
        );
    }
    Some(heard(case, finding).rule_out(
        Code::IcmpUnreachable,
        "a namespace of this host sent the ICMP error, from its packet filter",
    ))
}

/// The SYN was freed by netfilter, and nginx heard an answer that no TCP stack here sent.
fn rejected_by_answer(case: &Case, dropped: FilterDrop) -> Option<Finding> {
    let errno = evidence::answered_errno(case);
    let place = Place {
        netns: dropped.netns,
        hook: dropped.hook,
    };
    let reset = evidence::reset_received(case) && errno == Some(libc::ECONNREFUSED);
    let answer = match (reset, received(case), errno) {
        (true, _, _) => "a TCP reset".to_owned(),
        (false, Some(words), _) => words,
        (false, None, Some(errno)) => format!("what nginx saw as {}", wording::errno_name(errno)),
        (false, None, None) => return None,
    };
    let finding = firewall::finding(
        case,
        Code::FirewallReject,
        place,
        &format!("rejected the SYN to {} with {answer}", target(case)),
    )
    .rule_out(
        Code::FirewallDrop,
        "an answer came: a dropped SYN would have left nginx waiting",
    );
    Some(if reset {
        finding.rule_out(
            Code::RemoteRefused,
            "netfilter freed the SYN on this host before anybody else could answer it",
        )
    } else {
        heard(case, finding)
    })
}

/// Says where nothing reached nginx although the rejection was answered.
fn heard(case: &Case, finding: Finding) -> Finding {
    finding.when(evidence::ended_in_silence(case), |finding| {
        finding.because("the kernel kept the ICMP error as a soft one, so nginx did not hear of it: the rejection looks like a drop to nginx")
    })
}

fn filtered_in(dropped: Option<FilterDrop>, sent: IcmpSent) -> bool {
    dropped.is_some_and(|dropped| dropped.netns == sent.netns)
}

fn received(case: &Case) -> Option<String> {
    case.timeline
        .iter()
        .rev()
        .find_map(|observed| match observed.fact {
            Fact::IcmpReceived { icmp, .. } => icmp::errno(icmp).map(|_| icmp::words(icmp)),
            _ => None,
        })
}

fn target(case: &Case) -> String {
    addresses::target(case).map_or_else(|| wording::dialled(case), |target| target.to_string())
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::event::Surface;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_forged_reset_is_told_from_that_of_a_closed_port() {
        let mut case = refused_from_afar("127.0.0.1:9101");
        case.timeline.push(observed(
            25,
            drop_of("127.0.0.1:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
        ));
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::FirewallReject, Confidence::Certain)
        );
        let mut closed = refused("127.0.0.1:9101", OWN);
        closed.timeline.push(observed(
            5,
            drop_of("127.0.0.1:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
        ));
        assert_eq!(diagnose(&closed).verdict.code, Code::NoListener);
    }

    #[test]
    fn a_rejection_that_nginx_does_not_hear_is_told_from_a_drop() {
        let mut case = silent("[::1]:9101", 500);
        case.timeline.push(observed(
            25,
            drop_of("[::1]:9101", OWN, "NETFILTER_DROP", Some(Hook::Input)),
        ));
        assert_eq!(diagnose(&case).verdict.code, Code::FirewallDrop);
        case.timeline.push(observed(30, icmp_received("::1", 1, 4)));
        let diagnosis = diagnose(&case);
        assert_eq!(diagnosis.verdict.code, Code::FirewallReject);
        assert_eq!((diagnosis.surface, diagnosis.errno), (Surface::Timer, None));
    }

    #[test]
    fn an_icmp_error_that_only_filters_send_is_probably_a_rejection() {
        let mut case = case("127.0.0.1:9101", Ending::GaveUp);
        case.timeline
            .push(observed(30, icmp_sent("127.0.0.1:9101", OWN, 3, 3, None)));
        let diagnosis = diagnose(&case);
        assert_eq!(diagnosis.verdict.code, Code::FirewallReject);
        assert_eq!(diagnosis.verdict.confidence, Confidence::Probable);
        assert_eq!(diagnosis.errno, Some(libc::ECONNREFUSED));
    }
}
