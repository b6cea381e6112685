//! Why a packet was freed or a reset sent, where the kernel itself does not say: kernels before
//! 5.17 give no reason for what they free, and those before 6.10 none for the resets that they
//! send. The place in the kernel's code tells most of it.

use crate::case::{Fact, Hook, KernelTime, Observed};

const NETFILTER_DROP: &str = "NETFILTER_DROP";
const NO_SOCKET: &str = "NO_SOCKET";
/// The kernel's own word where it has no reason.
const NOT_SPECIFIED: &str = "NOT_SPECIFIED";

/// A segment is freed within this time after the reset that answers it (`tcp_v4_rcv`).
const AFTER_ITS_ANSWER: KernelTime = 1_000_000;

/// Functions that free what was sent as they free what was dropped: drivers call them when a
/// packet has left.
const DONE_WITH: [&str; 6] = [
    "__dev_kfree_skb_any",
    "__dev_kfree_skb_irq",
    "dev_kfree_skb_any_reason",
    "dev_kfree_skb_irq_reason",
    "net_tx_action",
    "napi_consume_skb",
];

/// The functions in which the kernel frees a segment, and the reasons that newer kernels give
/// there.
const PLACES: [(&str, &str); 48] = [
    ("nf_hook_slow", NETFILTER_DROP),
    ("nf_hook_slow_list", NETFILTER_DROP),
    ("nf_queue", NOT_SPECIFIED),
    ("nf_reinject", NOT_SPECIFIED),
    ("nfqnl_reinject", NOT_SPECIFIED),
    ("nfqnl_recv_verdict", NOT_SPECIFIED),
    ("nfqnl_recv_verdict_batch", NOT_SPECIFIED),
    ("do_xdp_generic", "XDP"),
    ("netif_receive_generic_xdp", "XDP"),
    ("veth_xdp_rcv_skb", NOT_SPECIFIED),
    ("veth_xdp_rcv", NOT_SPECIFIED),
    ("veth_poll", NOT_SPECIFIED),
    ("veth_xmit", NOT_SPECIFIED),
    // A program or filter of tc (`sch_handle_ingress`), as IP has somebody to take its packets.
    ("__netif_receive_skb_core", "TC_INGRESS"),
    ("sch_handle_ingress", "TC_INGRESS"),
    // `sch_handle_egress`; what a discipline drops goes through `kfree_skb_list`.
    ("__dev_queue_xmit", "TC_EGRESS"),
    ("sch_handle_egress", "TC_EGRESS"),
    ("kfree_skb_list", "QDISC_DROP"),
    ("enqueue_to_backlog", "CPU_BACKLOG"),
    ("netif_rx_internal", "CPU_BACKLOG"),
    // `BPF_CGROUP_RUN_PROG_INET_EGRESS`.
    ("ip_finish_output", "BPF_CGROUP_EGRESS"),
    ("ip6_finish_output", "BPF_CGROUP_EGRESS"),
    ("ip_finish_output2", "NEIGH_CREATEFAIL"),
    ("ip6_finish_output2", "NEIGH_CREATEFAIL"),
    ("__neigh_event_send", "NEIGH_FAILED"),
    ("neigh_resolve_output", "NEIGH_FAILED"),
    ("neigh_connected_output", "NEIGH_FAILED"),
    ("neigh_invalidate", "NEIGH_FAILED"),
    ("arp_error_report", "NEIGH_FAILED"),
    ("ndisc_error_report", "NEIGH_FAILED"),
    ("ip_rcv_core", NOT_SPECIFIED),
    ("ip6_rcv_core", NOT_SPECIFIED),
    ("ip_rcv_finish_core", RPFILTER),
    ("ip_rcv_finish", RPFILTER),
    ("ip_list_rcv_finish", RPFILTER),
    ("ip_sublist_rcv", RPFILTER),
    ("ip_error", NOT_SPECIFIED),
    ("ip6_pkt_drop", NOT_SPECIFIED),
    ("ip_forward", NOT_SPECIFIED),
    ("ip6_forward", NOT_SPECIFIED),
    ("ip_protocol_deliver_rcu", NOT_SPECIFIED),
    ("ip6_protocol_deliver_rcu", NOT_SPECIFIED),
    ("tcp_v4_rcv", NOT_SPECIFIED),
    ("tcp_v6_rcv", NOT_SPECIFIED),
    ("tcp_v4_do_rcv", NOT_SPECIFIED),
    ("tcp_v6_do_rcv", NOT_SPECIFIED),
    ("br_handle_frame", NOT_SPECIFIED),
    ("br_dev_xmit", NOT_SPECIFIED),
];

