//! What the timeline proves: who answered, who dropped, whether nginx heard anything.

use std::net::SocketAddr;

use crate::case::{
    Action, Case, Circumstances, EndedListener, Ending, Fact, Fitting, Hook, Icmp, KernelTime,
    Listener, Netns, Segment,
};
use crate::diagnose::coverage::{Observation, is_unavailable, silence_proves};
use crate::diagnose::finding::Finding;
use crate::diagnose::firewall::{Did, Incident};
use crate::diagnose::{addresses, icmp, surface};
use crate::verdict::{Code, Confidence};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A closed port's reset: some namespace of this host had no socket for the SYN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub at: KernelTime,
    /// Where the SYN arrived.
    pub netns: Netns,
    /// Where the SYN went, after every translation.
    pub target: SocketAddr,
    /// How much the way in which the refusal is known allows.
    pub confidence: Confidence,
}

/// The closed port that answered, seen or inferred.
pub(super) fn refusal(case: &Case) -> Option<Refusal> {
    seen_refusal(case).or_else(|| inferred_refusal(case))
}

/// A packet that netfilter freed.
#[derive(Debug, Clone, Copy)]
pub(super) struct FilterDrop<'c> {
    pub at: KernelTime,
    pub netns: Netns,
    pub hook: Option<Hook>,
    pub answer: bool,
    pub by: Dropper,
    pub segment: Segment,
    pub circumstances: Option<&'c Circumstances>,
}

/// What made netfilter free a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropper {
    /// A rule or a policy.
    Verdict,
    /// It was queued for a program that does not read.
    UnreadQueue,
    /// It was queued, and the program that reads the queue had it dropped.
    Reader,
}

impl<'c> FilterDrop<'c> {
    pub fn incident(&self, did: Did) -> Incident<'c> {
        Incident {
            netns: self.netns,
            hook: self.hook,
            answer: self.answer,
            did,
            segment: self.segment,
            circumstances: self.circumstances,
        }
    }
}

/// Packets of the attempt that netfilter freed, in time order. What it frees once nginx has closed
/// the socket is a consequence: a late answer belongs to no connection any more, and is reset.
pub(super) fn filter_drops(case: &Case) -> impl DoubleEndedIterator<Item = FilterDrop<'_>> {
    case.timeline.iter().filter_map(|observed| {
        let Fact::Dropped {
            netns,
            reason,
            location,
            hook,
            answer,
            segment,
            circumstances,
        } = &observed.fact
        else {
            return None;
        };
        // The record of a rejected SYN may come just after its answer, from another CPU.
        let opens = !answer && segment.flags & SYN != 0;
        if observed.at > case.attempt.ended && !opens {
            return None;
        }
        Some(FilterDrop {
            at: observed.at,
            netns: *netns,
            hook: *hook,
            answer: *answer,
            by: dropper(reason, location.as_deref().unwrap_or_default())?,
            segment: *segment,
            circumstances: circumstances.as_ref(),
        })
    })
}

/// `nf_queue` frees the packet without a reason where no program reads the queue, and
/// `nf_reinject` what the program would have dropped.
fn dropper(reason: &str, location: &str) -> Option<Dropper> {
    if location.contains("nf_queue") {
        Some(Dropper::UnreadQueue)
    } else if location.contains("nf_reinject") || location.contains("nfqnl_") {
        Some(Dropper::Reader)
    } else {
        (reason == "NETFILTER_DROP").then_some(Dropper::Verdict)
    }
}

/// Whether a rule answers what it stops.
pub(super) fn rejects(fitting: &Fitting) -> bool {
    matches!(
        fitting.action,
        Action::RejectWithReset | Action::RejectWithIcmp { .. }
    )
}

/// Whether a rejection by this rule can have come about although nothing was seen of it. A reset
/// would have reached nginx. Whatever `icmp_send` and `icmp6_send` send is seen where it is
/// observed, and on loopback they keep nothing back to limit its rate (`icmpv4_xrlim_allow`,
/// `icmpv6_xrlim_allow`).
pub(super) fn may_reject_unheard(case: &Case, fitting: &Fitting) -> bool {
    let Action::RejectWithIcmp { icmp } = fitting.action else {
        return false;
    };
    let loopback = addresses::target(case).is_some_and(|to| addresses::is_loopback(to.ip()));
    !loopback || is_unavailable(&case.coverage, Observation::icmp_sent(icmp.v6))
}

/// A drop whose reason speaks of the neighbour table, such as `NEIGH_FAILED`.
pub(super) fn neighbour_drop(case: &Case) -> Option<(Netns, bool)> {
    case.timeline
        .iter()
        .rev()
        .find_map(|observed| match &observed.fact {
            Fact::Dropped {
                netns,
                reason,
                answer,
                ..
            } if reason.starts_with("NEIGH_") => Some((*netns, *answer)),
            _ => None,
        })
}

/// An ICMP error that this host sent about the attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct IcmpSent<'c> {
    pub at: KernelTime,
    pub netns: Netns,
    pub icmp: Icmp,
    pub hook: Option<Hook>,
    pub segment: Segment,
    pub circumstances: Option<&'c Circumstances>,
}

/// ICMP errors that this host sent and that end a connection attempt, in time order.
pub(super) fn icmp_sent(case: &Case) -> impl DoubleEndedIterator<Item = IcmpSent<'_>> {
    case.timeline
        .iter()
        .filter_map(|observed| match &observed.fact {
            Fact::IcmpSent {
                netns,
                icmp,
                hook,
                segment,
                circumstances,
            } => icmp::errno(*icmp).map(|_| IcmpSent {
                at: observed.at,
                netns: *netns,
                icmp: *icmp,
                hook: *hook,
                segment: *segment,
                circumstances: circumstances.as_ref(),
            }),
            _ => None,
        })
}

