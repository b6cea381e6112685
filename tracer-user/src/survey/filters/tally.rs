//! Counters of rules from one reading to the next.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use super::reading::Reading;
use crate::{
    case::KernelTime,
    firewall::{
        ruleset::{Chain, Rule, Table},
        trial::End,
    },
};

/// Readings whose counters are remembered.
const READINGS: usize = 3;

/// The counters of the last readings.
#[derive(Debug, Default)]
pub struct Tally {
    hashing: RandomState,
    readings: VecDeque<(KernelTime, HashMap<u64, u64>)>,
}

/// Packets that a rule counted, or a policy did.
pub fn packets(end: &End<'_>) -> Option<u64> {
    match end.rule {
        Some(rule) => rule.packets,
        None => end.base_chain.base.as_ref()?.policy_packets,
    }
}

impl Tally {
    /// What was counted says nothing of the rules that stand now.
    pub fn forget(&mut self) {
        self.readings.clear();
    }

    pub fn add(&mut self, reading: &Reading) {
        let mut counters = HashMap::new();
        for table in &reading.ruleset.tables {
            for chain in &table.chains {
                let policy = chain.base.as_ref().and_then(|base| base.policy_packets);
                let rules = chain.rules.iter().map(|rule| (Some(rule), rule.packets));
                let counted = rules.chain([(None, policy)]);
                counters.extend(
                    counted.filter_map(|(rule, packets)| {
                        Some((self.key(table, chain, rule), packets?))
                    }),
                );
            }
        }
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back((reading.at, counters));
    }

    /// What the rule counted between the last reading before `at` and the last one after it; null
    /// where there are not both, or it has no counter, or it was set back.
    pub fn counted(&self, end: &End<'_>, at: KernelTime) -> Option<u64> {
        let key = self.key(end.table, end.chain, end.rule);
        let mut readings = self.readings.iter().rev();
        let (_, after) = readings.next().filter(|(read, _)| *read > at)?;
        let (_, before) = readings.find(|(read, _)| *read < at)?;
        after.get(&key)?.checked_sub(*before.get(&key)?)
    }

    /// A rule by its handle or, together with the length of its chain, by its position.
    fn key(&self, table: &Table, chain: &Chain, rule: Option<&Rule>) -> u64 {
        let place = (table.backend, table.family, &table.name, &chain.name);
        let own = rule.map(|rule| match rule.handle {
            Some(handle) => (handle, 0),
            None => (rule.position.into(), chain.rules.len()),
        });
        self.hashing.hash_one((place, own))
    }
}
