use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::case::{Backend, FilterFamily as Family};
use crate::firewall::packet::{Conntrack, Kind, Owner, Side};
use crate::firewall::ruleset::{ChainKind, Policy};

const DROP: Expression = Expression::Verdict(Verdict::Drop);
const RESET: Expression = Expression::Terminal(Action::RejectWithReset);

fn rule(handle: u64, last: Expression) -> Rule {
    Rule {
        handle: Some(handle),
        position: 1,
        comment: None,
        packets: None,
        expressions: vec![last],
    }
}

fn jump(handle: u64, chain: &str) -> Rule {
    rule(handle, Expression::Verdict(Verdict::Jump(chain.to_owned())))
}

fn chain(name: &str, hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
    let base = hook.map(|hook| Base {
        hook,
        priority: 0,
        kind: ChainKind::Filter,
        devices: Vec::new(),
        policy: Policy::Accept,
        policy_packets: None,
    });
    Chain {
        name: name.to_owned(),
        base,
        rules,
    }
}

fn table(name: &str, family: Family, chains: Vec<Chain>) -> Table {
    Table {
        backend: Backend::Nft,
        family,
        name: name.to_owned(),
        dormant: false,
        chains,
        sets: HashMap::new(),
    }
}

fn ruleset(tables: Vec<Table>) -> Ruleset {
    Ruleset {
        tables,
        ..Ruleset::default()
    }
}

fn packet() -> Packet {
    Packet {
        kind: Kind::Segment,
        from: "10.0.0.1:40000".parse().expect("address"),
        to: "10.0.0.2:80".parse().expect("address"),
        from_local: None,
        to_local: None,
        flags: 2,
        sequence: 1,
        ttl: None,
        mark: None,
        input: Side::Unknown,
        output: Side::Unknown,
        owner: Owner::Unknown,
        conntrack: Conntrack::default(),
    }
}

fn met(by: RuleEnd, handles: &[u64]) -> RuleMet {
    RuleMet {
        by,
        handles: handles.to_vec(),
        owner: None,
        around: None,
    }
}

/// Table, chain and handle of each candidate at INPUT.
fn found(ruleset: &Ruleset, met: &RuleMet) -> Vec<(String, String, u64)> {
    candidates(ruleset, met, &packet(), Hook::Input, false)
        .iter()
        .map(|end| {
            let handle = end.rule.and_then(|rule| rule.handle).unwrap_or_default();
            (end.table.name.clone(), end.chain.name.clone(), handle)
        })
        .collect()
}

fn lab() -> Ruleset {
    let input = vec![jump(2, "deep"), rule(3, DROP), rule(4, RESET)];
    ruleset(vec![table(
        "lab",
        Family::Inet,
        vec![
            chain("input", Some(Hook::Input), input),
            chain("output", Some(Hook::Output), vec![rule(5, DROP)]),
            chain("deep", None, vec![jump(6, "input"), rule(7, DROP)]),
            chain("unreached", None, vec![rule(8, DROP)]),
        ],
    )])
}

#[test]
fn a_rule_counts_where_the_packet_can_come_to_it_and_it_ends_like_that() {
    let rules = lab();
    let all: Vec<u64> = (0..20).collect();
    let place = |chain: &str, handle| ("lab".to_owned(), chain.to_owned(), handle);
    assert_eq!(
        found(&rules, &met(RuleEnd::Drop, &all)),
        [place("input", 3), place("deep", 7)]
    );
    assert_eq!(
        found(&rules, &met(RuleEnd::Reject, &all)),
        [place("input", 4)]
    );
    assert_eq!(found(&rules, &met(RuleEnd::RejectTarget, &all)), []);
    for not_here in [5, 8, 9] {
        assert_eq!(found(&rules, &met(RuleEnd::Drop, &[not_here])), []);
    }
}

#[test]
fn the_owner_tells_two_rules_of_one_handle_apart() {
    let alike = |name, family| {
        let input = chain("input", Some(Hook::Input), vec![rule(3, DROP)]);
        table(name, family, vec![input])
    };
    let long = "t".repeat(200);
    let rules = ruleset(vec![
        alike("one", Family::Inet),
        alike("one", Family::Ip),
        alike(&long, Family::Ip),
        alike("one", Family::Arp),
    ]);
    let mut met = met(RuleEnd::Drop, &[3]);
    assert_eq!(found(&rules, &met).len(), 3);
    let owner = |family, table: &str| RuleOwner {
        family,
        table: table.to_owned(),
        chain: "input".to_owned(),
    };
    met.owner = Some(owner(Family::Ip, "one"));
    assert_eq!(
        found(&rules, &met),
        [("one".to_owned(), "input".to_owned(), 3)]
    );
    met.owner = Some(owner(Family::Ip, &long[..RuleOwner::NAME]));
    assert_eq!(found(&rules, &met).len(), 1);
    met.owner = Some(owner(Family::Ip, &long[..8]));
    assert_eq!(found(&rules, &met).len(), 0);
}

#[test]
fn a_rule_that_a_map_may_end_is_not_seen_to_drop() {
    assert!(drops_visibly(&rule(3, DROP)));
    assert!(!drops_visibly(&rule(3, RESET)));
    let mut mapped = rule(3, DROP);
    mapped.expressions.insert(
        0,
        Expression::Lookup {
            set: "verdicts".to_owned(),
            from: crate::firewall::expression::Register(0),
            to: None,
            verdict: true,
            negated: false,
        },
    );
    assert!(!drops_visibly(&mapped));
    let legacy = Rule {
        handle: None,
        ..rule(3, DROP)
    };
    assert!(!drops_visibly(&legacy));
}

proptest! {
    #[test]
    fn chains_that_lead_anywhere_come_to_an_end(
        jumps in prop::collection::vec((0..6_usize, 0..6_usize), 0..20),
        handles in prop::collection::vec(0..40_u64, 0..8),
    ) {
        let names: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
        let chains = names.iter().enumerate().map(|(number, name)| {
            let own = jumps.iter().filter(|(from, _)| *from == number);
            let mut rules: Vec<Rule> = own.map(|(_, to)| jump(30, &names[*to])).collect();
            rules.push(rule(number as u64, DROP));
            chain(name, (number == 0).then_some(Hook::Input), rules)
        });
        let rules = ruleset(vec![table("lab", Family::Ip, chains.collect())]);
        let found = found(&rules, &met(RuleEnd::Drop, &handles));
        prop_assert!(found.len() <= 6);
        prop_assert_eq!(found.iter().any(|(_, _, handle)| *handle == 0), handles.contains(&0));
    }
}
