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
