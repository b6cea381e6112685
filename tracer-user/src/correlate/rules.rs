//! Rules that the kernel evaluated to their end, until the packet is freed that they stopped.

use std::collections::{HashMap, VecDeque};

use crate::{
    case::{Circumstances, KernelTime, Netns, RuleEnd, RuleMet},
    evidence::{Packet, RuleBytes, What},
    firewall::met,
};

/// How long after its rule a packet is freed or answered, at most: both happen in one hook.
const SOON: KernelTime = 100_000_000;
/// Packets whose end is awaited at one moment; the oldest go first.
const BOUND: usize = 1024;
/// Rules whose memory is kept.
const KEPT: usize = 1024;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Rules {
    /// By the place of their last expression.
    places: HashMap<u64, RuleBytes>,
    /// By time.
    met: VecDeque<Met>,
}

#[derive(Debug)]
struct Met {
    at: KernelTime,
    netns: Netns,
    packet: Packet,
    rule: RuleMet,
}

impl Rules {
    /// Keeps what tells of rules; the end of a packet is told which one stopped it.
    pub fn observe(&mut self, at: KernelTime, what: &mut What) {
        match what {
            What::RuleBytes(bytes) => self.learn(bytes.as_ref().clone()),
            What::RuleMet {
                netns,
                by,
                packet,
                place,
            } => self.add(at, *netns, *packet, *by, *place),
            _ => self.tell(at, what),
        }
    }

    fn learn(&mut self, bytes: RuleBytes) {
        if self.places.len() >= KEPT {
            self.places.clear();
        }
        self.places.insert(bytes.memory.place, bytes);
    }

    fn add(&mut self, at: KernelTime, netns: Netns, packet: Packet, by: RuleEnd, place: u64) {
        let Some(bytes) = self.places.get(&place) else {
            return;
        };
        if self.met.len() >= BOUND {
            self.met.pop_front();
        }
        self.met.push_back(Met {
            at,
            netns,
            packet,
            rule: rule(bytes, by),
        });
    }

    /// Tells which rule stopped the packet, where `what` is its end.
    fn tell(&self, at: KernelTime, what: &mut What) {
        let (netns, packet, circumstances) = match what {
            What::Dropped {
                netns,
                segment,
                circumstances,
                ..
            }
            | What::IcmpSent {
                netns,
                segment,
                circumstances,
                ..
            } => (*netns, Packet::Segment(*segment), circumstances),
            What::NeighbourPacketDropped {
                netns,
                wanted,
                asker,
                answer,
                circumstances,
                ..
            } => {
                let packet = Packet::Neighbour {
                    wanted: *wanted,
                    asker: *asker,
                    answer: *answer,
                };
                (*netns, packet, circumstances)
            }
            _ => return,
        };
        self.complete(at, netns, packet, circumstances);
    }

    fn complete(
        &self,
        at: KernelTime,
        netns: Netns,
        packet: Packet,
        circumstances: &mut Circumstances,
    ) {
        let mut recent = self
            .met
            .iter()
            .rev()
            .take_while(|met| met.at + SOON >= at)
            .filter(|met| met.at <= at);
        let met = recent.find(|met| met.netns == netns && met.packet == packet);
        circumstances.rule = met.map(|met| met.rule.clone());
    }

    pub fn forget_before(&mut self, now: KernelTime) {
        let is_old = |met: &Met| met.at + SOON < now;
        while self.met.front().is_some_and(is_old) {
            self.met.pop_front();
        }
    }
}

fn rule(bytes: &RuleBytes, by: RuleEnd) -> RuleMet {
    RuleMet {
        by,
        handles: met::handles(&bytes.memory, by, bytes.size),
        owner: bytes.owner.clone(),
        around: (by == RuleEnd::RejectTarget).then(|| bytes.memory.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Memory, Segment};

    const HERE: Netns = 7;
    const PLACE: u64 = 0xffff_8880_0000_1010;

    fn segment(port: u16) -> Segment {
        Segment {
            from: format!("10.0.0.1:{port}").parse().expect("address"),
            to: "10.0.0.2:80".parse().expect("address"),
            sequence: u32::from(port),
            flags: 2,
        }
    }

    /// A rule of nothing but a verdict, with that handle.
    fn bytes(handle: u64) -> RuleBytes {
        let words = [handle << 13 | 32 << 1, u64::MAX << 32, 0, 0, 0, 1];
        RuleBytes {
            memory: Memory {
                base: PLACE - 8,
                bytes: words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
                place: PLACE,
            },
            size: 32,
            owner: None,
        }
    }

    fn dropped(port: u16) -> What {
        What::Dropped {
            netns: HERE,
            reason: None,
            answer: false,
            location: 0,
            frames: Default::default(),
            segment: segment(port),
            circumstances: Circumstances::default(),
        }
    }

    fn told(rules: &Rules, at: KernelTime, port: u16) -> Option<Vec<u64>> {
        let mut what = dropped(port);
        rules.tell(at, &mut what);
        match what {
            What::Dropped { circumstances, .. } => circumstances.rule.map(|rule| rule.handles),
            _ => None,
        }
    }

    #[test]
    fn a_dropped_packet_is_told_the_rule_that_it_met_last() {
        let mut rules = Rules::default();
        let packet = |port| Packet::Segment(segment(port));
        rules.add(10, HERE, packet(1), RuleEnd::Drop, PLACE);
        assert_eq!(told(&rules, 11, 1), None, "nothing is known of that place");
        rules.learn(bytes(5));
        rules.add(20, HERE, packet(1), RuleEnd::Drop, PLACE);
        rules.learn(bytes(6));
        rules.add(30, HERE, packet(1), RuleEnd::Drop, PLACE);
        rules.add(30, HERE + 1, packet(2), RuleEnd::Drop, PLACE);
        assert_eq!(told(&rules, 31, 1), Some(vec![6]));
        assert_eq!(told(&rules, 25, 1), Some(vec![5]));
        assert_eq!(told(&rules, 31, 2), None, "it was in another namespace");
        assert_eq!(told(&rules, 31 + SOON, 1), None, "that was another time");
        rules.forget_before(31 + SOON);
        assert!(rules.met.is_empty());
    }
}