pub(super) fn reset_received(case: &Case) -> bool {
    case.timeline
        .iter()
        .any(|observed| matches!(observed.fact, Fact::ResetReceived))
}

/// What sending the SYN again returned, in time order, where it is known.
pub(super) fn retransmissions(case: &Case) -> impl Iterator<Item = i32> {
    case.timeline
        .iter()
        .filter_map(|observed| match observed.fact {
            Fact::Retransmitted { error } => error,
            _ => None,
        })
}

/// How often the SYN was sent again.
pub(super) fn retransmission_count(case: &Case) -> usize {
    case.timeline
        .iter()
        .filter(|observed| matches!(observed.fact, Fact::Retransmitted { .. }))
        .count()
}

/// No error reached nginx: it gave up itself, or the kernel did after its last SYN.
pub(super) fn ended_in_silence(case: &Case) -> bool {
    match case.attempt.ending {
        Ending::GaveUp => surface::errno(case).is_none(),
        Ending::SocketError { errno } => errno == libc::ETIMEDOUT,
        _ => false,
    }
}

/// The error number by which an answer, not a timer, ended the attempt.
pub(super) fn answered_errno(case: &Case) -> Option<i32> {
    match case.attempt.ending {
        Ending::GaveUp | Ending::SocketError { .. } => {
            surface::errno(case).filter(|errno| *errno != libc::ETIMEDOUT)
        }
        _ => None,
    }
}

/// From `connect()` to the end of the attempt, in nanoseconds.
pub(super) fn duration(case: &Case) -> u64 {
    case.attempt.ended.saturating_sub(case.attempt.started)
}

/// Whether the socket listened when the attempt was made.
pub(super) fn listened_then(case: &Case, listener: &Listener) -> bool {
    listener
        .since
        .is_none_or(|since| since <= case.attempt.ended)
}

/// The newest listener that took connections to the target and had ended by then.
pub(super) fn ended_listener(case: &Case, refusal: Refusal) -> Option<&EndedListener> {
    case.host
        .ended
        .iter()
        .filter(|ended| ended.at <= case.attempt.ended)
        .filter(|ended| ended.listener.netns == refusal.netns)
        .filter(|ended| addresses::covers(&ended.listener, refusal.target))
        .max_by_key(|ended| ended.at)
}

/// A segment with ACK answers another one: the SYN that opens a connection has none.
pub(super) fn is_answer(segment: Segment) -> bool {
    segment.flags & ACK != 0
}

fn seen_refusal(case: &Case) -> Option<Refusal> {
    let refused = answered_errno(case) == Some(libc::ECONNREFUSED);
    if !refused && !ended_in_silence(case) {
        return None;
    }
    case.timeline.iter().rev().find_map(|observed| {
        let (netns, segment) = no_socket(&observed.fact)?;
        Some(Refusal {
            at: observed.at,
            netns,
            target: SocketAddr::new(segment.to.ip().to_canonical(), segment.to.port()),
            confidence: if refused {
                Confidence::Certain
            } else {
                Confidence::Probable
            },
        })
    })
}

/// The reset or the drop of a SYN that met no socket. Kernels before 6.10 give resets no reason.
fn no_socket(fact: &Fact) -> Option<(Netns, Segment)> {
    match fact {
        Fact::ResetSent {
            netns,
            reason,
            segment,
        } if reason.as_deref().is_none_or(|reason| reason == "NO_SOCKET")
            && !is_answer(*segment) =>
        {
            Some((*netns, *segment))
        }
        Fact::Dropped {
            netns,
            reason,
            answer: false,
            segment,
            ..
        } if reason == "NO_SOCKET" => Some((*netns, *segment)),
        _ => None,
    }
}

/// A refusal by an address of this host, where the reset's origin was not seen.
fn inferred_refusal(case: &Case) -> Option<Refusal> {
    let target = addresses::target(case)?;
    if answered_errno(case) != Some(libc::ECONNREFUSED) || other_reset(case) {
        return None;
    }
    let observed_all = refusals_are_seen(case);
    let home = addresses::homes(case).first().copied();
    let namesake = addresses::namesakes(case).first().copied();
    let (netns, confidence) = match (home, namesake) {
        (Some(home), _) if observed_all => (home, Confidence::Possible),
        (Some(home), _) => (home, Confidence::Probable),
        // A refusal by that namespace would have been seen.
        (None, Some(namesake)) if !observed_all => (namesake, Confidence::Possible),
        (None, _) => return None,
    };
    Some(Refusal {
        at: case.attempt.ended,
        netns,
        target,
        confidence,
    })
}

/// Whether a closed port or a drop in any namespace of this host would have left a record.
pub(super) fn refusals_are_seen(case: &Case) -> bool {
    silence_proves(
        &case.coverage,
        &[Observation::ResetSent, Observation::PacketDrop],
    )
}

/// This host sent a reset for another reason than a closed port.
fn other_reset(case: &Case) -> bool {
    case.timeline
        .iter()
        .any(|observed| matches!(observed.fact, Fact::ResetSent { .. }))
}
/// Excludes the causes that a refusal by this host's own TCP excludes; only where it was seen, not
/// inferred.
pub(super) fn rule_out_by_answer(finding: Finding, refusal: Refusal) -> Finding {
    finding.when(refusal.confidence == Confidence::Certain, |finding| {
        finding
            .rule_out(
                Code::FirewallReject,
                "the kernel's TCP refused the SYN itself (NO_SOCKET)",
            )
            .rule_out(Code::RemoteRefused, "the reset was sent on this host")
    })
}
