//! What becomes of nginx's SYN and of its answer, in any namespace of this host.

use aya_ebpf::{
    EbpfContext, helpers::bpf_get_stack, macros::raw_tracepoint, programs::RawTracePointContext,
};
use tracer_common::{
    layout::NONE,
    record::{
        FRAMES, Fate, IcmpSent, PacketDropped, PeerEnded, ResetSent, Segment, kind, peer_end,
    },
};

use crate::{
    connection,
    emit::{current_task, emit, fill, header, now},
    kernel::{layout, read},
    neighbour,
    packet::{
        FLAG_ACK, FLAG_RST, FLAG_SYN, Side, attempt_under_way, belongs, beside, dialled, locate,
        segment,
    },
};

/// The first values of `enum skb_drop_reason` (`SKB_NOT_DROPPED_YET`, `SKB_CONSUMED`) mean that
/// nothing was dropped; the enum's own comment keeps them first.
const NOT_DROPPED: u32 = 1;
/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

/// match-proto: tcp:tcp_send_reset(const struct sock *sk, const struct sk_buff *skb[, const enum sk_rst_reason reason])
#[raw_tracepoint]
pub fn tcp_send_reset(context: RawTracePointContext) -> i32 {
    let skb: u64 = context.arg(1);
    if skb == 0 {
        // `tcp_send_active_reset` answers nothing: the socket itself is given up.
        connection::peer_ended(context.arg(0), peer_end::RESET, reset_reason(&context));
        return 0;
    }
    if !opening_refused(&context, skb) {
        answered(&context, skb);
    }
    0
}

/// A SYN of nginx was answered with a reset. Returns whether the segment is a SYN at all.
#[inline(never)]
fn opening_refused(context: &RawTracePointContext, skb: u64) -> bool {
    let Some(mut segment) = segment(skb, FLAG_SYN) else {
        return false;
    };
    if segment.flags & FLAG_ACK != 0 || belongs(&segment) != Some(Side::Nginx) {
        return true;
    }
    locate(skb, &mut segment);
    let reason = reset_reason(context);
    if let Some(attempt) = attempt_under_way(&segment) {
        attempt.reset_sent = fate(&segment, reason);
        return true;
    }
    emit(
        kind::RESET_SENT,
        fill!(record: ResetSent {
                header: header(kind::RESET_SENT),
                segment: segment,
                reason: reason,
                reserved: 0,
        }),
    );
    true
}

#[inline(always)]
fn reset_reason(context: &RawTracePointContext) -> u32 {
    match layout!(reset_reason_argument) {
        2 => context.arg(2),
        _ => NONE,
    }
}

/// A segment of a connection that stood for nginx was answered with a reset.
#[inline(never)]
fn answered(context: &RawTracePointContext, skb: u64) {
    let Some(mut segment) = segment(skb, FLAG_ACK).filter(|segment| dialled(&segment.to)) else {
        return;
    };
    locate(skb, &mut segment);
    let socket: u64 = context.arg(0);
    let state: u8 = read(socket, layout!(sock_state)).unwrap_or(0);
    emit(
        kind::PEER_ENDED,
        fill!(record: PeerEnded {
            header: header(kind::PEER_ENDED),
            task: current_task(),
            local: segment.to,
            remote: segment.from,
            how: peer_end::RESET_IN_ANSWER,
            reason: reset_reason(context),
            netns: segment.netns,
            accepted: 0,
            listening: u32::from(state == LISTEN),
            exiting: 0,
            exit_code: 0,
            reserved: 0,
        }),
    );
}

/// match-proto: skb:kfree_skb(struct sk_buff *skb, void *location[, enum skb_drop_reason reason[, struct sock *rx_sk]])
#[raw_tracepoint]
pub fn kfree_skb(context: RawTracePointContext) -> i32 {
    let reason = match layout!(kfree_reason_argument) {
        2 => context.arg(2),
        _ => NONE,
    };
    if reason <= NOT_DROPPED {
        return 0;
    }
    let skb: u64 = context.arg(0);
    let opening = opening_dropped(&context, skb, reason);
    // A kernel without reasons frees here what it is done with, too.
    if !opening && reason != NONE && reason == layout!(drop_by_netfilter) && !filtered(skb) {
        neighbour::dropped(&context, skb);
    }
    0
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
    if reason == layout!(drop_without_socket)
        && let Some(attempt) = attempt_under_way(&segment)
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
            reserved: 0,
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

/// match-proto: icmp:icmp_send(const struct sk_buff *skb, int type, int code)
#[raw_tracepoint]
pub fn icmp_send(context: RawTracePointContext) -> i32 {
    let skb: u64 = context.arg(0);
    let Some(mut segment) = segment(skb, FLAG_SYN) else {
        return 0;
    };
    if belongs(&segment).is_none() {
        return 0;
    }
    let net = locate(skb, &mut segment);
    let fill = fill!(record: IcmpSent {
        header: header(kind::ICMP_SENT),
        segment: segment,
        kind: context.arg(1),
        code: context.arg(2),
        beside: beside(skb, net),
        frames: [0; FRAMES],
    });
    emit(kind::ICMP_SENT, |record| {
        fill(record);
        // SAFETY: the record was filled above.
        stack(&context, unsafe { &mut (*record).frames });
    });
    0
}

/// Fills in the kernel's stack: it names the hook in which a packet filter decided.
#[inline(always)]
pub fn stack(context: &RawTracePointContext, frames: &mut [u64; FRAMES]) {
    // SAFETY: the buffer is as long as told; a failure leaves zeroes.
    unsafe {
        bpf_get_stack(
            context.as_ptr(),
            frames.as_mut_ptr().cast(),
            (FRAMES * 8) as u32,
            0,
        );
    }
}
