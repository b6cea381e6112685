use super::*;
use crate::{
    case::{Action, Backend, FilterFamily, Hook, Netns, RuleEnd},
    firewall::{
        Expression, Packet,
        expression::Verdict,
        packet::{Conntrack, Kind, Owner, Side},
        ruleset::{Base, Chain, ChainKind, Policy, Rule, Table},
    },
};

const HERE: Netns = 7;

fn rule(handle: u64, last: Expression) -> Rule {
    Rule {
        handle: Some(handle),
        position: 1,
        comment: None,
        packets: None,
        expressions: vec![last],
    }
}

/// INPUT with rules that drop by handle, one that rejects (9), and the policy to drop.
fn ruleset(handles: &[u64]) -> Ruleset {
    let drop = Expression::Verdict(Verdict::Drop);
    let mut rules: Vec<Rule> = handles.iter().map(|h| rule(*h, drop.clone())).collect();
    rules.push(rule(9, Expression::Terminal(Action::RejectWithReset)));
    let chain = Chain {
        name: "input".to_owned(),
        base: Some(Base {
            hook: Hook::Input,
            priority: 0,
            kind: ChainKind::Filter,
            devices: Vec::new(),
            policy: Policy::Drop,
            policy_packets: None,
        }),
        rules,
    };
    Ruleset {
        tables: vec![Table {
            backend: Backend::Nft,
            family: FilterFamily::Inet,
            name: "lab".to_owned(),
            dormant: false,
            chains: vec![chain],
            sets: Default::default(),
        }],
        ..Ruleset::default()
    }
}

/// The ends with these handles; null for the policy.
fn ends<'r>(ruleset: &'r Ruleset, handles: &[Option<u64>]) -> Vec<End<'r>> {
    let table = &ruleset.tables[0];
    let chain = &table.chains[0];
    handles
        .iter()
        .map(|handle| End {
            table,
            base_chain: chain,
            chain,
            rule: chain
                .rules
                .iter()
                .find(|rule| rule.handle == *handle && handle.is_some()),
            action: Action::Drop,
            certain: false,
        })
        .collect()
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

fn met(handles: &[u64]) -> RuleMet {
    RuleMet {
        by: RuleEnd::Drop,
        handles: handles.to_vec(),
        owner: None,
        around: None,
    }
}

/// Handles that are left, how they are known, and whether that was a surprise.
fn left(
    ruleset: &Ruleset,
    known: &[Option<u64>],
    rule: Option<&RuleMet>,
    met_none: bool,
) -> (Vec<Option<u64>>, KnownBy, bool) {
    let packets = vec![vec![packet()]];
    let question = Question {
        netns: HERE,
        hook: Hook::Input,
        answer: false,
        neighbour: None,
        purpose: Purpose::Stopped,
        kinds: &[ChainKind::Filter],
        packets: &packets,
        at: 1,
        generation: None,
        bridged: false,
        rule,
        met_none,
    };
    let narrowed = narrowed(ruleset, &question, Vec::new, ends(ruleset, known));
    let handles = narrowed.ends.iter();
    let handles = handles.map(|end| end.rule.and_then(|rule| rule.handle));
    (
        handles.collect(),
        narrowed.known_by,
        narrowed.disagreement.is_some(),
    )
}

const ALL: [Option<u64>; 4] = [Some(3), Some(4), Some(9), None];

#[test]
fn the_rule_that_was_met_is_left_alone() {
    let rules = ruleset(&[3, 4, 5]);
    let kernel = |handle| (vec![Some(handle)], KnownBy::Kernel, false);
    assert_eq!(left(&rules, &ALL, Some(&met(&[4, 77])), false), kernel(4));
    // What the evaluation does not lead to counts all the same, and is noted.
    assert_eq!(
        left(&rules, &ALL, Some(&met(&[5])), false),
        (vec![Some(5)], KnownBy::Kernel, true)
    );
}

#[test]
fn what_is_met_and_not_in_the_ruleset_says_nothing() {
    let rules = ruleset(&[3, 4, 5]);
    let all = (ALL.to_vec(), KnownBy::Evaluation, false);
    assert_eq!(left(&rules, &ALL, Some(&met(&[77])), true), all);
    // One that rejects is none that drops.
    assert_eq!(left(&rules, &ALL, Some(&met(&[9])), true), all);
    assert_eq!(left(&rules, &ALL, Some(&met(&[])), true), all);
    let several = (vec![Some(3), Some(4)], KnownBy::Evaluation, false);
    assert_eq!(left(&rules, &ALL, Some(&met(&[3, 4])), true), several);
}

#[test]
fn silence_leaves_what_would_not_have_been_seen() {
    let rules = ruleset(&[3, 4]);
    assert_eq!(
        left(&rules, &ALL, None, true),
        (vec![Some(9), None], KnownBy::Silence, false)
    );
    assert_eq!(
        left(&rules, &ALL, None, false),
        (ALL.to_vec(), KnownBy::Evaluation, false)
    );
    // Something else stopped the packet than what is known to be there.
    let drops = [Some(3), Some(4)];
    assert_eq!(
        left(&rules, &drops, None, true),
        (drops.to_vec(), KnownBy::Evaluation, false)
    );
}
