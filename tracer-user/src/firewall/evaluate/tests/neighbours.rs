//! ARP and neighbour discovery.

use super::example::*;
use crate::case::{FilterFamily as Family, Hook};
use crate::firewall::evaluate::evaluate;
use crate::firewall::expression::{Expression, Operator, PayloadBase, Verdict};
use crate::firewall::packet::{Conntrack, Kind, Packet, State};
use crate::firewall::ruleset::Ruleset;
use crate::firewall::trial::Trial;

const L4PROTO: u32 = 16;
const REQUEST: Kind = Kind::Arp { reply: false };

fn arp(kind: Kind) -> Packet {
    Packet {
        kind,
        from: "10.0.0.1:0".parse().unwrap(),
        to: "10.0.0.2:0".parse().unwrap(),
        conntrack: Conntrack {
            state: Some(State::Invalid),
            ..Conntrack::default()
        },
        ..packet()
    }
}

fn solicitation() -> Packet {
    Packet {
        kind: Kind::Discovery {
            advertisement: false,
            target: "fd00::2".parse().unwrap(),
        },
        from: "[fd00::1]:0".parse().unwrap(),
        to: "[ff02::1:ff00:2]:0".parse().unwrap(),
        conntrack: Conntrack {
            state: Some(State::Untracked),
            ..Conntrack::default()
        },
        ..packet()
    }
}

/// One rule that drops where the bytes are `data`.
fn bytes_are(family: Family, base: PayloadBase, offset: u32, data: &[u8]) -> Ruleset {
    let asks = [
        Expression::Payload {
            base,
            offset,
            length: u32::try_from(data.len()).unwrap(),
            to: A,
        },
        Expression::Compare {
            operator: Operator::Equal,
            from: A,
            data: data.to_vec(),
        },
    ];
    dropping(family, &asks)
}

fn dropping(family: Family, asks: &[Expression]) -> Ruleset {
    let mut expressions = asks.to_vec();
    expressions.push(verdict(Verdict::Drop));
    let mut table = table(vec![input("in", vec![rule(expressions)])]);
    table.family = family;
    Ruleset {
        tables: vec![table],
        ..Ruleset::default()
    }
}

/// How many ends there are, and whether the first is certain.
fn told(trial: &Trial) -> (usize, bool) {
    let certain = trial.ends.first().is_some_and(|end| end.certain);
    (trial.ends.len(), certain)
}

fn met(ruleset: &Ruleset, packet: &Packet) -> (usize, bool) {
    told(&evaluate(ruleset, packet, Hook::Input, STOPS))
}

#[test]
fn arp_meets_chains_of_arp_alone() {
    for (family, stops) in [
        (Family::Arp, 1),
        (Family::Ip, 0),
        (Family::Inet, 0),
        (Family::Bridge, 0),
    ] {
        let ruleset = dropping(family, &[]);
        assert_eq!(met(&ruleset, &arp(REQUEST)).0, stops, "{family:?}");
    }
}

#[test]
fn operation_and_addresses_of_arp_are_known_and_those_of_the_hardware_are_not() {
    let asks = |offset, data: &[u8]| bytes_are(Family::Arp, PayloadBase::Network, offset, data);
    let reply = Kind::Arp { reply: true };
    for (offset, data, kind, expected) in [
        (6, &[0, 1][..], REQUEST, (1, true)),
        (6, &[0, 1], reply, (0, false)),
        (6, &[0, 2], reply, (1, true)),
        (14, &[10, 0, 0, 1], REQUEST, (1, true)),
        (24, &[10, 0, 0, 2], REQUEST, (1, true)),
        (24, &[10, 0, 0, 1], REQUEST, (0, false)),
        (8, &[2, 0, 0, 0, 0, 1], REQUEST, (1, false)),
    ] {
        assert_eq!(
            met(&asks(offset, data), &arp(kind)),
            expected,
            "{offset} {data:?} {kind:?}"
        );
    }
}

#[test]
fn arp_has_no_transport() {
    let port = bytes_are(Family::Arp, PayloadBase::Transport, 2, &[0, 0]);
    assert_eq!(met(&port, &arp(REQUEST)), (0, false));
    let asks = Expression::Meta {
        key: L4PROTO,
        to: A,
    };
    assert_eq!(
        met(&dropping(Family::Arp, &[asks]), &arp(REQUEST)),
        (0, false)
    );
}

#[test]
fn a_solicitation_is_icmpv6_with_its_type_and_target_and_no_segment() {
    let target = "fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
    for (base, offset, data, expected) in [
        (PayloadBase::Network, 6, &[58][..], (1, true)),
        (PayloadBase::Network, 6, &[6], (0, false)),
        (PayloadBase::Transport, 0, &[135], (1, true)),
        (PayloadBase::Transport, 0, &[136], (0, false)),
        (PayloadBase::Transport, 8, &target, (1, true)),
        // The checksum.
        (PayloadBase::Transport, 2, &[0, 0], (1, false)),
    ] {
        let ruleset = bytes_are(Family::Ip6, base, offset, data);
        assert_eq!(
            met(&ruleset, &solicitation()),
            expected,
            "{offset} {data:?}"
        );
    }
}
