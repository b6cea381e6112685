//! How a packet goes through chains.

use std::time::{Duration, Instant};

use super::example::*;
use crate::case::{Action, FilterFamily as Family, Hook};
use crate::firewall::evaluate::{evaluate, evaluate_bridged};
use crate::firewall::expression::{Expression, Verdict};
use crate::firewall::packet::{Conntrack, Packet, Side, State};
use crate::firewall::ruleset::{Chain, ChainKind, Policy, Ruleset};
use Verdict::{Accept, Drop, Goto, Return};

const MARK: u32 = 3;
const CT_STATE: u32 = 0;

fn only(chain: &str, position: u32) -> Vec<(&str, u32, bool)> {
    vec![(chain, position, true)]
}

#[test]
fn a_rule_ends_at_the_first_condition_that_does_not_hold() {
    let mut not_marked = meta_is(MARK, 7).to_vec();
    not_marked.push(verdict(Drop));
    let mut unmarked = meta_is(MARK, 0).to_vec();
    unmarked.push(verdict(Drop));
    let ruleset = ruleset(vec![input("in", vec![rule(not_marked), rule(unmarked)])]);
    let trial = at_input(&ruleset);
    assert_eq!(ends(&trial), only("in", 2));
    assert!(!trial.may_pass);
    assert!(trial.doubts.is_empty());
}

#[test]
fn a_chain_returns_to_where_it_was_called() {
    let called = chain("c", vec![rule(vec![verdict(Return)]), drops()]);
    let ruleset = ruleset(vec![input("in", vec![jumps("c"), drops()]), called]);
    assert_eq!(ends(&at_input(&ruleset)), only("in", 2));
}

#[test]
fn after_a_goto_the_caller_s_caller_goes_on() {
    let goes = rule(vec![verdict(Goto("d".to_owned()))]);
    let chains = vec![
        input("in", vec![jumps("c"), drops()]),
        chain("c", vec![goes, drops()]),
        chain("d", Vec::new()),
    ];
    assert_eq!(ends(&at_input(&ruleset(chains))), only("in", 2));
}

#[test]
fn the_policy_decides_at_the_end_of_the_base_chain() {
    let mut last = input("in", vec![rule(vec![verdict(Return)]), drops()]);
    last.base = Some(base(Hook::Input, 0, Policy::Drop));
    let ruleset = ruleset(vec![last]);
    let trial = at_input(&ruleset);
    assert_eq!(ends(&trial), only("in", 0));
    assert_eq!(trial.ends[0].action, Action::Drop);
}

#[test]
fn accept_ends_one_base_chain_and_the_next_goes_on() {
    let mut later = input("later", vec![drops()]);
    later.base = Some(base(Hook::Input, 10, Policy::Accept));
    let first = input("first", vec![rule(vec![verdict(Accept)]), drops()]);
    // The order in which they stand is not that of their priorities.
    assert_eq!(
        ends(&at_input(&ruleset(vec![later, first]))),
        only("later", 1)
    );
}

#[test]
fn of_one_table_the_chain_registered_last_comes_first() {
    let chains = vec![input("old", vec![drops()]), input("new", vec![drops()])];
    assert_eq!(ends(&at_input(&ruleset(chains))), only("new", 1));
}

#[test]
fn the_order_of_tables_at_one_priority_is_not_known() {
    let ruleset = Ruleset {
        tables: vec![
            table(vec![input("one", vec![drops()])]),
            table(vec![input("two", vec![drops()])]),
        ],
        ..Ruleset::default()
    };
    let trial = at_input(&ruleset);
    assert_eq!(ends(&trial), [("one", 1, false), ("two", 1, false)]);
    assert!(!trial.may_pass);
}

#[test]
fn what_is_not_known_is_followed_both_ways() {
    let ruleset = ruleset(vec![input("in", vec![sometimes(Drop), drops()])]);
    let trial = at_input(&ruleset);
    assert_eq!(ends(&trial), [("in", 1, false), ("in", 2, false)]);
    assert!(!trial.may_pass);
    let doubt = "rule handle 1 of chain t in depends on limit, which is not known";
    assert_eq!(trial.doubts.iter().collect::<Vec<_>>(), [doubt]);
}

#[test]
fn an_undecided_rule_that_does_nothing_leaves_no_doubt() {
    let name = "limit".to_owned();
    let logs = Expression::Statement {
        name: "log".to_owned(),
    };
    let sometimes_logs = rule(vec![Expression::Sometimes { name }, logs]);
    let ruleset = ruleset(vec![input("in", vec![sometimes_logs, drops()])]);
    let trial = at_input(&ruleset);
    assert_eq!(ends(&trial), only("in", 2));
    assert!(trial.doubts.is_empty());
}

