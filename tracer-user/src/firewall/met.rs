//! Which rule of a ruleset the kernel evaluated, told from where its last expression lies.
//!
//! The memory before the expression only suggests handles: data of expressions can look like the
//! head of a rule. What is suggested counts where the ruleset has a rule with that handle which
//! the packet can have come to and which ends like that.

mod place;

pub use place::handles;

use std::collections::{HashMap, HashSet};

use crate::case::{Action, Backend, FilterFamily, Hook, RuleEnd, RuleMet, RuleOwner};
use crate::firewall::evaluate::families;
use crate::firewall::expression::{Expression, Verdict};
use crate::firewall::packet::Packet;
use crate::firewall::ruleset::{Base, Chain, Rule, Ruleset, Set, Table, Value};
use crate::firewall::trial::End;
use crate::firewall::xt::{self, TargetEffect};

/// Name of the target of iptables that rejects.
const REJECT: &str = "REJECT";

/// The rules of nftables that `met` can be, of those that a packet at the hook can come to; each
/// once for every base chain that leads to it.
pub fn candidates<'r>(
    ruleset: &'r Ruleset,
    met: &RuleMet,
    packet: &Packet,
    hook: Hook,
    bridged: bool,
) -> Vec<End<'r>> {
    let families = families(packet, hook, bridged);
    let tables = ruleset.tables.iter();
    tables
        .filter(|table| !table.dormant && families.contains(&table.family))
        .flat_map(|table| {
            ends_in(table, packet, hook, |chain, rule| {
                is_of(met.owner.as_ref(), table, chain)
                    && has_handle(rule, met)
                    && ends_like(rule, met.by)
            })
        })
        .collect()
}

/// The place of a rule of legacy iptables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub family: FilterFamily,
    pub table: String,
    pub chain: String,
    /// One-based.
    pub position: u32,
}

/// The rules at any of these places that reject, of those that a packet at the hook can come to.
pub fn at_places<'r>(
    ruleset: &'r Ruleset,
    places: &[Place],
    packet: &Packet,
    hook: Hook,
) -> Vec<End<'r>> {
    let is_there = |table: &Table, chain: &Chain, rule: &Rule| {
        places.iter().any(|place| {
            place.family == table.family
                && place.table == table.name
                && place.chain == chain.name
                && place.position == rule.position
        })
    };
    let tables = ruleset.tables.iter();
    tables
        .filter(|table| table.backend == Backend::IptablesLegacy)
        .flat_map(|table| {
            ends_in(table, packet, hook, |chain, rule| {
                is_there(table, chain, rule) && ends_like(rule, RuleEnd::RejectTarget)
            })
        })
        .collect()
}

/// Whether the rule ends in a verdict to drop that `nft_immediate_eval` gives, and in no other
/// way.
pub fn drops_visibly(rule: &Rule) -> bool {
    let may_decide_before = |expression: &Expression| {
        matches!(
            expression,
            Expression::Lookup { verdict: true, .. } | Expression::Unknown { .. }
        )
    };
    rule.handle.is_some()
        && ends_like(rule, RuleEnd::Drop)
        && !rule.expressions.iter().any(may_decide_before)
}

fn ends_in<'r>(
    table: &'r Table,
    packet: &Packet,
    hook: Hook,
    fits: impl Fn(&Chain, &Rule) -> bool,
) -> Vec<End<'r>> {
    let by_name = table
        .chains
        .iter()
        .map(|chain| (chain.name.as_str(), chain));
    let by_name: HashMap<&str, &Chain> = by_name.collect();
    let is_here = |base: &Base| base.hook == hook;
    let bases = table.chains.iter();
    let bases = bases.filter(|chain| chain.base.as_ref().is_some_and(is_here));
    let mut ends = Vec::new();
    for base_chain in bases {
        for chain in reached(table, base_chain, &by_name) {
            let fitting = chain.rules.iter().filter(|rule| fits(chain, rule));
            ends.extend(fitting.filter_map(|rule| {
                Some(End {
                    table,
                    base_chain,
                    chain,
                    rule: Some(rule),
                    action: action(rule, packet, table, hook)?,
                    certain: true,
                })
            }));
        }
    }
    ends
}

fn has_handle(rule: &Rule, met: &RuleMet) -> bool {
    rule.handle
        .is_some_and(|handle| met.handles.contains(&handle))
}

fn is_of(owner: Option<&RuleOwner>, table: &Table, chain: &Chain) -> bool {
    let is_named = |known: &str, name: &str| {
        known == name || known.len() >= RuleOwner::NAME && name.starts_with(known)
    };
    owner.is_none_or(|owner| {
        owner.family == table.family
            && is_named(&owner.table, &table.name)
            && is_named(&owner.chain, &chain.name)
    })
}

fn ends_like(rule: &Rule, end: RuleEnd) -> bool {
    match (rule.expressions.last(), end) {
        (Some(Expression::Verdict(Verdict::Drop)), RuleEnd::Drop) => true,
        (Some(Expression::Terminal(action)), RuleEnd::Reject) => matches!(
            action,
            Action::RejectWithReset | Action::RejectWithIcmp { .. }
        ),
        (Some(Expression::Target(target)), RuleEnd::RejectTarget) => target.name == REJECT,
        _ => false,
    }
}

fn action(rule: &Rule, packet: &Packet, table: &Table, hook: Hook) -> Option<Action> {
    match rule.expressions.last()? {
        Expression::Verdict(_) => Some(Action::Drop),
        Expression::Terminal(action) => Some(action.clone()),
        Expression::Target(target) => match xt::target(target, packet, table.family, hook) {
            TargetEffect::Ends(action) => Some(action),
            _ => None,
        },
        _ => None,
    }
}

/// The chains to which a base chain leads, itself first, whatever their conditions.
fn reached<'r>(
    table: &'r Table,
    base: &'r Chain,
    by_name: &HashMap<&str, &'r Chain>,
) -> Vec<&'r Chain> {
    let mut known: HashSet<&str> = HashSet::from([base.name.as_str()]);
    let mut chains = vec![base];
    let mut next = 0;
    while let Some(chain) = chains.get(next).copied() {
        next += 1;
        let expressions = chain.rules.iter().flat_map(|rule| &rule.expressions);
        for name in expressions.flat_map(|expression| led_to(table, expression)) {
            if let Some(chain) = by_name.get(name)
                && known.insert(name)
            {
                chains.push(chain);
            }
        }
    }
    chains
}

fn led_to<'r>(table: &'r Table, expression: &'r Expression) -> Vec<&'r str> {
    match expression {
        Expression::Verdict(verdict) => target_of(verdict).into_iter().collect(),
        Expression::Lookup {
            set, verdict: true, ..
        } => table.sets.get(set).map_or_else(Vec::new, verdicts_of),
        _ => Vec::new(),
    }
}

fn verdicts_of(set: &Set) -> Vec<&str> {
    let values = set.elements.iter().filter_map(|element| {
        let Some(Value::Verdict(verdict)) = &element.value else {
            return None;
        };
        target_of(verdict)
    });
    values.collect()
}

fn target_of(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