/// The commonest of several: `ip_route_input_noref` had no way for the packet.
const RPFILTER: &str = "IP_RPFILTER";

/// Why a packet was freed, `None` where that is no drop for all that is known: a kernel without
/// reasons frees what it is done with as it frees what it drops.
pub fn of_drop(given: Option<String>, hook: Option<Hook>, place: Option<&str>) -> Option<String> {
    match given {
        Some(reason) if reason != NOT_SPECIFIED => Some(reason),
        _ if place.is_some_and(|place| DONE_WITH.contains(&place)) => None,
        _ if hook.is_some() => Some(NETFILTER_DROP.to_owned()),
        Some(reason) => Some(reason),
        None => PLACES
            .iter()
            .find(|(known, _)| Some(*known) == place)
            .map(|(_, reason)| (*reason).to_owned()),
    }
}

/// The functions that call for a reset, and the reason that newer kernels give there
/// (`tcp_send_active_reset`, `tcp_v4_send_reset`).
const CALLERS: [(&str, &str); 8] = [
    ("tcp_check_req", "INVALID_SYN"),
    ("tcp_disconnect", "TCP_STATE"),
    ("tcp_abort", "TCP_STATE"),
    ("tcp_keepalive_timer", "TCP_KEEPALIVE_TIMEOUT"),
    ("tcp_out_of_resources", "TCP_ABORT_ON_MEMORY"),
    ("tcp_write_timer_handler", "TCP_ABORT_ON_MEMORY"),
    // With data unread; without it sockets that linger are disconnected.
    ("__tcp_close", "TCP_ABORT_ON_CLOSE"),
    ("tcp_close", "TCP_ABORT_ON_CLOSE"),
];

/// Why a reset was sent, by the functions that led to it, the innermost first.
pub fn of_reset(mut callers: impl Iterator<Item = String>) -> Option<&'static str> {
    callers.find_map(|caller| {
        let known = CALLERS.iter().find(|(known, _)| *known == caller);
        known.map(|(_, reason)| *reason)
    })
}

/// Recognises in what TCP freed without a reason the SYN that it had just refused for want of a
/// socket, and forgets what it freed because it had taken an earlier one: a SYN that comes again
/// is answered again (`tcp_check_req`).
pub fn recognise(timeline: &mut Vec<Observed>) {
    let refused: Vec<(KernelTime, u64)> = timeline
        .iter()
        .filter_map(|seen| match &seen.fact {
            Fact::ResetSent { netns, reason, .. } if reason.as_deref() == Some(NO_SOCKET) => {
                Some((seen.at, *netns))
            }
            _ => None,
        })
        .collect();
    let again = timeline
        .iter()
        .find(|seen| matches!(seen.fact, Fact::Retransmitted { .. }))
        .map(|seen| seen.at);
    let mut dropped_before = false;
    timeline.retain_mut(|seen| {
        let at = seen.at;
        let Some((netns, reason)) = freed_by_tcp(seen) else {
            return true;
        };
        let was_refused = refused.iter().any(|(answered, place)| {
            *place == netns && *answered <= at && at - answered < AFTER_ITS_ANSWER
        });
        if was_refused {
            NO_SOCKET.clone_into(reason);
            return true;
        }
        dropped_before |= again.is_none_or(|again| at < again);
        dropped_before
    });
}

