//! Expressions that end the packet's way through the rules.

use crate::case::{Action, FilterFamily as Family, Icmp};
use crate::firewall::Expression;
use crate::firewall::expression::Operator;
use crate::host::packet_filter::attributes::Attributes;
use crate::host::packet_filter::expressions::register;

/// Null for what is none of these or makes no sense. `before` is what the rule asks first.
pub fn decode(
    name: &str,
    data: Attributes<'_>,
    before: &[Expression],
    family: Family,
) -> Option<Expression> {
    match name {
        "reject" => reject(data, version(before, family)),
        "queue" => queue(data),
        "nat" => nat(data),
        "redir" => Some(redirect(data)),
        "masq" => Some(other("masquerade")),
        "fwd" | "synproxy" => Some(other(name)),
        _ => None,
    }
}

fn other(name: &str) -> Expression {
    Expression::Terminal(Action::Other {
        name: name.to_owned(),
    })
}

/// Whether the rule is for IPv6 alone: by its family, or by `meta nfproto` or the Ethernet type,
/// which nft puts in front of `reject with icmpv6` in the other families. An ICMP error whose
/// version stays open (`icmpx`) is told as that of IPv4.
fn version(before: &[Expression], family: Family) -> bool {
    const PROTOCOL: u32 = 1;
    const NFPROTO: u32 = 15;
    family == Family::Ip6
        || before.windows(2).any(|pair| match pair {
            [
                Expression::Meta { key, .. },
                Expression::Compare {
                    operator: Operator::Equal,
                    data,
                    ..
                },
            ] => match *key {
                NFPROTO => data.first() == Some(&10),
                PROTOCOL => data.starts_with(&[0x86, 0xdd]),
                _ => false,
            },
            _ => false,
        })
}

fn reject(data: Attributes<'_>, v6: bool) -> Option<Expression> {
    let code = data.byte(2);
    let kind = if v6 { 1 } else { 3 };
    let code = match data.u32(1)? {
        0 => code?,
        1 => return Some(Expression::Terminal(Action::RejectWithReset)),
        2 => either_version(code?, v6)?,
        _ => return None,
    };
    Some(Expression::Terminal(Action::RejectWithIcmp {
        icmp: Icmp { kind, code, v6 },
    }))
}

/// `NFT_REJECT_ICMPX_*` as a code of destination unreachable (`nft_reject_icmp_code`,
/// `nft_reject_icmpv6_code`).
fn either_version(code: u8, v6: bool) -> Option<u8> {
    let (v4, six) = match code {
        0 => (0, 0),
        1 => (3, 4),
        2 => (1, 3),
        3 => (13, 1),
        _ => return None,
    };
    Some(if v6 { six } else { v4 })
}

/// A queue whose number comes from a register is one of many.
fn queue(data: Attributes<'_>) -> Option<Expression> {
    const BYPASS: u16 = 1;
    if register(data, 4).is_some() {
        return Some(other("queue"));
    }
    Some(Expression::Terminal(Action::Queue {
        number: data.u16(1)?,
        bypass: data.u16(3).unwrap_or(0) & BYPASS != 0,
    }))
}

/// A range of addresses or ports, or a prefix to map, leaves a choice: the kernel dumps the upper
/// bound as another register than the lower only where there is one (`nft_nat_dump`).
fn nat(data: Attributes<'_>) -> Option<Expression> {
    const NETMAP: u32 = 1 << 6;
    let destination = match data.u32(1)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let chosen = |low, high| data.u32(high).is_some() && data.u32(high) != data.u32(low);
    if data.u32(7).unwrap_or(0) & NETMAP != 0 || chosen(3, 4) || chosen(5, 6) {
        return Some(Expression::Terminal(if destination {
            Action::Translate { to: None }
        } else {
            Action::Other {
                name: "snat".to_owned(),
            }
        }));
    }
    Some(Expression::Nat {
        destination,
        redirect: false,
        address: register(data, 3),
        port: register(data, 5),
    })
}

fn redirect(data: Attributes<'_>) -> Expression {
    if data.u32(2).is_some() && data.u32(2) != data.u32(1) {
        return Expression::Terminal(Action::Translate { to: None });
    }
    Expression::Nat {
        destination: true,
        redirect: true,
        address: None,
        port: register(data, 1),
    }
}
