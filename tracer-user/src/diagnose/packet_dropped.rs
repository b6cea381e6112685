//! `packet-dropped`: the kernel dropped the SYN or its answer outside netfilter.

use crate::case::{Case, Circumstances, Fact, KernelTime, Netns, Segment};
use crate::diagnose::coverage::{Observation, is_unavailable};
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, copies, narration, programs, route_refused, wording};
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
                false => evidence::sent_on_since(case, dropped.at, finding),
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
    .rule_out(
        Code::FirewallDrop,
        "netfilter drops packets in its hooks (NETFILTER_DROP); this one was dropped elsewhere",
    )
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
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_blackhole_on_the_way_is_routing_and_names_its_namespace() {
        let mut case = silent("10.99.1.2:9101", 2000);
        let mut drop = drop_of("10.99.1.2:9101", OTHER, "NOT_SPECIFIED", None);
        if let Fact::Dropped { location, .. } = &mut drop {
            *location = Some("ip_forward".to_owned());
        }
        case.timeline = vec![observed(25, drop.clone())];
        assert_eq!(diagnose(&case).verdict.code, Code::PacketDropped);
        if let Fact::Dropped { location, .. } = &mut drop {
            *location = Some("ip_error".to_owned());
        }
        case.timeline = vec![observed(25, drop)];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::RouteRefused, Confidence::Certain)
        );
        assert!(verdict.summary.contains("network namespace 200"));
        assert!(
            verdict.fix[0].contains("ip route get 10.99.1.2 from 127.0.0.1 iif <device>"),
            "{:?}",
            verdict.fix
        );
    }

    fn on_eth0(id: u32, ingress: bool) -> AttachedProgram {
        AttachedProgram {
            id,
            name: "guard".to_owned(),
            place: ProgramPlace::TrafficControl {
                netns: OTHER,
                device: "eth0".to_owned(),
                ingress,
            },
        }
    }

    #[test]
    fn one_program_is_named_and_of_several_none() {
        let mut case = silent("10.99.1.2:9101", 2000);
        let drop = drop_of("10.99.1.2:9101", OTHER, "TC_INGRESS", None);
        case.timeline = vec![observed(25, drop)];
        case.host.programs = vec![on_eth0(7, true), on_eth0(8, false)];
        let verdict = diagnose(&case).verdict;
        assert!(
            verdict
                .summary
                .contains("tc program guard (id 7) on eth0 ingress"),
            "{}",
            verdict.summary
        );
        assert!(verdict.missing.is_empty(), "{:?}", verdict.missing);
        case.host.programs.push(on_eth0(9, true));
        let verdict = diagnose(&case).verdict;
        assert!(!verdict.summary.contains("guard"));
        assert!(verdict.because.iter().any(|words| words.contains("(id 9)")));
        assert_eq!(verdict.code, Code::PacketDropped);
        assert_eq!(verdict.missing.len(), 1);
    }

    #[test]
    fn xdp_in_a_driver_is_suspected_and_never_certain() {
        let mut case = silent("10.99.1.2:9101", 2000);
        case.host.owners = vec![OTHER];
        case.host.far_end = Some(OTHER);
        case.host.listeners = vec![listener("10.99.1.2:9101", OTHER, "app")];
        case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
        let before = diagnose(&case).verdict.code;
        assert_ne!(before, Code::PacketDropped);
        let program = |netns, id| AttachedProgram {
            id,
            name: "guard".to_owned(),
            place: ProgramPlace::Xdp {
                netns,
                device: "eth0".to_owned(),
                mode: "native".to_owned(),
            },
        };
        case.host.programs = vec![program(OTHER, 7)];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::PacketDropped, Confidence::Probable)
        );
        case.host.programs.push(program(OWN, 8));
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Possible);
        case.host.programs = vec![program(300, 7)];
        assert_eq!(diagnose(&case).verdict.code, before);
    }

    #[test]
    fn a_socket_filter_is_told_from_a_cgroup_program_only_where_the_receiver_is_known() {
        let mut case = silent("10.99.1.2:9101", 2000);
        let drop = drop_of("10.99.1.2:9101", OTHER, "SOCKET_FILTER", None);
        case.timeline = vec![observed(25, drop)];
        case.host.owners = vec![OTHER];
        let mut receiver = listener("10.99.1.2:9101", OTHER, "app");
        case.host.listeners = vec![receiver.clone()];
        let told = diagnose(&case).verdict.summary;
        assert!(told.contains("): a filter of the socket itself"), "{told}");
        receiver.owners.clear();
        case.host.listeners = vec![receiver];
        let told = diagnose(&case).verdict.summary;
        assert!(
            told.contains("a cgroup BPF program on ingress or"),
            "{told}"
        );
    }

    #[test]
    fn a_reset_that_nginx_consumes_is_no_drop() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.timeline.push(observed(
            39,
            answer_drop("127.0.0.1:9101", OWN, "TCP_RESET", None),
        ));
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn a_late_answer_to_a_closed_socket_is_no_drop() {
        let mut case = silent("203.0.113.7:9101", 2000);
        case.timeline = vec![
            observed(1_000_000, Fact::Retransmitted { error: Some(0) }),
            observed(
                2_100_000,
                answer_drop("203.0.113.7:9101", OWN, "NO_SOCKET", None),
            ),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::NoAnswer);
    }

    #[test]
    fn what_the_queueing_discipline_drops_is_told_from_what_leaves() {
        let mut case = silent("203.0.113.7:9101", 2000);
        case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(1) })];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::PacketDropped, Confidence::Probable)
        );
        case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
        assert_eq!(diagnose(&case).verdict.code, Code::NoAnswer);
    }
}
