//! The rule that decided to stop a packet: where it lies in memory, and what lies around it.

use aya_ebpf::{
    helpers::{bpf_probe_read_kernel_str_bytes, generated::bpf_probe_read_kernel},
    macros::kprobe,
    programs::ProbeContext,
};
use tracer_common::{
    layout::{NONE, RuleLayout},
    record::{
        Address, RULE_BYTES, RULE_NAME, RuleBytes, RuleBytesHead, RuleMet, Segment, kind,
        packet_kind, rule_kind,
    },
};

use crate::{
    emit::{emit, fill, header, lost, now},
    kernel::{layout, net_of_packet, read},
    maps::{EVENTS, RULE_CREDIT, RULE_LAYOUT, RULES, ToldRule},
    neighbour,
    packet::{FLAG_RST, FLAG_SYN, Side, belongs, beside, locate, segment},
};

/// `NF_DROP`.
const DROP: u32 = 0;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u8 = 0;
/// From a `struct nft_expr_ops` to its `size`; the same since 3.13.
const OPS_SIZE: u32 = 16;
/// From a `struct xt_action_param` to its `targinfo`, behind the union with `target`.
const TARGET_DATA: u32 = 8;
/// How long what was told of a rule's memory is not told again.
const AGAIN_NS: u64 = 200_000_000;
/// Memory is read in pieces of this length, each of which lies in one page.
const PIECE: usize = 256;
/// Pieces before the one that the expression begins in.
const PIECES_BEFORE: u64 = 4;
/// Rules behind the one that decided that are passed to find out whose they are.
const PASSED: u32 = 96;

/// match-proto: nft_immediate_eval(const struct nft_expr *expr, struct nft_regs *regs, const struct nft_pktinfo *pkt)
#[kprobe]
pub fn kprobe_nft_immediate_eval(context: ProbeContext) -> u32 {
    let Some(expression) = context.arg::<u64>(0) else {
        return 0;
    };
    // `ops`, then `struct nft_immediate_expr`: the verdict's code in 16 bytes, and the register.
    let Some(start) = read::<[u8; 32]>(expression, 0) else {
        return 0;
    };
    let code = u32::from_ne_bytes([start[8], start[9], start[10], start[11]]);
    if start[24] == VERDICT_REGISTER && code == DROP {
        of_nftables(&context, rule_kind::DROP);
    }
    0
}

/// match-proto: as above, for each family that has a `reject` of its own.
#[kprobe]
pub fn kprobe_nft_reject_inet_eval(context: ProbeContext) -> u32 {
    of_nftables(&context, rule_kind::REJECT)
}

/// match-proto: reject_tg(struct sk_buff *skb, const struct xt_action_param *par), and `reject_tg6`.
#[kprobe]
pub fn kprobe_reject_tg(context: ProbeContext) -> u32 {
    of_iptables(&context)
}

/// `skb` is the first member of `struct nft_pktinfo`.
#[inline(always)]
fn of_nftables(context: &ProbeContext, kind: u32) -> u32 {
    if let (Some(expression), Some(packet)) = (context.arg::<u64>(0), context.arg::<u64>(2))
        && let Some(skb) = read::<u64>(packet, 0)
    {
        met(skb, expression, kind);
    }
    0
}

/// As an expression of nftables the target finds its data in it (`nft_target_eval_xt`), else in
/// the entry of its table (`ipt_do_table`, `ip6t_do_table`).
#[inline(always)]
fn of_iptables(context: &ProbeContext) -> u32 {
    if let (Some(skb), Some(parameters)) = (context.arg::<u64>(0), context.arg::<u64>(1))
        && let Some(data) = read::<u64>(parameters, TARGET_DATA)
    {
        met(skb, data, rule_kind::REJECT_TARGET);
    }
    0
}

/// Tells that the rule with this expression stops the packet, where that is of an attempt. Each
/// step is a function of its own: their frames would not fit on the stack together.
#[inline(always)]
fn met(skb: u64, expression: u64, kind: u32) {
    if is_subject(skb) {
        tell_news(skb, expression, kind);
        tell_met(skb, expression, kind);
    }
}

/// Of many packets of neighbours some are told, as of those that are dropped (`neighbour`).
#[inline(never)]
fn is_subject(skb: u64) -> bool {
    subject(skb).is_some_and(|(_, packet)| {
        packet < packet_kind::NEIGHBOUR_QUESTION || neighbour::may_tell(&RULE_CREDIT)
    })
}

/// Tells what lies around the expression, unless that was told lately.
#[inline(never)]
fn tell_news(skb: u64, expression: u64, kind: u32) {
    let device: u64 = read(skb, layout!(skb_dev)).unwrap_or(0);
    let net = net_of_packet(skb, device);
    let generation = read(net, layout!(net_nft_generation)).unwrap_or(NONE);
    if is_news(expression, generation) && tell_bytes(expression, kind) {
        let told = ToldRule {
            at: now(),
            generation,
            reserved: 0,
        };
        let _ = RULES.insert(expression, told, 0);
    }
}

#[inline(never)]
fn tell_met(skb: u64, expression: u64, kind: u32) {
    let Some((mut segment, packet)) = subject(skb) else {
        return;
    };
    let net = locate(skb, &mut segment);
    emit(
        kind::RULE_MET,
        fill!(record: RuleMet {
            header: header(kind::RULE_MET),
            segment: segment,
            beside: beside(skb, net),
            expression: expression,
            kind: kind,
            packet: packet,
        }),
    );
}

