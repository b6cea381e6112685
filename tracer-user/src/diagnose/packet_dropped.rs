//! `packet-dropped`: the kernel dropped the SYN or its answer outside netfilter.

use crate::case::{Case, Circumstances, Fact, KernelTime, Netns, Segment};
use crate::diagnose::coverage::{Observation, is_unavailable};
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, copies, narration, programs, route_refused, sent_again, wording};
use crate::verdict::{Code, Confidence};
use eater::Eater;

mod eater;
mod unseen;

pub(super) fn packet_dropped(case: &Case) -> Option<Finding> {
    if !evidence::ended_in_silence(case) {
        return None;
    }
    last_drop(case, |fact| !copies::may_be_a_copy(case, fact))
        .map(|dropped| {
            let finding = if is_refusal_by_route(&dropped) {
                route_refused::in_passing(case, dropped.netns, dropped.segment, dropped.answer)
            } else {
                by_reason(case, &dropped)
            };
            match dropped.answer {
                true => finding,
                false => sent_again::sent_on_since(case, dropped.at, finding),
            }
        })
        .or_else(|| by_retransmission(case))
        .or_else(|| unseen::by_native_xdp(case))
}

/// A packet was freed, and it may have been a copy: where nothing else explains the silence, it
/// need not have been one.
pub(super) fn perhaps_dropped(case: &Case) -> Option<Finding> {
    if !evidence::ended_in_silence(case) {
        return None;
    }
    let dropped = last_drop(case, |fact| copies::may_be_a_copy(case, fact))?;
    let mut finding = by_reason(case, &dropped)
        .missing("whether it was the packet itself: bridges, and packet sockets such as tcpdump's, make copies, which are freed just so");
    finding.confidence = Confidence::Possible;
    // Of a copy none of them holds.
    finding.ruled_out.clear();
    Some(finding)
}

struct Dropped<'a> {
    at: KernelTime,
    netns: Netns,
    reason: &'a str,
    location: Option<&'a str>,
    answer: bool,
    segment: Segment,
    circumstances: Option<&'a Circumstances>,
}

/// The last drop that swallowed a packet. A closed port's SYN is freed too, and so is the answer
/// that comes after nginx has closed its socket; those are consequences, not causes.
fn last_drop(case: &Case, counts: impl Fn(&Fact) -> bool) -> Option<Dropped<'_>> {
    case.timeline
        .iter()
        .rev()
        .filter(|observed| observed.at <= case.attempt.ended && counts(&observed.fact))
        .find_map(|observed| match &observed.fact {
            Fact::Dropped {
                netns,
                reason,
                location,
                answer,
                segment,
                circumstances,
                ..
            } if !matches!(reason.as_str(), "NO_SOCKET" | "TCP_RESET") => Some(Dropped {
                at: observed.at,
                netns: *netns,
                reason,
                location: location.as_deref(),
                answer: *answer,
                segment: *segment,
                circumstances: circumstances.as_ref(),
            }),
            _ => None,
        })
}

/// `ip_error` frees what a blackhole, unreachable or prohibit route refuses on its way in, with or
/// without an ICMP error; `ip6_pkt_drop` does the same for IPv6. Neither gives such a route a
/// reason of its own.
fn is_refusal_by_route(dropped: &Dropped<'_>) -> bool {
    dropped.reason == "NOT_SPECIFIED"
        && matches!(dropped.location, Some("ip_error" | "ip6_pkt_drop"))
}

/// `nf_hook_bridge_pre`, which is part of `br_handle_frame`, frees what a rule dropped without a
/// reason on older kernels, as the bridge itself frees what it does not take.
fn may_be_a_rule_of_a_bridge(dropped: &Dropped<'_>) -> bool {
    dropped.reason == "NOT_SPECIFIED" && dropped.location == Some("br_handle_frame")
}

fn by_reason(case: &Case, dropped: &Dropped<'_>) -> Finding {
    let packet = if dropped.answer {
        "the answer of"
    } else {
        "the SYN to"
    };
    let eater = Eater::of(case, dropped);
    let location = dropped
        .location
        .map_or_else(String::new, |location| format!(" at {location}"));
    let listener = addresses::covering_listener(case, None);
    let finding = Finding::new(
        Code::PacketDropped,
        Confidence::Certain,
        format!(
            "the kernel dropped {packet} {} in {}{location} ({}): {}",
            wording::dialled(case),
            wording::namespace(case, dropped.netns),
            dropped.reason,
            eater.words
        ),
    )
    .when(!may_be_a_rule_of_a_bridge(dropped), |finding| {
        finding.rule_out(
            Code::FirewallDrop,
            "netfilter drops packets in its hooks (NETFILTER_DROP); this one was dropped elsewhere",
        )
    })
    .when(may_be_a_rule_of_a_bridge(dropped), |finding| {
        Finding { confidence: Confidence::Possible, ..finding }
            .missing("whether a rule at the bridge's prerouting hook dropped it: this kernel gives no reason there")
    })
    .rule_out(Code::NoAnswer, "the packet was dropped on this host")
    .listener(listener)
    .with(narration::translation(case), Finding::because)
    .when(is_unavailable(&case.coverage, Observation::DropReason), |finding| {
        finding.missing("the reason in the kernel's own words: this kernel gives none, and the place in its code stands for it")
    });
    eater
        .explain(case, finding)
        .fix("the reasons are explained in include/net/dropreason-core.h of the kernel's source")
}

/// What sending the SYN again returned, where no drop itself was seen.
fn by_retransmission(case: &Case) -> Option<Finding> {
    let error = evidence::retransmissions(case)
        .filter(|error| !matches!(*error, 0 | -1) && *error != -libc::EBUSY)
        .last()?;
    let who = match error {
        1 => "its egress queueing discipline, a tc program or a netdev egress chain".to_owned(),
        error => format!(
            "its way out, with {}",
            wording::errno_name(error.saturating_neg())
        ),
    };
    let unnamed = Finding::new(
        Code::PacketDropped,
        Confidence::Probable,
        format!(
            "this host dropped the SYN to {} itself: {who}",
            wording::dialled(case)
        ),
    )
    .because("sending the SYN again did not succeed, so the SYN never left")
    .relies_on(&[Observation::PacketDrop])
    .missing("the reason of the drop: the kernel reported none for this SYN")
    .rule_out(Code::NoAnswer, "the SYN did not leave this host");
    let own = |command| wording::in_namespace(case, case.worker.netns, command);
    let filters = programs::of_traffic_control(case, case.worker.netns, false);
    Some(
        unnamed
            .when(error == 1 && !filters.is_empty(), |finding| {
                programs::suspected(finding, case, &filters)
            })
            .fix(own("tc -s qdisc show"))
            .fix(own("tc filter show dev <device> egress"))
            .fix(own("bpftool net list"))
            .fix(own("nft -a list ruleset netdev")),
    )
}

#[cfg(test)]
mod tests;
