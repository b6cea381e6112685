//! Rulesets and packets to start from.

use std::collections::HashMap;

use crate::case::{Backend, FilterFamily as Family, Hook};
use crate::firewall::evaluate::evaluate;
use crate::firewall::expression::{Expression, Operator, Register, Verdict};
use crate::firewall::packet::{Conntrack, Kind, Owner, Packet, Side, State};
use crate::firewall::ruleset::{Base, Chain, ChainKind, Policy, Rule, Ruleset, Table};
use crate::firewall::trial::Trial;

pub const A: Register = Register(0);
pub const STOPS: &[ChainKind] = &[ChainKind::Filter, ChainKind::Route];

pub fn packet() -> Packet {
    Packet {
        kind: Kind::Segment,
        from: "10.0.0.1:40000".parse().unwrap(),
        to: "10.0.0.2:80".parse().unwrap(),
        from_local: None,
        to_local: None,
        flags: 2,
        sequence: 1,
        ttl: Some(64),
        mark: Some(0),
        input: Side::Device {
            index: 2,
            name: "eth0".to_owned(),
        },
        output: Side::Absent,
        owner: Owner::Absent,
        conntrack: Conntrack {
            state: Some(State::New),
            original: Some(true),
            mark: None,
            destination_translated: Some(false),
            dialled: None,
        },
    }
}

pub fn rule(expressions: Vec<Expression>) -> Rule {
    Rule {
        handle: None,
        position: 0,
        comment: None,
        packets: None,
        expressions,
    }
}

/// Rules are numbered as they stand, handles by chain and position.
pub fn chain(name: &str, mut rules: Vec<Rule>) -> Chain {
    for (rule, position) in rules.iter_mut().zip(1..) {
        rule.position = position;
        rule.handle = Some(u64::from(position));
    }
    Chain {
        name: name.to_owned(),
        base: None,
        rules,
    }
}

pub fn base(hook: Hook, priority: i32, policy: Policy) -> Base {
    Base {
        hook,
        priority,
        kind: ChainKind::Filter,
        devices: Vec::new(),
        policy,
        policy_packets: None,
    }
}

/// At INPUT with priority 0 and the policy accept.
pub fn input(name: &str, rules: Vec<Rule>) -> Chain {
    Chain {
        base: Some(base(Hook::Input, 0, Policy::Accept)),
        ..chain(name, rules)
    }
}

pub fn table(chains: Vec<Chain>) -> Table {
    Table {
        backend: Backend::Nft,
        family: Family::Inet,
        name: "t".to_owned(),
        dormant: false,
        chains,
        sets: HashMap::new(),
    }
}

pub fn ruleset(chains: Vec<Chain>) -> Ruleset {
    Ruleset {
        tables: vec![table(chains)],
        ..Ruleset::default()
    }
}

pub fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

pub fn drops() -> Rule {
    rule(vec![verdict(Verdict::Drop)])
}

pub fn jumps(name: &str) -> Rule {
    rule(vec![verdict(Verdict::Jump(name.to_owned()))])
}

/// Holds for some packets only.
pub fn sometimes(then: Verdict) -> Rule {
    let name = "limit".to_owned();
    rule(vec![Expression::Sometimes { name }, verdict(then)])
}

/// `meta KEY == value`, the value in host byte order.
pub fn meta_is(key: u32, value: u32) -> [Expression; 2] {
    let compare = Expression::Compare {
        operator: Operator::Equal,
        from: A,
        data: value.to_ne_bytes().to_vec(),
    };
    [Expression::Meta { key, to: A }, compare]
}

pub fn sets_mark(value: u32) -> [Expression; 2] {
    let immediate = Expression::Immediate {
        data: value.to_ne_bytes().to_vec(),
        to: A,
    };
    [immediate, Expression::SetMark { from: A }]
}

pub fn at_input(ruleset: &Ruleset) -> Trial<'_> {
    evaluate(ruleset, &packet(), Hook::Input, STOPS)
}

/// Chain and position of each end, 0 for a policy, and whether it is certain.
pub fn ends<'r>(trial: &Trial<'r>) -> Vec<(&'r str, u32, bool)> {
    let ends = trial.ends.iter();
    ends.map(|end| {
        let position = end.rule.map_or(0, |rule| rule.position);
        (end.chain.name.as_str(), position, end.certain)
    })
    .collect()
}
