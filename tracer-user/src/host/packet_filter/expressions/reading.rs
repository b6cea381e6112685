//! Expressions that put something into a register, and those that compare it.

use crate::firewall::Expression;
use crate::firewall::expression::{Operator, PayloadBase, Register};
use crate::host::packet_filter::attributes::Attributes;
use crate::host::packet_filter::expressions::{is_verdict_register, register, value, verdict};

/// Null for what is none of these or makes no sense.
pub fn decode(name: &str, data: Attributes<'_>) -> Option<Expression> {
    match name {
        "payload" => payload(data),
        "meta" => Some(Expression::Meta {
            key: data.u32(2)?,
            to: register(data, 1)?,
        }),
        "ct" => Some(Expression::Conntrack {
            key: data.u32(2)?,
            direction: data.byte(3),
            to: register(data, 1)?,
        }),
        "fib" => Some(Expression::Fib {
            result: data.u32(2)?,
            flags: data.u32(3)?,
            to: register(data, 1)?,
        }),
        "immediate" => immediate(data),
        "cmp" => compare(data),
        "range" => range(data),
        "bitwise" => bitwise(data),
        "byteorder" => Some(Expression::SwapBytes {
            from: register(data, 1)?,
            to: register(data, 2)?,
            length: data.u32(4)?,
            size: data.u32(5)?,
        }),
        "lookup" => lookup(data),
        _ => unknowable(name, data),
    }
}

fn payload(data: Attributes<'_>) -> Option<Expression> {
    Some(Expression::Payload {
        base: match data.u32(2)? {
            0 => PayloadBase::LinkLayer,
            1 => PayloadBase::Network,
            2 => PayloadBase::Transport,
            _ => PayloadBase::Inner,
        },
        offset: data.u32(3)?,
        length: data.u32(4)?,
        to: register(data, 1)?,
    })
}

fn immediate(data: Attributes<'_>) -> Option<Expression> {
    if is_verdict_register(data, 1) {
        return verdict(data, 2);
    }
    Some(Expression::Immediate {
        data: value(data, 2)?,
        to: register(data, 1)?,
    })
}

fn compare(data: Attributes<'_>) -> Option<Expression> {
    Some(Expression::Compare {
        operator: match data.u32(2)? {
            0 => Operator::Equal,
            1 => Operator::NotEqual,
            2 => Operator::Less,
            3 => Operator::LessOrEqual,
            4 => Operator::Greater,
            5 => Operator::GreaterOrEqual,
            _ => return None,
        },
        from: register(data, 1)?,
        data: value(data, 3)?,
    })
}

fn range(data: Attributes<'_>) -> Option<Expression> {
    Some(Expression::Range {
        negated: match data.u32(2)? {
            0 => false,
            1 => true,
            _ => return None,
        },
        from: register(data, 1)?,
        low: value(data, 3)?,
        high: value(data, 4)?,
    })
}

/// `NFT_BITWISE_*`: kernels since 6.13 have AND, OR and XOR, with a second register or with data
/// (`nft_bitwise_init_bool`).
fn bitwise(data: Attributes<'_>) -> Option<Expression> {
    let (from, to) = (register(data, 1)?, register(data, 2)?);
    let length = data.u32(3)?;
    let width = usize::try_from(length).ok().filter(|width| *width <= 64)?;
    let operation = data.u32(6).unwrap_or(0);
    if register(data, 8).is_some() {
        return Some(Expression::Unknowable {
            name: "bitwise".to_owned(),
            to,
            length,
        });
    }
    let masked = |mask, xor| Expression::Mask {
        from,
        to,
        mask,
        xor,
    };
    Some(match operation {
        0 => masked(value(data, 4)?, value(data, 5)?),
        1 | 2 => Expression::Shift {
            from,
            to,
            length,
            left: operation == 1,
            bits: u32::from_ne_bytes(value(data, 7)?.get(..4)?.try_into().ok()?),
        },
        3 => masked(value(data, 7)?, vec![0; width]),
        // (x & !data) ^ data sets the bits of data.
        4 => {
            let set = value(data, 7)?;
            masked(set.iter().map(|byte| !byte).collect(), set)
        }
        5 => masked(vec![0xff; width], value(data, 7)?),
        _ => return None,
    })
}

fn lookup(data: Attributes<'_>) -> Option<Expression> {
    const INVERTED: u32 = 1;
    Some(Expression::Lookup {
        set: data.text(1)?,
        from: register(data, 2)?,
        to: register(data, 3),
        verdict: is_verdict_register(data, 3),
        negated: data.u32(5).unwrap_or(0) & INVERTED != 0,
    })
}

/// Values that no evaluation can know, with the register and the length that they fill. Most end
/// the rule where the packet has no such thing: what is compared afterwards is as unknown.
fn unknowable(name: &str, data: Attributes<'_>) -> Option<Expression> {
    const LONG: u32 = 16;
    let (to, length) = match name {
        "exthdr" => (register(data, 1)?, data.u32(4)?),
        "numgen" => (register(data, 1)?, 4),
        "tunnel" | "hash" => (register(data, 2)?, 4),
        "osf" => (register(data, 1)?, LONG),
        // NFT_RT_NEXTHOP6, NFT_XFRM_KEY_*_IP6 and a control group's number are longer than the
        // others.
        "rt" => (register(data, 1)?, if data.u32(2)? == 2 { LONG } else { 4 }),
        "xfrm" => {
            let long = matches!(data.u32(2)?, 2 | 4);
            (register(data, 1)?, if long { LONG } else { 4 })
        }
        "socket" => (register(data, 2)?, if data.u32(1)? == 3 { 8 } else { 4 }),
        "inner" => (encapsulated(data)?, LONG),
        _ => return None,
    };
    Some(Expression::Unknowable {
        name: name.to_owned(),
        to,
        length,
    })
}

/// The register of the payload or meta expression that reads an encapsulated packet
/// (`NFTA_INNER_EXPR`); both have it in their first attribute.
fn encapsulated(data: Attributes<'_>) -> Option<Register> {
    register(data.nested(5)?.nested(2)?, 1)
}
