//! Texts of rules and policies, kept for as long as the rules are the same.

use std::collections::HashMap;

use crate::{
    case::{Backend, FilterFamily},
    firewall::{
        rendering,
        ruleset::{Chain, Policy, Table},
        trial::End,
    },
    host::{netns::Namespace, packet_filter::text},
};

/// Texts that are kept of one namespace.
const KEPT: usize = 1024;

type Place = (Backend, FilterFamily, String, String, u32);

/// Texts by the place of their rules.
#[derive(Debug, Default)]
pub struct Wording {
    known: HashMap<Place, String>,
}

impl Wording {
    /// The text of each end, in order. Runs the tools that print rules where one is not known yet:
    /// they print those that stand now, which the ends belong to where `still_stands` says so.
    pub fn of(
        &mut self,
        namespace: &Namespace,
        ends: &[&End<'_>],
        still_stands: impl FnOnce() -> bool,
    ) -> Vec<String> {
        self.learn(namespace, ends, still_stands);
        self.without_tools(ends)
    }

    /// The text of each end, in order: as well as this program can where the tools were not asked.
    pub fn without_tools(&self, ends: &[&End<'_>]) -> Vec<String> {
        let text = |end: &&End| match (place(end), end.rule) {
            (Some(place), Some(rule)) => {
                let own = || rendering::rule(end.table.family, rule);
                self.known.get(&place).cloned().unwrap_or_else(own)
            }
            _ => policy(end),
        };
        ends.iter().map(text).collect()
    }

    fn learn(
        &mut self,
        namespace: &Namespace,
        ends: &[&End<'_>],
        still_stands: impl FnOnce() -> bool,
    ) {
        let is_new = |end: &&&End| place(end).is_some_and(|place| !self.known.contains_key(&place));
        let new: Vec<&&End> = ends.iter().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        if self.known.len() + new.len() > KEPT {
            self.known.clear();
        }
        let mut chains: Vec<(&Table, &Chain)> = Vec::new();
        for end in &new {
            let is_listed = |chain: &(&Table, &Chain)| {
                std::ptr::eq(chain.0, end.table) && std::ptr::eq(chain.1, end.chain)
            };
            if !chains.iter().any(is_listed) {
                chains.push((end.table, end.chain));
            }
        }
        let texts = text::texts(namespace, &chains);
        if !still_stands() {
            return;
        }
        for end in new {
            if let (Some(place), Some(rule)) = (place(end), end.rule) {
                let text = texts.of(end.table, end.chain, rule);
                self.known.insert(place, text);
            }
        }
    }
}

fn place(end: &End<'_>) -> Option<Place> {
    let rule = end.rule?;
    let (table, chain) = (end.table.name.clone(), end.chain.name.clone());
    Some((
        end.table.backend,
        end.table.family,
        table,
        chain,
        rule.position,
    ))
}

/// As `nft list chain` and `iptables -S` print it.
fn policy(end: &End<'_>) -> String {
    let drops = end
        .base_chain
        .base
        .as_ref()
        .is_some_and(|base| base.policy == Policy::Drop);
    match (end.table.backend, drops) {
        (Backend::Nft, true) => "policy drop".to_owned(),
        (Backend::Nft, false) => "policy accept".to_owned(),
        (_, true) => format!("-P {} DROP", end.base_chain.name),
        (_, false) => format!("-P {} ACCEPT", end.base_chain.name),
    }
}
