//! Sets and maps, and their elements.

use crate::firewall::Expression;
use crate::firewall::ruleset::{Element, Set, Value};
use crate::host::packet_filter::attributes::Attributes;
use crate::host::packet_filter::expressions::{self, value, verdict};

const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
const OBJECT: u32 = 0x40;

/// A set without its elements.
pub struct Description {
    pub table: String,
    pub name: String,
    pub set: Set,
    /// Kind of the objects that it leads to (`NFT_OBJECT_*`), null where it leads to none.
    pub objects: Option<u32>,
}

/// Null where the message has no table, name or key length.
pub fn describe(attributes: Attributes<'_>) -> Option<Description> {
    let flags = attributes.u32(3).unwrap_or(0);
    let fields = attributes.nested(9).unwrap_or_default();
    Some(Description {
        table: attributes.text(1)?,
        name: attributes.text(2)?,
        set: Set {
            key_length: attributes.u32(5)?,
            fields: fields.list(2).filter_map(|field| field.u32(1)).collect(),
            is_map: flags & (MAP | OBJECT) != 0,
            intervals: flags & INTERVAL != 0,
            elements: Vec::new(),
            changes: flags & (TIMEOUT | DYNAMIC) != 0,
        },
        objects: attributes.u32(15).filter(|_| flags & OBJECT != 0),
    })
}

/// An element as it is dumped: of an interval, one of its ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Null for the catch-all element.
    key: Option<Vec<u8>>,
    /// Upper end of a concatenation of ranges.
    upper: Option<Vec<u8>>,
    /// The first key behind an interval.
    ends: bool,
    value: Option<Value>,
    expressions: Vec<Expression>,
}

/// Null for one without a key that is not the catch-all.
pub fn point(element: Attributes<'_>) -> Option<Point> {
    const END: u32 = 0x1;
    const CATCH_ALL: u32 = 0x2;
    let flags = element.u32(3).unwrap_or(0);
    let key = value(element, 1);
    if key.is_none() && flags & CATCH_ALL == 0 {
        return None;
    }
    let single = element.nested(7);
    Some(Point {
        key,
        upper: value(element, 10),
        ends: flags & END != 0,
        value: held(element),
        expressions: single
            .into_iter()
            .chain(element.list(11))
            .map(expressions::stateful)
            .collect(),
    })
}

fn held(element: Attributes<'_>) -> Option<Value> {
    if let Some(data) = value(element, 2) {
        return Some(Value::Data(data));
    }
    match verdict(element, 2)? {
        Expression::Verdict(verdict) => Some(Value::Verdict(verdict)),
        _ => None,
    }
}

/// Joins the ends of intervals. Returns the elements, and how many points made no sense.
pub fn elements(set: &Set, points: Vec<Point>) -> (Vec<Element>, usize) {
    let (bounds, whole): (Vec<Point>, Vec<Point>) = points.into_iter().partition(|point| {
        // Ranges of concatenations have both ends in one element (nft_pipapo).
        set.intervals && set.fields.len() <= 1 && point.key.is_some() && point.upper.is_none()
    });
    let mut odd = whole.iter().filter(|point| point.ends).count();
    let mut elements: Vec<Element> = whole
        .into_iter()
        .filter(|point| !point.ends)
        .map(|point| Element {
            range: point.key.map(|low| {
                let high = point.upper.unwrap_or_else(|| low.clone());
                (low, high)
            }),
            value: point.value,
            expressions: point.expressions,
        })
        .collect();
    odd += join(bounds, &mut elements);
    (elements, odd)
}

/// A tree of intervals is dumped in the order of the tree. The interval that a key is in is the
/// one of the last point at or before it, unless that is an end; of a start and an end at the
/// same key the start counts (`__nft_rbtree_lookup`). Returns how many are not joined: none.
fn join(mut points: Vec<Point>, to: &mut Vec<Element>) -> usize {
    points.sort_by(|one, other| (&one.key, !one.ends).cmp(&(&other.key, !other.ends)));
    let mut odd = 0;
    let mut points = points.into_iter().peekable();
    while let Some(point) = points.next() {
        let Some(low) = point.key.filter(|_| !point.ends) else {
            continue;
        };
        let next = points.peek().and_then(|next| next.key.as_deref());
        let high = match next {
            None => Some(vec![0xff; low.len()]),
            Some(next) => before(next),
        };
        match high.filter(|high| *high >= low) {
            Some(high) => to.push(Element {
                range: Some((low, high)),
                value: point.value,
                expressions: point.expressions,
            }),
            None => odd += 1,
        }
    }
    odd
}

/// The key below, null for the lowest.
fn before(key: &[u8]) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            return Some(key);
        }
    }
    None
}

#[cfg(test)]
mod tests;