/// The packet, where it is one whose fate is observed, and what it is.
#[inline(always)]
fn subject(skb: u64) -> Option<(Segment, u32)> {
    if let Some(segment) = segment(skb, FLAG_SYN | FLAG_RST) {
        let packet = match belongs(&segment)? {
            Side::Nginx => packet_kind::OPENING,
            Side::Target => packet_kind::ANSWER,
        };
        return Some((segment, packet));
    }
    let talk = neighbour::talk(skb)?;
    let packet = match talk.answer {
        true => packet_kind::NEIGHBOUR_ANSWER,
        false => packet_kind::NEIGHBOUR_QUESTION,
    };
    Some((between(talk.asker, talk.wanted), packet))
}

#[inline(always)]
fn between(from: Address, to: Address) -> Segment {
    Segment {
        from,
        to,
        sequence: 0,
        netns: 0,
        ifindex: 0,
        flags: 0,
        ttl: 0,
        reserved: 0,
    }
}

#[inline(always)]
fn is_news(expression: u64, generation: u32) -> bool {
    let Some(told) = RULES.get_ptr(expression) else {
        return true;
    };
    // SAFETY: entries of this map are never freed, only used again; one that is written to at
    // this moment makes the memory be told once more or once less.
    let told = unsafe { &*told };
    told.generation != generation || now() - told.at > AGAIN_NS
}

/// Tells what lies around the expression; whether there was room for it.
#[inline(always)]
fn tell_bytes(expression: u64, kind: u32) -> bool {
    let Some(mut entry) = EVENTS.reserve::<RuleBytes>(0) else {
        lost(u32::from(kind::RULE_BYTES));
        return false;
    };
    let record = entry.as_mut_ptr();
    let size = match kind {
        rule_kind::REJECT_TARGET => 0,
        _ => read::<u64>(expression, 0)
            .and_then(|ops| read(ops, OPS_SIZE))
            .unwrap_or(0),
    };
    let base = (expression & !(PIECE as u64 - 1)) - PIECES_BEFORE * PIECE as u64;
    // SAFETY: the record is the reserved entry, and everything in it is written here.
    unsafe {
        let head = &raw mut (*record).head;
        (*head).header = header(kind::RULE_BYTES);
        (*head).expression = expression;
        (*head).base = base;
        (*head).size = size;
        (*head).family = 0;
        (*head).table = [0; RULE_NAME];
        (*head).chain = [0; RULE_NAME];
        copy(base, &raw mut (*record).memory);
        // The size of an expression before a target's data is the least that it can be.
        let end = match size {
            0 => expression + 8,
            size => expression + u64::from(size),
        };
        name(end, head);
    }
    entry.submit(0);
    true
}

/// Copies the memory from `base` on; what cannot be read becomes zeroes.
///
/// # Safety
///
/// `memory` is writable.
#[inline(always)]
unsafe fn copy(base: u64, memory: *mut [u8; RULE_BYTES]) {
    let mut at = 0;
    while at < RULE_BYTES {
        // SAFETY: the helper writes a piece, whether or not it can read one.
        unsafe {
            bpf_probe_read_kernel(
                memory.cast::<u8>().add(at).cast(),
                PIECE as u32,
                (base + at as u64) as *const _,
            );
        }
        at += PIECE;
    }
}

/// Tells in which chain the rule is that ends at `end`: that stands behind the last of its rules.
///
/// # Safety
///
/// `head` is writable.
#[inline(always)]
unsafe fn name(end: u64, head: *mut RuleBytesHead) {
    let Some(layout) = rule_layout() else {
        return;
    };
    let Some(chain) = chain_of(end, layout) else {
        return;
    };
    let (Some(table), Some(name)) = (
        read::<u64>(chain, layout.chain_table),
        read::<u64>(chain, layout.chain_name),
    ) else {
        return;
    };
    let (Some(family), Some(table_name)) = (
        read::<u32>(table, layout.table_family),
        read::<u64>(table, layout.table_name),
    ) else {
        return;
    };
    // SAFETY: the caller's pointer is writable, and the helper writes no more than fits.
    unsafe {
        let told = bpf_probe_read_kernel_str_bytes(name as *const u8, &mut (*head).chain).is_ok()
            && bpf_probe_read_kernel_str_bytes(table_name as *const u8, &mut (*head).table).is_ok();
        if told {
            (*head).family = (family >> (layout.table_family_shift & 31)) & 0x3f;
        }
    }
}

/// `struct nft_rule_dp`: a word of `is_last:1, dlen:12, handle:42`, then `dlen` bytes.
#[inline(always)]
fn chain_of(end: u64, layout: &RuleLayout) -> Option<u64> {
    let mut header = end;
    for _ in 0..PASSED {
        let word: u64 = read(header, 0)?;
        if word & 1 != 0 {
            return read(header, layout.last_chain).filter(|chain| *chain != 0);
        }
        header += 8 + ((word >> 1) & 0xfff);
    }
    None
}

#[inline(always)]
fn rule_layout() -> Option<&'static RuleLayout> {
    let layout = RULE_LAYOUT.get(0)?;
    (layout.known != 0).then_some(layout)
}
