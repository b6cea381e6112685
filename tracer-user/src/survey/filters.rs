//! Which rules can have done to an attempt's packets what the kernel saw.
//!
//! A ruleset is read when the first packet is seen to be stopped in its namespace, long before the
//! attempt ends, and kept for as long as it does not change. Hosts without such packets pay
//! nothing.

mod ends;
mod exact;
mod incidents;
mod kept;
mod neighbour;
mod packet;
mod presumption;
mod reading;
mod tally;
mod translations;
mod wording;

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    case::{Coverage, Filtering, Hook, KernelTime, Netns, Purpose, RuleMet, Worker},
    correlate::Ended,
    firewall::{Packet, ruleset::ChainKind},
    host::{facts::Host, netns::Namespace},
};
use incidents::Incident;
use kept::Kept;

/// How often a namespace's rules are looked at when packets are stopped there.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Namespaces whose rules are kept; the one that was looked at longest ago goes first.
const KEPT: usize = 32;
/// Rules and policies that are told of one packet.
const TOLD: usize = 64;
/// Hooks that a packet may have been in where the kernel's stack does not tell.
const HOOKS: [Hook; 7] = [
    Hook::Ingress,
    Hook::Prerouting,
    Hook::Input,
    Hook::Forward,
    Hook::Output,
    Hook::Postrouting,
    Hook::Egress,
];
/// Every kind of chain can stop a packet.
const ALL_KINDS: [ChainKind; 3] = [ChainKind::Filter, ChainKind::Route, ChainKind::Nat];

/// The rules of the namespaces in which packets were stopped.
#[derive(Debug, Default)]
pub struct Filters {
    kept: HashMap<Netns, Kept>,
    /// No evidence was lost that bears on the attempt in question.
    nothing_lost: bool,
}

/// A packet at a hook, and what is asked about it.
struct Question<'p> {
    netns: Netns,
    hook: Hook,
    answer: bool,
    neighbour: Option<IpAddr>,
    purpose: Purpose,
    kinds: &'p [ChainKind],
    /// What the packet can have been: the likeliest first, those of a group alike.
    packets: &'p [Vec<Packet>],
    at: KernelTime,
    generation: Option<u32>,
    /// A bridge's own chains looked at it.
    bridged: bool,
    /// The rule that the kernel was seen to evaluate for it.
    rule: Option<&'p RuleMet>,
    /// It met no rule of nftables that drops: one would have been seen.
    met_none: bool,
}

impl Filters {
    /// A packet was stopped there: looks at the rules while they are what they were.
    pub fn look(&mut self, host: &Host, netns: Netns) {
        if let Some(namespace) = host.namespaces.get(netns) {
            self.refresh(namespace, LOOK_AGAIN);
        }
    }

    /// What the rules that the attempt's packets met make of them.
    /// `tracked_to` is where connection tracking says that they went, if elsewhere.
    pub fn gather(
        &mut self,
        host: &Host,
        worker: &Worker,
        ended: &Ended,
        tracked_to: Option<SocketAddr>,
        coverage: &Coverage,
    ) -> Vec<Filtering> {
        self.nothing_lost = !coverage.lost_records;
        let mut told: Vec<Filtering> = incidents::of(ended)
            .iter()
            .flat_map(|incident| self.stopped(host, worker, ended, incident))
            .collect();
        told.extend(translations::of(self, host, worker, ended, tracked_to));
        told
    }

    fn stopped(
        &mut self,
        host: &Host,
        worker: &Worker,
        ended: &Ended,
        incident: &Incident,
    ) -> Vec<Filtering> {
        let hooks = incident.hook.map_or(HOOKS.to_vec(), |hook| vec![hook]);
        let mut told = Vec::new();
        for hook in &hooks {
            let packets = packet::at_hook(host, worker, ended, incident, *hook);
            let question = Question {
                netns: incident.netns,
                hook: *hook,
                answer: incident.answer,
                neighbour: incident.packet.neighbour(),
                purpose: Purpose::Stopped,
                kinds: &ALL_KINDS,
                packets: &packets,
                at: incident.last,
                generation: incident.circumstances.and_then(|seen| seen.generation),
                bridged: incident.is_bridged(),
                rule: incident.circumstances.and_then(|seen| seen.rule.as_ref()),
                met_none: self.nothing_lost && incident.met_none(),
            };
            told.extend(self.ask(host, &question));
        }
        // Of hooks that were only guessed, those without a rule to tell of say nothing.
        if hooks.len() > 1 {
            told.retain(|filtering| !filtering.fitting.is_empty());
        }
        told
    }

    fn ask(&mut self, host: &Host, question: &Question) -> Option<Filtering> {
        let namespace = host.namespaces.get(question.netns)?;
        let kept = self.read_since(namespace, question.at)?;
        let first = kept.answer(namespace, question);
        if first.fitting.len() < 2 || kept.read_at() > question.at {
            return Some(first);
        }
        // Counters tell several rules apart.
        kept.read_again(namespace);
        Some(kept.answer(namespace, question))
    }

    /// The rules, looked at after `at` to see whether they changed.
    fn read_since(&mut self, namespace: &Namespace, at: KernelTime) -> Option<&mut Kept> {
        let age = match self.kept.get(&namespace.inode) {
            Some(kept) if kept.read_at() > at => LOOK_AGAIN,
            _ => Duration::ZERO,
        };
        self.refresh(namespace, age);
        self.kept.get_mut(&namespace.inode)
    }

    fn refresh(&mut self, namespace: &Namespace, age: Duration) {
        match self.kept.get_mut(&namespace.inode) {
            Some(kept) => kept.refresh(namespace, age),
            None => {
                self.make_room();
                self.kept.insert(namespace.inode, Kept::of(namespace));
            }
        }
    }

    fn make_room(&mut self) {
        if self.kept.len() < KEPT {
            return;
        }
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.looked);
        if let Some(netns) = oldest.map(|(netns, _)| *netns) {
            self.kept.remove(&netns);
        }
    }
}

/// Paths by which people get into the namespaces whose rules are told.
pub fn entrances(host: &Host, filterings: &[Filtering]) -> Vec<(Netns, String)> {
    let namespaces: BTreeSet<Netns> = filterings.iter().map(|told| told.netns).collect();
    let entrance = |netns: Netns| {
        let path = host.namespaces.get(netns)?.entrance()?;
        Some((netns, path.to_string_lossy().into_owned()))
    };
    namespaces.into_iter().filter_map(entrance).collect()
}