#[test]
fn a_mark_that_may_have_been_set_is_not_known() {
    let name = "limit".to_owned();
    let mut marks = vec![Expression::Sometimes { name }];
    marks.extend(sets_mark(7));
    let mut marked = meta_is(MARK, 7).to_vec();
    marked.push(verdict(Drop));
    let surely = input(
        "in",
        vec![rule(sets_mark(7).to_vec()), rule(marked.clone())],
    );
    assert_eq!(ends(&at_input(&ruleset(vec![surely]))), only("in", 2));
    let perhaps = ruleset(vec![input("in", vec![rule(marks), rule(marked)])]);
    let trial = at_input(&perhaps);
    assert_eq!(ends(&trial), [("in", 2, false)]);
    assert!(trial.may_pass);
}

#[test]
fn a_queue_is_an_end_though_its_reader_can_let_the_packet_go_on() {
    let queue = Action::Queue {
        number: 1,
        bypass: false,
    };
    let queues = || rule(vec![Expression::Terminal(queue.clone())]);
    let alone = ruleset(vec![input("in", vec![queues()])]);
    let trial = at_input(&alone);
    assert_eq!(ends(&trial), only("in", 1));
    assert!(trial.may_pass);
    let mut later = input("later", vec![drops()]);
    later.base = Some(base(Hook::Input, 10, Policy::Accept));
    let followed = ruleset(vec![input("in", vec![queues()]), later]);
    let trial = at_input(&followed);
    assert_eq!(ends(&trial), [("in", 1, false), ("later", 1, false)]);
}

fn asks_state(bits: u32) -> Chain {
    let load = Expression::Conntrack {
        key: CT_STATE,
        direction: None,
        to: A,
    };
    let [_, compare] = meta_is(0, bits);
    input("in", vec![rule(vec![load, compare, verdict(Drop)])])
}

#[test]
fn the_state_is_that_of_the_connection() {
    for (state, bits) in [
        (State::Invalid, 1),
        (State::Established, 2),
        (State::Related, 4),
        (State::New, 8),
        (State::Untracked, 64),
    ] {
        let ruleset = ruleset(vec![asks_state(bits)]);
        let conntrack = Conntrack {
            state: Some(state),
            ..Conntrack::default()
        };
        let packet = Packet {
            conntrack,
            ..packet()
        };
        let trial = evaluate(&ruleset, &packet, Hook::Input, STOPS);
        assert_eq!(ends(&trial), only("in", 1), "{state:?}");
    }
}

#[test]
fn before_connection_tracking_a_packet_has_no_state_but_on_loopback() {
    let early = |bits| {
        let mut chain = asks_state(bits);
        chain.base = Some(base(Hook::Prerouting, -300, Policy::Accept));
        ruleset(vec![chain])
    };
    let prerouting = |ruleset: &Ruleset, packet: &Packet| {
        evaluate(ruleset, packet, Hook::Prerouting, STOPS)
            .ends
            .len()
    };
    let (invalid, new) = (early(1), early(8));
    assert_eq!(prerouting(&invalid, &packet()), 1);
    assert_eq!(prerouting(&new, &packet()), 0);
    let input = Side::Device {
        index: 1,
        name: "lo".to_owned(),
    };
    let looped = Packet { input, ..packet() };
    assert_eq!(prerouting(&invalid, &looped), 0);
    assert_eq!(prerouting(&new, &looped), 1);
}

#[test]
fn a_packet_that_is_not_to_be_tracked_stays_untracked() {
    let name = "notrack".to_owned();
    let mut raw = chain("raw", vec![rule(vec![Expression::Statement { name }])]);
    raw.base = Some(base(Hook::Prerouting, -300, Policy::Accept));
    let mut later = asks_state(64);
    later.base = Some(base(Hook::Prerouting, 0, Policy::Accept));
    let ruleset = ruleset(vec![raw, later]);
    let trial = evaluate(&ruleset, &packet(), Hook::Prerouting, STOPS);
    assert_eq!(ends(&trial), only("in", 1));
}

