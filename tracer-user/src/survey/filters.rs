//! Which rules can have done to an attempt's packets what the kernel saw.
//!
//! A ruleset is read when the first packet is seen to be stopped in its namespace, long before the
//! attempt ends, and kept for as long as it does not change. Hosts without such packets pay
//! nothing.

mod incidents;
mod kept;
mod packet;
mod presumption;
mod reading;
mod tally;
mod translations;
mod wording;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use crate::{
    case::{Action, Filtering, Fitting, Hook, Icmp, KernelTime, Netns, Purpose, Worker},
    correlate::Ended,
    firewall::{Packet, ruleset::ChainKind, trial::End},
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
}

/// A packet at a hook, and what is asked about it.
struct Question<'p> {
    netns: Netns,
    hook: Hook,
    answer: bool,
    purpose: Purpose,
    kinds: &'p [ChainKind],
    /// What is known of the packet, and what is left once presumptions about it are taken back.
    packets: [&'p Packet; 2],
    at: KernelTime,
    generation: Option<u32>,
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
    ) -> Vec<Filtering> {
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
            let known = packet::at_hook(host, worker, ended, incident, *hook);
            let presumed = packet::without_presumptions(&known);
            let question = Question {
                netns: incident.netns,
                hook: *hook,
                answer: incident.answer,
                purpose: Purpose::Stopped,
                kinds: &ALL_KINDS,
                packets: [&known, &presumed],
                at: incident.last,
                generation: incident.circumstances.and_then(|seen| seen.generation),
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

/// What is said of an end by its ruleset alone.
fn fitting(end: &End<'_>) -> Fitting {
    Fitting {
        backend: end.table.backend,
        family: end.table.family,
        table: end.table.name.clone(),
        chain: end.chain.name.clone(),
        base_chain: end.base_chain.name.clone(),
        handle: end.rule.and_then(|rule| rule.handle),
        position: end.rule.map(|rule| rule.position),
        action: end.action.clone(),
        text: String::new(),
        comment: end.rule.and_then(|rule| rule.comment.clone()),
        certain: end.certain,
        counted: None,
        never_met: false,
        leads_to: reading::leads_to(end),
    }
}

/// What the action was for a packet of that version: `reject with icmpx` is read as the ICMP
/// error for IPv4 (`nft_reject_icmp_code`, `nft_reject_icmpv6_code`).
fn as_sent(action: &Action, v6: bool) -> Action {
    match action {
        Action::RejectWithIcmp { icmp } if v6 && !icmp.v6 => Action::RejectWithIcmp {
            icmp: Icmp {
                kind: 1,
                code: match icmp.code {
                    1 => 3,
                    3 => 4,
                    13 => 1,
                    _ => 0,
                },
                v6,
            },
        },
        other => other.clone(),
    }
}

/// Whether the end is of the kind that is asked for.
fn ends_for(end: &End<'_>, purpose: Purpose) -> bool {
    match (&end.action, purpose) {
        (Action::Accept, _) => false,
        (Action::Translate { .. }, purpose) => purpose == Purpose::Translated,
        (_, purpose) => purpose == Purpose::Stopped,
    }
}
