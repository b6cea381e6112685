//! What becomes of nginx's SYN and of its answer, in any namespace of this host. `places` has the
//! programs that are one of several means.

mod places;

use aya_ebpf::{EbpfContext, helpers::bpf_get_stack, programs::RawTracePointContext};
use tracer_common::{
    layout::NONE,
    record::{
        CALLERS, FRAMES, Fate, IcmpSent, PacketDropped, PeerEnded, ResetSent, Segment, kind,
        peer_end,
    },
};

use crate::{
    emit::{current_task, emit, fill, header, now},
    kernel::{layout, read},
    maps::{Attempt, in_a_hook},
    neighbour,
    packet::{
        FLAG_ACK, FLAG_RST, FLAG_SYN, Side, attempt_under_way, belongs, beside, dialled, locate,
        segment,
    },
    stand_in::programs,
};

/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

programs!(kfree_skb, kfree_skb_stand_in, KFREE_SKB, packet_freed);

/// A segment was answered with a reset, unless it is one itself (`tcp_v4_send_reset`), by `socket`
/// or, where that is 0, for want of one.
#[inline(always)]
pub fn answered_with_reset(context: &impl EbpfContext, socket: u64, skb: u64, reason: u32) {
    if !opening_refused(socket, skb, reason) {
        answered(context, socket, skb, reason);
    }
}

/// A SYN of nginx was answered with a reset. Returns whether the segment is a SYN at all.
#[inline(never)]
fn opening_refused(socket: u64, skb: u64, reason: u32) -> bool {
    let Some(mut segment) = segment(skb, FLAG_SYN) else {
        return false;
    };
    if segment.flags & (FLAG_ACK | FLAG_RST) != 0 || belongs(&segment) != Some(Side::Nginx) {
        return true;
    }
    locate(skb, &mut segment);
    let tells = reason != NONE || socket == 0;
    if tells && let Some(attempt) = attempt_under_way(&segment) {
        attempt.reset_sent = fate(&segment, reason);
        return true;
    }
    emit(
        kind::RESET_SENT,
        fill!(record: ResetSent {
                header: header(kind::RESET_SENT),
                segment: segment,
                reason: reason,
                by_socket: u32::from(socket != 0),
        }),
    );
    true
}

/// A segment of a connection that stood for nginx was answered with a reset.
#[inline(never)]
fn answered(context: &impl EbpfContext, socket: u64, skb: u64, reason: u32) {
    let Some(mut segment) = segment(skb, FLAG_ACK) else {
        return;
    };
    if segment.flags & FLAG_RST != 0 || !dialled(&segment.to) {
        return;
    }
    locate(skb, &mut segment);
    let state: u8 = read(socket, layout!(sock_state)).unwrap_or(0);
    let fill = fill!(record: PeerEnded {
        header: header(kind::PEER_ENDED),
        task: current_task(),
        local: segment.to,
        remote: segment.from,
        how: peer_end::RESET_IN_ANSWER,
        reason: reason,
        netns: segment.netns,
        accepted: 0,
        listening: u32::from(state == LISTEN),
        exiting: 0,
        exit_code: 0,
        without_socket: u32::from(socket == 0),
        callers: [0; CALLERS],
    });
    emit(kind::PEER_ENDED, |record| {
        fill(record);
        if reason == NONE {
            // SAFETY: the record was filled above.
            stack(context, unsafe { &mut (*record).callers });
        }
    });
}

/// match-proto: skb:kfree_skb(struct sk_buff *skb, void *location[, enum skb_drop_reason reason[, struct sock *rx_sk]])
#[inline(always)]
fn packet_freed(context: &RawTracePointContext) {
    let reason = match layout!(kfree_reason_argument) {
        2 => context.arg(2),
        _ => NONE,
    };
    // What stands in the enum before it means that nothing was dropped: `SKB_NOT_DROPPED_YET`, and
    // since 6.2 `SKB_CONSUMED`.
    if reason < layout!(drop_not_specified) {
        return;
    }
    let skb: u64 = context.arg(0);
    let opening = opening_dropped(context, skb, reason);
    if !opening && by_netfilter(context, reason) && !filtered(skb) {
        neighbour::dropped(context, skb);
    }
}

/// Kernels without reasons free here what they are done with, too: only the place tells.
#[inline(always)]
fn by_netfilter(context: &RawTracePointContext, reason: u32) -> bool {
    match layout!(drop_by_netfilter) {
        NONE => in_a_hook(context.arg(1)),
        netfilter => reason == netfilter,
    }
}

