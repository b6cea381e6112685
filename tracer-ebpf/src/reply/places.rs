//! The programs for what the kernel answers with. One fact has several: tracepoints tell it all on
//! newer kernels, on older ones functions do.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use tracer_common::{layout::NONE, record::peer_end};

use super::{answered_with_icmp, answered_with_reset};
use crate::{
    connection::peer_ended,
    kernel::layout,
    packet::{v4_is_for_this_host, v6_is_for_this_host},
    stand_in::programs,
};

programs!(
    tcp_send_reset,
    tcp_send_reset_stand_in,
    TCP_SEND_RESET,
    reset_sent
);
programs!(icmp_send, icmp_send_stand_in, ICMP_SEND, icmp_error_sent);

/// Before 6.10 it fires for full sockets alone.
///
/// match-proto: tcp:tcp_send_reset(const struct sock *sk, const struct sk_buff *skb[, const enum sk_rst_reason reason])
#[inline(always)]
fn reset_sent(context: &RawTracePointContext) {
    let reason = match layout!(reset_reason_argument) {
        2 => context.arg(2),
        _ => NONE,
    };
    match context.arg(1) {
        // `tcp_send_active_reset` answers nothing: the socket itself is given up.
        0 => peer_ended(context, context.arg(0), peer_end::RESET, reason),
        skb => answered_with_reset(context, context.arg(0), skb, reason),
    }
}

/// match-proto: void tcp_v4_send_reset(const struct sock *sk, struct sk_buff *skb[, enum sk_rst_reason reason])
#[fentry(function = "tcp_v4_send_reset")]
pub fn fentry_tcp_v4_send_reset(context: FEntryContext) -> i32 {
    let (socket, skb) = (context.arg(0), context.arg(1));
    if socket != 0 || v4_is_for_this_host(skb) {
        answered_with_reset(&context, socket, skb, NONE);
    }
    0
}

/// match-proto: void tcp_v4_send_reset(const struct sock *sk, struct sk_buff *skb[, enum sk_rst_reason reason])
#[kprobe(function = "tcp_v4_send_reset")]
pub fn kprobe_tcp_v4_send_reset(context: ProbeContext) -> u32 {
    let (socket, skb) = (context.arg(0).unwrap_or(0), context.arg(1).unwrap_or(0));
    if socket != 0 || v4_is_for_this_host(skb) {
        answered_with_reset(&context, socket, skb, NONE);
    }
    0
}

/// match-proto: void tcp_v6_send_reset(const struct sock *sk, struct sk_buff *skb[, enum sk_rst_reason reason])
#[fentry(function = "tcp_v6_send_reset")]
pub fn fentry_tcp_v6_send_reset(context: FEntryContext) -> i32 {
    let (socket, skb) = (context.arg(0), context.arg(1));
    if socket != 0 || v6_is_for_this_host(skb) {
        answered_with_reset(&context, socket, skb, NONE);
    }
    0
}

/// match-proto: void tcp_v6_send_reset(const struct sock *sk, struct sk_buff *skb[, enum sk_rst_reason reason])
#[kprobe(function = "tcp_v6_send_reset")]
pub fn kprobe_tcp_v6_send_reset(context: ProbeContext) -> u32 {
    let (socket, skb) = (context.arg(0).unwrap_or(0), context.arg(1).unwrap_or(0));
    if socket != 0 || v6_is_for_this_host(skb) {
        answered_with_reset(&context, socket, skb, NONE);
    }
    0
}

/// match-proto: void tcp_send_active_reset(struct sock *sk, gfp_t priority[, enum sk_rst_reason reason])
#[fentry(function = "tcp_send_active_reset")]
pub fn fentry_tcp_send_active_reset(context: FEntryContext) -> i32 {
    peer_ended(&context, context.arg(0), peer_end::RESET, NONE);
    0
}

/// match-proto: void tcp_send_active_reset(struct sock *sk, gfp_t priority[, enum sk_rst_reason reason])
#[kprobe(function = "tcp_send_active_reset")]
pub fn kprobe_tcp_send_active_reset(context: ProbeContext) -> u32 {
    let socket = context.arg(0).unwrap_or(0);
    peer_ended(&context, socket, peer_end::RESET, NONE);
    0
}

/// match-proto: icmp:icmp_send(const struct sk_buff *skb, int type, int code)
#[inline(always)]
fn icmp_error_sent(context: &RawTracePointContext) {
    answered_with_icmp(context, context.arg(0), context.arg(1), context.arg(2));
}

/// match-proto: void __icmp_send(struct sk_buff *skb_in, int type, int code, __be32 info, const struct ip_options *opt)
#[fentry(function = "__icmp_send")]
pub fn fentry_icmp_send(context: FEntryContext) -> i32 {
    answered_with_icmp(&context, context.arg(0), context.arg(1), context.arg(2));
    0
}

/// match-proto: void __icmp_send(struct sk_buff *skb_in, int type, int code, __be32 info, const struct ip_options *opt)
#[kprobe(function = "__icmp_send")]
pub fn kprobe_icmp_send(context: ProbeContext) -> u32 {
    let (icmp, code) = (context.arg(1).unwrap_or(0), context.arg(2).unwrap_or(0));
    answered_with_icmp(&context, context.arg(0).unwrap_or(0), icmp, code);
    0
}

/// match-proto: void icmp6_send(struct sk_buff *skb, u8 type, u8 code, __u32 info, const struct in6_addr *force_saddr, const struct inet6_skb_parm *parm)
#[fentry(function = "icmp6_send")]
pub fn fentry_icmp6_send(context: FEntryContext) -> i32 {
    let (icmp, code): (u8, u8) = (context.arg(1), context.arg(2));
    answered_with_icmp(&context, context.arg(0), icmp.into(), code.into());
    0
}

/// match-proto: void icmp6_send(struct sk_buff *skb, u8 type, u8 code, __u32 info, const struct in6_addr *force_saddr, const struct inet6_skb_parm *parm)
#[kprobe(function = "icmp6_send")]
pub fn kprobe_icmp6_send(context: ProbeContext) -> u32 {
    // Only the lowest byte of a register is the argument.
    let byte = |index| u32::from(context.arg::<u64>(index).unwrap_or(0) as u8);
    let (icmp, code) = (byte(1), byte(2));
    answered_with_icmp(&context, context.arg(0).unwrap_or(0), icmp, code);
    0
}
