//! What a packet filter was seen to do to an attempt's packets.

use std::net::IpAddr;

use crate::{
    case::{Circumstances, Fact, Hook, KernelTime, Netns, Segment},
    correlate::Ended,
};

/// Places at which one attempt's packets are looked at.
const MOST: usize = 4;

/// What was stopped, as far as the kernel's record tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    Segment(Segment),
    /// A packet of ARP or neighbour discovery.
    Neighbour {
        wanted: IpAddr,
        asker: Option<IpAddr>,
    },
}

impl Stopped {
    /// Whose link-layer address it was about.
    pub fn neighbour(self) -> Option<IpAddr> {
        match self {
            Self::Neighbour { wanted, .. } => Some(wanted),
            Self::Segment(_) => None,
        }
    }
}

/// A packet that was stopped, and those like it.
#[derive(Debug, Clone)]
pub struct Incident<'e> {
    pub netns: Netns,
    pub hook: Option<Hook>,
    pub answer: bool,
    pub packet: Stopped,
    pub circumstances: Option<&'e Circumstances>,
    /// When the last of them was stopped.
    pub last: KernelTime,
    /// How many of them were watched for a rule and met none.
    pub silent: usize,
    /// Some of them met one.
    pub met_a_rule: bool,
}

impl Incident<'_> {
    /// The watch for rules said of several packets that they met none. Of a single one it may have
    /// missed it: a probe that meets a program at work on its processor is not run
    /// (`trace_call_bpf`).
    pub fn met_none(&self) -> bool {
        const SEVERAL: usize = 2;
        self.silent >= SEVERAL && !self.met_a_rule
    }

    /// The chains were those of a bridge (`nft_do_chain_bridge`).
    pub fn is_bridged(&self) -> bool {
        self.circumstances.is_some_and(|seen| {
            let mut functions = seen.functions.iter();
            functions.any(|function| function == "nft_do_chain_bridge")
        })
    }
}

/// Those of an attempt, each place once, the newest first.
pub fn of(ended: &Ended) -> Vec<Incident<'_>> {
    let mut all = those_of(ended, false);
    all.extend(those_of(ended, true));
    all
}

/// Those of its own packets, or of those that were to find a neighbour.
fn those_of(ended: &Ended, neighbours: bool) -> Vec<Incident<'_>> {
    let mut found: Vec<Incident> = Vec::new();
    for seen in ended.timeline.iter().rev() {
        let has_room = found.len() < MOST;
        let Some(incident) = incident(&seen.fact, seen.at) else {
            continue;
        };
        if incident.packet.neighbour().is_some() != neighbours {
            continue;
        }
        let known = found.iter_mut().find(|known| {
            known.netns == incident.netns
                && known.answer == incident.answer
                && known.packet.neighbour() == incident.packet.neighbour()
                && (incident.hook.is_none() || known.hook == incident.hook)
        });
        match known {
            Some(known) => {
                known.silent += incident.silent;
                known.met_a_rule |= incident.met_a_rule;
            }
            None if incident.netns != 0 && has_room => found.push(incident),
            None => {}
        }
    }
    found
}

fn incident(fact: &Fact, at: KernelTime) -> Option<Incident<'_>> {
    let mut incident = stopped(fact, at)?;
    if let Some(seen) = incident.circumstances {
        incident.met_a_rule = seen.rule.is_some();
        incident.silent = usize::from(seen.rules_watched && seen.rule.is_none());
    }
    Some(incident)
}

fn stopped(fact: &Fact, at: KernelTime) -> Option<Incident<'_>> {
    match fact {
        Fact::Dropped {
            netns,
            reason,
            location,
            hook,
            answer,
            segment,
            circumstances,
        } => {
            let place = location.as_deref().unwrap_or_default();
            // See `Dropper` of the diagnosis: queues free packets without a reason.
            let queue = ["nf_queue", "nf_reinject", "nfqnl_"];
            let filtered =
                reason == "NETFILTER_DROP" || queue.iter().any(|function| place.contains(function));
            filtered.then_some(Incident {
                netns: *netns,
                hook: *hook,
                answer: *answer,
                packet: Stopped::Segment(*segment),
                circumstances: circumstances.as_ref(),
                last: at,
                silent: 0,
                met_a_rule: false,
            })
        }
        Fact::IcmpSent {
            netns,
            hook: Some(hook),
            segment,
            circumstances,
            ..
        } => Some(Incident {
            netns: *netns,
            hook: Some(*hook),
            answer: false,
            packet: Stopped::Segment(*segment),
            circumstances: circumstances.as_ref(),
            last: at,
            silent: 0,
            met_a_rule: false,
        }),
        Fact::NeighbourPacketDropped {
            netns,
            hook,
            wanted,
            asker,
            answer,
            circumstances,
        } => Some(Incident {
            netns: *netns,
            hook: *hook,
            answer: *answer,
            packet: Stopped::Neighbour {
                wanted: *wanted,
                asker: *asker,
            },
            circumstances: Some(circumstances),
            last: at,
            silent: 0,
            met_a_rule: false,
        }),
        _ => None,
    }
}
