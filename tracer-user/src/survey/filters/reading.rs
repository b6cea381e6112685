//! The rules of one namespace at one moment.

use crate::{
    case::{Backend, KernelTime},
    clock,
    firewall::{
        Expression, Ruleset,
        expression::Verdict,
        ruleset::{Chain, Rule, Table},
        trial::End,
    },
    host::{
        netns::Namespace,
        packet_filter::{self, ipset, legacy},
    },
};

/// Chains that a policy's base chain is said to lead to.
const LED_TO: usize = 32;

/// A ruleset, and when its reading began.
#[derive(Debug)]
pub struct Reading {
    pub at: KernelTime,
    pub ruleset: Ruleset,
}

impl Reading {
    /// Reads everything; what cannot be read is told in the ruleset.
    pub fn of(namespace: &Namespace) -> Self {
        let at = clock::monotonic();
        let mut ruleset = packet_filter::read(namespace).unwrap_or_else(|error| Ruleset {
            netns: namespace.inode,
            unread: vec![error.to_string()],
            ..Ruleset::default()
        });
        let (tables, unread) = legacy::tables(namespace);
        ruleset.tables.extend(tables);
        ruleset.unread.extend(unread);
        let (ip_sets, unread) = ipset::sets(namespace, &ruleset.tables);
        ruleset.ip_sets = ip_sets;
        ruleset.unread.extend(unread);
        Self { at, ruleset }
    }

    /// Whether both have the same rules, whatever these counted.
    pub fn has_rules_of(&self, other: &Self) -> bool {
        self.ruleset.generation == other.ruleset.generation
            && are_alike(&self.ruleset.tables, &other.ruleset.tables, |_| true)
    }

    /// Whether both have the same rules of legacy iptables.
    pub fn has_legacy_rules_of(&self, other: &Self) -> bool {
        are_alike(&self.ruleset.tables, &other.ruleset.tables, is_legacy)
    }

    /// Whether the namespace has these very rules, now.
    pub fn still_stands(&self, namespace: &Namespace) -> bool {
        let tables = &self.ruleset.tables;
        packet_filter::generation(namespace).ok().flatten() == self.ruleset.generation
            && (!tables.iter().any(is_legacy)
                || are_alike(tables, &legacy::tables(namespace).0, is_legacy))
    }

    /// Whether some rule keeps packets from connection tracking.
    pub fn untracks(&self) -> bool {
        let chains = self.ruleset.tables.iter().flat_map(|table| &table.chains);
        let mut expressions = chains
            .flat_map(|chain| &chain.rules)
            .flat_map(|rule| &rule.expressions);
        expressions.any(|expression| match expression {
            Expression::Statement { name } => name == "notrack",
            // `CT` has that as an option.
            Expression::Target(target) => matches!(target.name.as_str(), "NOTRACK" | "CT"),
            _ => false,
        })
    }

    /// Whether the rules, or what they look up, may be others by now. Neither legacy tables nor
    /// sets of `ipset` have a generation.
    pub fn is_outdated(&self, namespace: &Namespace) -> bool {
        let has_legacy = |tables: &[Table]| tables.iter().any(is_legacy);
        let generation = packet_filter::generation(namespace).ok().flatten();
        generation != self.ruleset.generation
            || !self.ruleset.ip_sets.is_empty()
            || has_legacy(&self.ruleset.tables)
            || has_legacy(&legacy::tables(namespace).0)
    }
}

fn is_legacy(table: &Table) -> bool {
    table.backend == Backend::IptablesLegacy
}

/// Whether the rules of those tables that are `wanted` are the same, whatever they counted.
fn are_alike(ours: &[Table], theirs: &[Table], wanted: impl Fn(&Table) -> bool) -> bool {
    let chains = |tables| chains_of(tables, &wanted);
    chains(ours).count() == chains(theirs).count()
        && std::iter::zip(chains(ours), chains(theirs)).all(is_alike)
}

fn chains_of<'t>(
    tables: &'t [Table],
    wanted: &impl Fn(&Table) -> bool,
) -> impl Iterator<Item = (&'t Table, &'t Chain)> {
    let tables = tables.iter().filter(|table| wanted(table));
    tables.flat_map(|table| table.chains.iter().map(move |chain| (table, chain)))
}

fn is_alike(
    ((table, chain), (other_table, other_chain)): ((&Table, &Chain), (&Table, &Chain)),
) -> bool {
    let rules = |chain: &Chain| chain.rules.len();
    let place = |table: &Table| (table.backend, table.family, table.dormant);
    let policy = |chain: &Chain| chain.base.as_ref().map(|base| base.policy);
    place(table) == place(other_table)
        && table.name == other_table.name
        && chain.name == other_chain.name
        && policy(chain) == policy(other_chain)
        && rules(chain) == rules(other_chain)
        && std::iter::zip(&chain.rules, &other_chain.rules).all(|(one, other)| {
            (one.handle, &one.comment, &one.expressions)
                == (other.handle, &other.comment, &other.expressions)
        })
}

/// Of a policy: the chains to which its base chain leads.
pub fn leads_to(end: &End<'_>) -> Vec<String> {
    if end.rule.is_some() {
        return Vec::new();
    }
    let mut chains: Vec<String> = end
        .base_chain
        .rules
        .iter()
        .filter_map(|rule| led_to(rule))
        .take(LED_TO)
        .cloned()
        .collect();
    chains.dedup();
    chains
}

fn led_to(rule: &Rule) -> Option<&String> {
    rule.expressions
        .iter()
        .find_map(|expression| match expression {
            Expression::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain),
            _ => None,
        })
}
