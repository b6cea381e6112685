//! `firewall-reject`: netfilter on this host answered the SYN with a reset or an ICMP error.

use crate::case::{Action, Case, Fact, Icmp, KernelTime};
use crate::diagnose::coverage::{Observation, is_unavailable};
use crate::diagnose::evidence::{self, Dropper, FilterDrop, IcmpSent, rejects};
use crate::diagnose::finding::Finding;
use crate::diagnose::firewall::{self, Did, Incident, Suspects};
use crate::diagnose::{addresses, after, icmp, sent_again, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn firewall_reject(case: &Case) -> Option<Finding> {
    if evidence::refusal(case).is_some_and(|refusal| refusal.confidence == Confidence::Certain) {
        return None;
    }
    rejected_by_icmp(case)
        .or_else(|| rejected_by_answer(case))
        .or_else(|| rejected_unheard(case, drops(case).next_back()?))
}

/// SYNs that netfilter freed, in time order.
fn drops(case: &Case) -> impl DoubleEndedIterator<Item = FilterDrop<'_>> {
    evidence::filter_drops(case).filter(|drop| !drop.answer && drop.by == Dropper::Verdict)
}

/// The ICMP error was sent from within a hook, or where netfilter freed the SYN, or is one that
/// only a packet filter sends about TCP.
fn rejected_by_icmp(case: &Case) -> Option<Finding> {
    let sent = evidence::icmp_sent(case)
        .rev()
        .find(|sent| sent.hook.is_some() || dropped_with(case, sent).is_some())
        .or_else(|| evidence::icmp_sent(case).rfind(|sent| icmp::only_filters_send(sent.icmp)))?;
    let dropped = dropped_with(case, &sent);
    let known = sent.hook.is_some() || dropped.is_some();
    let incident = Incident {
        netns: sent.netns,
        hook: sent.hook.or(dropped.and_then(|dropped| dropped.hook)),
        answer: false,
        did: Did::Icmp(sent.icmp),
        segment: sent.segment,
        circumstances: sent
            .circumstances
            .or(dropped.and_then(|dropped| dropped.circumstances)),
    };
    let suspects = Suspects::of(case, &incident);
    let mut finding = firewall::finding(
        case,
        Code::FirewallReject,
        &incident,
        &suspects,
        &format!(
            "rejected the SYN to {} with {}",
            target(case),
            icmp::words(sent.icmp)
        ),
    );
    if !known {
        finding.confidence = finding.confidence.min(Confidence::Probable);
        finding = finding.because(
            "only a packet filter answers TCP with this ICMP error; the kernel's own paths do not",
        );
    }
    Some(heard(case, finding).rule_out(
        Code::IcmpUnreachable,
        "a namespace of this host sent the ICMP error, from its packet filter",
    ))
}

/// The SYN was freed by netfilter, and nginx heard at once an answer that no TCP stack here sent.
fn rejected_by_answer(case: &Case) -> Option<Finding> {
    let errno = evidence::answered_errno(case);
    let reset = after::reset_received(case).filter(|_| errno == Some(libc::ECONNREFUSED));
    let (heard_at, did, answer) = match (reset, received(case), errno) {
        (Some(at), _, _) => (Some(at), Did::Reset, "a TCP reset".to_owned()),
        (None, Some((at, icmp)), _) => (Some(at), Did::Icmp(icmp), icmp::words(icmp)),
        (None, None, Some(errno)) => (
            None,
            Did::Answered(errno),
            format!("what nginx saw as {}", wording::errno_name(errno)),
        ),
        (None, None, None) => return None,
    };
    let reset = reset.is_some();
    let dropped = drops(case).rfind(|dropped| match heard_at {
        Some(at) => sent_again::belong_together(case, dropped.at, at),
        None => !sent_again::sent_between(case, dropped.at, case.attempt.ended),
    })?;
    let incident = dropped.incident(did);
    let finding = firewall::finding(
        case,
        Code::FirewallReject,
        &incident,
        &Suspects::of(case, &incident),
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

/// Netfilter freed the SYN, nothing was seen to answer it, and every rule that fits rejects.
fn rejected_unheard(case: &Case, dropped: FilterDrop) -> Option<Finding> {
    if !evidence::ended_in_silence(case) {
        return None;
    }
    let incident = dropped.incident(Did::Dropped);
    let stopping = Suspects::that(case, &incident, |fitting| {
        matches!(fitting.action, Action::Drop | Action::Other { .. }) || rejects(fitting)
    });
    let only_rejects = stopping.fitting.iter().all(|fitting| rejects(fitting));
    if stopping.fitting.is_empty() || !only_rejects {
        return None;
    }
    let did = format!("rejected the SYN to {}", target(case));
    let finding = firewall::finding(case, Code::FirewallReject, &incident, &stopping, &did);
    let mut finding = sent_again::sent_on_since(case, dropped.at, finding);
    finding
        .summary
        .push_str("; the rejection did not reach nginx");
    let resets = stopping
        .fitting
        .iter()
        .any(|fitting| fitting.action == Action::RejectWithReset);
    let unsent = dropped.segment.to.is_ipv4()
        && !resets
        && !is_unavailable(&case.coverage, Observation::IcmpSent);
    let v6 = dropped.segment.to.ip().to_canonical().is_ipv6();
    Some(
        finding
            .when(unsent, |finding| {
                finding
                    .because("its ICMP error was not seen to be sent: the kernel limits how many it sends to one address (net.ipv4.icmp_ratelimit), and sends none where it has no route back, so that the rejection looks like a drop")
                    .fix("sysctl net.ipv4.icmp_ratelimit net.ipv4.icmp_msgs_per_sec")
            })
            .when(v6, |finding| {
                finding.because("an ICMPv6 error is only noted while the first SYN waits, and the kernel limits how many it sends (net.ipv6.icmp.ratelimit): the rejection looks like a drop to nginx")
            })
            .when(resets, |finding| {
                finding.missing("what became of the reset that the rule sends: nginx did not receive it")
            }),
    )
}

/// Says where nothing reached nginx although the rejection was answered.
fn heard(case: &Case, finding: Finding) -> Finding {
    if !evidence::ended_in_silence(case) {
        return finding;
    }
    if received(case).is_some() {
        return finding.because("the kernel kept the ICMP error as a soft one, so nginx did not hear of it: the rejection looks like a drop to nginx");
    }
    let finding = finding
        .because("nginx did not hear of the ICMP error: the rejection looks like a drop to nginx");
    if is_unavailable(&case.coverage, Observation::IcmpReceived) {
        finding
    } else {
        finding.missing("what became of the ICMP error: it was not seen to arrive in nginx's network namespace, where a packet filter may have dropped it")
    }
}

/// The SYN that netfilter freed as the ICMP error was sent.
fn dropped_with<'c>(case: &'c Case, sent: &IcmpSent) -> Option<FilterDrop<'c>> {
    drops(case).rfind(|dropped| {
        dropped.netns == sent.netns && sent_again::belong_together(case, dropped.at, sent.at)
    })
}

fn received(case: &Case) -> Option<(KernelTime, Icmp)> {
    case.timeline
        .iter()
        .rev()
        .find_map(|observed| match observed.fact {
            Fact::IcmpReceived { icmp, .. } => icmp::errno(icmp).map(|_| (observed.at, icmp)),
            _ => None,
        })
}

fn target(case: &Case) -> String {
    addresses::target(case).map_or_else(|| wording::dialled(case), |target| target.to_string())
}

#[cfg(test)]
mod tests;
