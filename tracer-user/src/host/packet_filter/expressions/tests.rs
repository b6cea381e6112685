use proptest::prelude::*;

use super::*;
use crate::case::Icmp;
use crate::firewall::expression::{Operator, PayloadBase};

/// An attribute, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn data(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind, &attribute(1, value))
}

fn expression(name: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    [
        attribute(1, name.as_bytes()),
        attribute(2, &attributes.concat()),
    ]
    .concat()
}

fn decoded(family: Family, expressions: &[Vec<u8>]) -> Vec<Expression> {
    let objects = HashMap::new();
    let object_maps = HashMap::new();
    let around = Surroundings {
        family,
        objects: &objects,
        object_maps: &object_maps,
    };
    all(expressions.iter().map(|bytes| Attributes(bytes)), around)
}

#[test]
fn registers_are_words_whichever_way_they_are_numbered() {
    let load = |to| {
        let attributes = [number(1, to), number(2, 2), number(3, 2), number(4, 2)];
        expression("payload", &attributes)
    };
    let found = decoded(Family::Ip, &[load(1), load(2), load(9), load(0), load(99)]);
    let to = |word| Expression::Payload {
        base: PayloadBase::Transport,
        offset: 2,
        length: 2,
        to: Register(word),
    };
    let unknown = Expression::Unknown {
        name: "payload".to_owned(),
    };
    assert_eq!(found, [to(0), to(4), to(1), unknown.clone(), unknown]);
}

#[test]
fn a_reject_is_of_the_version_that_the_rule_is_for() {
    let load = expression("meta", &[number(1, 1), number(2, 15)]);
    let compare = expression("cmp", &[number(1, 1), number(2, 0), data(3, &[10])]);
    let reject = expression("reject", &[number(1, 2), attribute(2, &[3])]);
    let icmp = |kind, code, v6| {
        Expression::Terminal(Action::RejectWithIcmp {
            icmp: Icmp { kind, code, v6 },
        })
    };
    let last = |family, rule: &[Vec<u8>]| decoded(family, rule).pop();
    assert_eq!(
        last(Family::Inet, &[load, compare, reject.clone()]),
        Some(icmp(1, 1, true))
    );
    assert_eq!(
        last(Family::Inet, std::slice::from_ref(&reject)),
        Some(icmp(3, 13, false))
    );
    assert_eq!(last(Family::Ip6, &[reject]), Some(icmp(1, 1, true)));
}

#[test]
fn bitwise_is_a_mask_where_its_operands_are_constants() {
    let bitwise = |rest: &[Vec<u8>]| {
        let registers = [number(1, 1), number(2, 1), number(3, 1)].concat();
        expression("bitwise", &[registers, rest.concat()])
    };
    let found = decoded(
        Family::Ip,
        &[
            bitwise(&[data(4, &[0xf0]), data(5, &[1])]),
            bitwise(&[number(6, 1), data(7, &3_u32.to_ne_bytes())]),
            bitwise(&[number(6, 4), data(7, &[0x0f])]),
            bitwise(&[number(6, 3), number(8, 2)]),
        ],
    );
    let zero = Register(0);
    let mask = |mask, xor| Expression::Mask {
        from: zero,
        to: zero,
        mask: vec![mask],
        xor: vec![xor],
    };
    let shift = Expression::Shift {
        from: zero,
        to: zero,
        length: 1,
        left: true,
        bits: 3,
    };
    let unknowable = Expression::Unknowable {
        name: "bitwise".to_owned(),
        to: zero,
        length: 1,
    };
    assert_eq!(found, [mask(0xf0, 1), shift, mask(0xf0, 0x0f), unknowable]);
}

#[test]
fn an_unheard_of_expression_keeps_its_name_and_its_neighbours() {
    let compare = expression("cmp", &[number(1, 1), number(2, 1), data(3, &[6])]);
    let found = decoded(Family::Ip, &[expression("novelty", &[]), compare]);
    assert_eq!(
        found,
        [
            Expression::Unknown {
                name: "novelty".to_owned()
            },
            Expression::Compare {
                operator: Operator::NotEqual,
                from: Register(0),
                data: vec![6]
            }
        ]
    );
}

#[test]
fn a_queue_may_be_a_verdict() {
    let queued = expression(
        "immediate",
        &[
            number(1, 0),
            attribute(2, &attribute(2, &number(1, 7 << 16 | 0x8003))),
        ],
    );
    let action = Action::Queue {
        number: 7,
        bypass: true,
    };
    let found = decoded(Family::Ip, &[queued]);
    assert_eq!(found, [Expression::Terminal(action)]);
}

#[test]
fn a_comment_is_found_among_other_user_data() {
    assert_eq!(comment(b"\x07\x01x\x00\x03hi\x00").as_deref(), Some("hi"));
    assert_eq!(comment(b"\x00\x09hi"), None);
}

const NAMES: [&str; 20] = [
    "payload",
    "meta",
    "ct",
    "fib",
    "immediate",
    "cmp",
    "range",
    "bitwise",
    "byteorder",
    "lookup",
    "exthdr",
    "inner",
    "dynset",
    "objref",
    "reject",
    "queue",
    "nat",
    "redir",
    "match",
    "target",
];

proptest! {
    #[test]
    fn any_attributes_of_any_expression_are_decoded(
        name in prop::sample::select(NAMES.to_vec()),
        values in prop::collection::vec((0..12_u16, prop::collection::vec(any::<u8>(), 0..24)), 0..12),
    ) {
        let attributes: Vec<Vec<u8>> =
            values.iter().map(|(kind, value)| attribute(*kind, value)).collect();
        let found = decoded(Family::Inet, &[expression(name, &attributes)]);
        prop_assert!(!found.is_empty());
    }

    #[test]
    fn any_bytes_are_decoded(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decoded(Family::Inet, std::slice::from_ref(&bytes));
        comment(&bytes);
    }
}