/// A segment that opens a connection or refuses one was freed. Returns whether it is such a
/// segment at all.
#[inline(never)]
fn opening_dropped(context: &RawTracePointContext, skb: u64, reason: u32) -> bool {
    let Some(mut segment) = segment(skb, FLAG_SYN | FLAG_RST) else {
        return false;
    };
    let Some(side) = belongs(&segment) else {
        return true;
    };
    let net = locate(skb, &mut segment);
    if may_lack_a_socket(reason)
        && let Some(attempt) = attempt_under_way(&segment)
        && (reason != NONE || was_refused(attempt, &segment))
    {
        attempt.no_socket = fate(&segment, reason);
        return true;
    }
    let fill = fill!(record: PacketDropped {
        header: header(kind::PACKET_DROPPED),
        segment: segment,
        reason: reason,
        answer: u32::from(side == Side::Target),
        location: context.arg(1),
        beside: beside(skb, net),
        frames: [0; FRAMES],
    });
    emit(kind::PACKET_DROPPED, |record| {
        fill(record);
        if by_a_rule(reason) {
            // SAFETY: the record was filled above.
            stack(context, unsafe { &mut (*record).frames });
        }
    });
    true
}

#[inline(always)]
fn may_lack_a_socket(reason: u32) -> bool {
    reason == layout!(drop_without_socket)
}

/// `tcp_v4_rcv` and `tcp_v6_rcv` free the SYN right after the reset that answers it.
#[inline(always)]
fn was_refused(attempt: &Attempt, segment: &Segment) -> bool {
    attempt.reset_sent.at != 0 && attempt.reset_sent.netns == segment.netns
}

/// Netfilter freed a segment of a connection that stood. Returns whether it is a segment of TCP
/// at all.
#[inline(never)]
fn filtered(skb: u64) -> bool {
    let Some(mut segment) = segment(skb, FLAG_ACK) else {
        return false;
    };
    let (how, target, nginx) = if dialled(&segment.to) {
        (peer_end::REQUEST_FILTERED, segment.to, segment.from)
    } else if dialled(&segment.from) {
        (peer_end::RESPONSE_FILTERED, segment.from, segment.to)
    } else {
        return true;
    };
    locate(skb, &mut segment);
    let netns = segment.netns;
    emit(
        kind::PEER_ENDED,
        fill!(record: PeerEnded {
            header: header(kind::PEER_ENDED),
            task: current_task(),
            local: target,
            remote: nginx,
            how: how,
            reason: NONE,
            netns: netns,
            accepted: 0,
            listening: 0,
            exiting: 0,
            exit_code: 0,
            without_socket: 0,
            callers: [0; CALLERS],
        }),
    );
    true
}

/// What becomes of a SYN inside the `connect()` that sent it is told with the end of the attempt:
/// one record where there would be three.
#[inline(always)]
fn fate(segment: &Segment, reason: u32) -> Fate {
    Fate {
        at: now(),
        to: segment.to,
        netns: segment.netns,
        reason,
    }
}

/// A rule of a packet filter, or what may be one: only then the stack is worth its microseconds.
#[inline(always)]
fn by_a_rule(reason: u32) -> bool {
    let netfilter = layout!(drop_by_netfilter);
    netfilter == NONE || reason == netfilter
}

/// This host answers a SYN of nginx with an ICMP error.
#[inline(always)]
pub fn answered_with_icmp(context: &impl EbpfContext, skb: u64, icmp: u32, code: u32) {
    let Some(mut segment) = segment(skb, FLAG_SYN) else {
        return;
    };
    if belongs(&segment).is_none() {
        return;
    }
    let net = locate(skb, &mut segment);
    let fill = fill!(record: IcmpSent {
        header: header(kind::ICMP_SENT),
        segment: segment,
        kind: icmp,
        code: code,
        beside: beside(skb, net),
        frames: [0; FRAMES],
    });
    emit(kind::ICMP_SENT, |record| {
        fill(record);
        // SAFETY: the record was filled above.
        stack(context, unsafe { &mut (*record).frames });
    });
}

/// Fills in the kernel's stack: it names the hook in which a packet filter decided, and who called
/// for a reset.
#[inline(always)]
pub fn stack<const LENGTH: usize>(context: &impl EbpfContext, frames: &mut [u64; LENGTH]) {
    // SAFETY: the buffer is as long as told; a failure leaves zeroes.
    unsafe {
        bpf_get_stack(
            context.as_ptr(),
            frames.as_mut_ptr().cast(),
            (LENGTH * 8) as u32,
            0,
        );
    }
}
