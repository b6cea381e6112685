//! Expressions of rules, from the attributes in which the kernel dumps them
//! (`include/uapi/linux/netfilter/nf_tables.h`).

use std::collections::HashMap;

use crate::case::{Action, FilterFamily as Family};
use crate::firewall::Expression;
use crate::firewall::expression::{Extension, Register, Verdict};
use crate::host::packet_filter::attributes::{Attributes, text};
use crate::host::packet_filter::objects::Object;

mod endings;
mod reading;
mod writing;

/// What an expression may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    pub family: Family,
    /// Stateful objects of the table by name.
    pub objects: &'a HashMap<String, Object>,
    /// Kind of the objects that a map of the table leads to, by the map's name.
    pub object_maps: &'a HashMap<String, u32>,
}

/// Expressions in a list of them (`NFTA_RULE_EXPRESSIONS`).
pub fn all<'a>(
    list: impl Iterator<Item = Attributes<'a>>,
    around: Surroundings<'_>,
) -> Vec<Expression> {
    let mut decoded = Vec::new();
    for element in list {
        one(element, around, &mut decoded);
    }
    decoded
}

/// Appends what one expression does. One whose attributes are missing or odd comes out as
/// unknown: it must not be taken for one that holds.
pub fn one(expression: Attributes<'_>, around: Surroundings<'_>, to: &mut Vec<Expression>) {
    let name = expression.text(1).unwrap_or_default();
    let data = expression.nested(2).unwrap_or_default();
    if name == "objref" {
        to.extend(writing::object(data, around));
        return;
    }
    let decoded = reading::decode(&name, data)
        .or_else(|| writing::decode(&name, data))
        .or_else(|| endings::decode(&name, data, to, around.family))
        .or_else(|| extension(&name, data));
    to.push(decoded.unwrap_or(Expression::Unknown { name }));
}

/// A statement that an element of a set has, or is given by a rule: one that keeps a state
/// (`nft_set_elem_expr_alloc`).
pub fn stateful(expression: Attributes<'_>) -> Expression {
    let name = expression.text(1).unwrap_or_default();
    writing::stateful(&name).unwrap_or(Expression::Unknown { name })
}

fn extension(name: &str, data: Attributes<'_>) -> Option<Expression> {
    let extension = || {
        Some(Extension {
            name: data.text(1)?,
            revision: u8::try_from(data.u32(2)?).ok()?,
            data: data.bytes(3)?.to_vec(),
        })
    };
    match name {
        "match" => extension().map(Expression::Match),
        "target" => extension().map(Expression::Target),
        _ => None,
    }
}

/// A register that holds data. The kernel names a 16-byte register by `NFT_REG_1` to `_4` and
/// any other word by `NFT_REG32_00` and so on (`nft_dump_register`).
fn register(data: Attributes<'_>, kind: u16) -> Option<Register> {
    match data.u32(kind)? {
        number @ 1..=4 => Some(Register((number as u8 - 1) * 4)),
        number @ 8..=23 => Some(Register(number as u8 - 8)),
        _ => None,
    }
}

/// Whether the attribute names the verdict register.
fn is_verdict_register(data: Attributes<'_>, kind: u16) -> bool {
    data.u32(kind) == Some(0)
}

/// The value of a data attribute (`NFTA_DATA_VALUE`).
pub fn value(data: Attributes<'_>, kind: u16) -> Option<Vec<u8>> {
    Some(data.nested(kind)?.bytes(1)?.to_vec())
}

/// The verdict of a data attribute (`NFTA_DATA_VERDICT`), null where there is none.
pub fn verdict(data: Attributes<'_>, kind: u16) -> Option<Expression> {
    let verdict = data.nested(kind)?.nested(2)?;
    let code = verdict.u32(1)?;
    let chain = || verdict.text(2);
    // NFT_CONTINUE is -1, and so on down to NFT_RETURN.
    Some(Expression::Verdict(match code as i32 {
        -1 => Verdict::Continue,
        -3 => Verdict::Jump(chain()?),
        -4 => Verdict::Goto(chain()?),
        -5 => Verdict::Return,
        0.. => return netfilter_verdict(code),
        _ => return None,
    }))
}

/// `NF_*` with its argument in the upper half (`include/uapi/linux/netfilter.h`).
fn netfilter_verdict(code: u32) -> Option<Expression> {
    const BYPASS: u32 = 0x8000;
    match code & 0xff {
        0 => Some(Expression::Verdict(Verdict::Drop)),
        1 => Some(Expression::Verdict(Verdict::Accept)),
        3 => Some(Expression::Terminal(Action::Queue {
            number: (code >> 16) as u16,
            bypass: code & BYPASS != 0,
        })),
        _ => None,
    }
}

/// The comment among a rule's user data: a list of type, length and value, of which type 0 is a
/// C string (`NFTNL_UDATA_RULE_COMMENT`).
pub fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return Some(text(value));
        }
        userdata = rest;
    }
    None
}

#[cfg(test)]
mod tests;