/// Where a SYN was freed by TCP itself without a reason, and that reason.
fn freed_by_tcp(seen: &mut Observed) -> Option<(u64, &mut String)> {
    match &mut seen.fact {
        Fact::Dropped {
            netns,
            reason,
            location: Some(location),
            answer: false,
            ..
        } if reason == NOT_SPECIFIED
            && ["tcp_v4_rcv", "tcp_v6_rcv"].contains(&location.as_str()) =>
        {
            Some((*netns, reason))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Segment;

    fn syn() -> Segment {
        Segment {
            from: "10.1.0.1:40000".parse().expect("address"),
            to: "10.1.0.2:9101".parse().expect("address"),
            sequence: 7,
            flags: 2,
        }
    }

    fn freed(at: KernelTime, place: &str) -> Observed {
        let fact = Fact::Dropped {
            netns: 3,
            reason: NOT_SPECIFIED.to_owned(),
            location: Some(place.to_owned()),
            hook: None,
            answer: false,
            segment: syn(),
            circumstances: None,
        };
        Observed { at, fact }
    }

    fn sent_again(at: KernelTime) -> Observed {
        let fact = Fact::Retransmitted { error: None };
        Observed { at, fact }
    }

    fn refused(at: KernelTime, netns: u64) -> Observed {
        let fact = Fact::ResetSent {
            netns,
            reason: Some(NO_SOCKET.to_owned()),
            segment: syn(),
        };
        Observed { at, fact }
    }

    fn reason(seen: &Observed) -> &str {
        match &seen.fact {
            Fact::Dropped { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_kernel_without_reasons_drops_only_where_that_is_known() {
        let at = |place| of_drop(None, None, Some(place));
        assert_eq!(at("nf_hook_slow").as_deref(), Some(NETFILTER_DROP));
        assert_eq!(
            at("__netif_receive_skb_core").as_deref(),
            Some("TC_INGRESS")
        );
        assert_eq!(at("packet_rcv"), None);
        assert_eq!(of_drop(None, None, None), None);
        let hook = of_drop(None, Some(Hook::Input), None);
        assert_eq!(hook.as_deref(), Some(NETFILTER_DROP));
    }

    #[test]
    fn the_reason_of_the_kernel_goes_before_the_place() {
        let told = of_drop(Some("XDP".to_owned()), None, Some("ip_finish_output"));
        assert_eq!(told.as_deref(), Some("XDP"));
        let untold = of_drop(Some(NOT_SPECIFIED.to_owned()), None, Some("some_driver"));
        assert_eq!(untold.as_deref(), Some(NOT_SPECIFIED));
    }

    #[test]
    fn what_a_driver_frees_after_sending_was_not_dropped() {
        for place in DONE_WITH {
            let given = Some(NOT_SPECIFIED.to_owned());
            assert_eq!(of_drop(given, None, Some(place)), None);
        }
    }

    #[test]
    fn a_reset_has_the_reason_of_its_innermost_caller() {
        let of = |callers: &[&str]| of_reset(callers.iter().map(|it| (*it).to_owned()));
        assert_eq!(of(&["tcp_disconnect", "__tcp_close"]), Some("TCP_STATE"));
        assert_eq!(of(&["__tcp_close"]), Some("TCP_ABORT_ON_CLOSE"));
        assert_eq!(of(&["tcp_v4_rcv"]), None);
    }

    #[test]
    fn a_syn_freed_after_its_reset_met_no_socket() {
        let mut timeline = vec![refused(100, 3), freed(200, "tcp_v4_rcv")];
        recognise(&mut timeline);
        assert_eq!(reason(&timeline[1]), NO_SOCKET);
        let mut elsewhere = vec![refused(100, 4), freed(200, "tcp_v4_rcv")];
        recognise(&mut elsewhere);
        assert_eq!(reason(&elsewhere[1]), NOT_SPECIFIED);
    }

    #[test]
    fn a_syn_that_came_again_and_was_known_was_not_dropped() {
        let mut timeline = vec![sent_again(1000), freed(1100, "tcp_v4_rcv")];
        recognise(&mut timeline);
        assert_eq!(timeline.len(), 1);
        let mut dropped = vec![
            freed(100, "tcp_v4_rcv"),
            sent_again(1000),
            freed(1100, "tcp_v4_rcv"),
        ];
        recognise(&mut dropped);
        assert_eq!(dropped.len(), 3);
    }
}