fn translating() -> Ruleset {
    let target = [Expression::Immediate {
        data: vec![10, 0, 0, 9],
        to: A,
    }];
    let nat = Expression::Nat {
        destination: true,
        redirect: false,
        address: Some(A),
        port: None,
    };
    let mut chain = chain(
        "nat",
        vec![rule([target.to_vec(), vec![nat]].concat()), drops()],
    );
    let mut base = base(Hook::Prerouting, -100, Policy::Accept);
    base.kind = ChainKind::Nat;
    chain.base = Some(base);
    ruleset(vec![chain])
}

#[test]
fn a_translation_is_an_end_where_translations_are_asked_for() {
    let ruleset = translating();
    let trial = evaluate(&ruleset, &packet(), Hook::Prerouting, &[ChainKind::Nat]);
    let to = Some("10.0.0.9:80".parse().unwrap());
    assert_eq!(trial.ends[0].action, Action::Translate { to });
    assert_eq!(ends(&trial), only("nat", 1));
    let trial = evaluate(&ruleset, &packet(), Hook::Prerouting, STOPS);
    assert!(trial.ends.is_empty() && trial.may_pass);
}

#[test]
fn chains_of_the_kind_nat_are_for_first_packets() {
    let ruleset = translating();
    let mut packet = packet();
    packet.conntrack.state = Some(State::Established);
    let trial = evaluate(&ruleset, &packet, Hook::Prerouting, &[ChainKind::Nat]);
    assert!(trial.ends.is_empty());
    packet.conntrack.state = None;
    let trial = evaluate(&ruleset, &packet, Hook::Prerouting, &[ChainKind::Nat]);
    assert_eq!(ends(&trial), [("nat", 1, false)]);
}

#[test]
fn tables_of_other_families_and_dormant_ones_do_not_count() {
    let of = |family, dormant| {
        let mut table = table(vec![input("in", vec![drops()])]);
        table.family = family;
        table.dormant = dormant;
        Ruleset {
            tables: vec![table],
            ..Ruleset::default()
        }
    };
    for (family, stops) in [
        (Family::Ip, true),
        (Family::Inet, true),
        (Family::Ip6, false),
        (Family::Arp, false),
        (Family::Bridge, false),
        (Family::Netdev, false),
    ] {
        assert_eq!(
            at_input(&of(family, false)).ends.len() == 1,
            stops,
            "{family:?}"
        );
        assert!(at_input(&of(family, true)).ends.is_empty());
    }
    let bridged = of(Family::Bridge, false);
    let trial = evaluate_bridged(&bridged, &packet(), Hook::Input, STOPS);
    assert_eq!(trial.ends.len(), 1);
}

#[test]
fn chains_at_ingress_are_for_their_interfaces() {
    let mut chain = chain("in", vec![drops()]);
    let mut base = base(Hook::Ingress, 0, Policy::Accept);
    base.devices = vec!["eth0".to_owned()];
    chain.base = Some(base);
    let mut table = table(vec![chain]);
    table.family = Family::Netdev;
    let ruleset = Ruleset {
        tables: vec![table],
        ..Ruleset::default()
    };
    let met = |input| {
        let packet = Packet { input, ..packet() };
        evaluate(&ruleset, &packet, Hook::Ingress, STOPS).ends.len()
    };
    let device = |name: &str| Side::Device {
        index: 2,
        name: name.to_owned(),
    };
    assert_eq!(met(device("eth0")), 1);
    assert_eq!(met(device("eth1")), 0);
    assert_eq!(met(Side::Unknown), 1);
}

/// Each chain calls the next one twice, undecided: 2^40 ways.
#[test]
fn undecided_jumps_do_not_multiply() {
    let mut chains = vec![input("in", vec![jumps("c0"), drops()])];
    for number in 0..40 {
        let next = Verdict::Jump(format!("c{}", number + 1));
        let rules = vec![sometimes(next.clone()), sometimes(next), sometimes(Drop)];
        chains.push(chain(&format!("c{number}"), rules));
    }
    chains.push(chain("c40", vec![sometimes(Drop)]));
    let ruleset = ruleset(chains);
    let trial = at_input(&ruleset);
    assert_eq!(trial.ends.len(), 42);
}

/// It takes 14 ms in a debug build; the bound only tells that it is not quadratic.
#[test]
fn ten_thousand_rules_take_no_time_to_speak_of() {
    let rules = (1..=10_000)
        .map(|value| {
            let mut expressions = meta_is(MARK, value).to_vec();
            expressions.push(verdict(Drop));
            rule(expressions)
        })
        .collect();
    let ruleset = ruleset(vec![input("in", rules)]);
    let start = Instant::now();
    assert!(at_input(&ruleset).ends.is_empty());
    assert!(start.elapsed() < Duration::from_secs(1));
}
