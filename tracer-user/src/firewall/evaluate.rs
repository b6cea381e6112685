//! Which rules of a ruleset can have ended a packet's way.
//!
//! A condition holds, does not hold, or is not known to; what is not known is followed both ways.
//! Each chain is walked through once for each state of the packet's marks in which it is reached,
//! so the work stays in proportion to the ruleset, however often undecided rules jump.

mod account;
mod bits;
mod carried;
mod conntrack;
mod fib;
mod hooked;
mod load;
mod lookup;
mod marks;
mod meta;
mod operations;
mod payload;
mod registers;
mod rule;
mod scene;
mod translation;
mod walk;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ptr;

use crate::case::{FilterFamily as Family, Hook};
use crate::firewall::ip_set::IpSets;
use crate::firewall::packet::{Packet, Side, State};
use crate::firewall::ruleset::{ChainKind, Ruleset, Table};
use crate::firewall::trial::Trial;
use crate::firewall::truth::Truth;

pub use hooked::families;
pub use marks::sets_marks;

use account::Question;
use bits::Word;
use carried::{Carried, Tracking, add};
use hooked::{Hooked, groups};
use lookup::Lookups;
use scene::{Entry, Scene, is_loopback};
use walk::{Chains, Walk};

/// Priority of the hooks of connection tracking at PREROUTING and OUTPUT
/// (`NF_IP_PRI_CONNTRACK`).
const CONNTRACK: i32 = -200;

/// Runs the packet through every base chain of its protocol at `hook`: of `ip` or `ip6`, of `inet`
/// or else of `arp`, and of `netdev` at ingress and egress.
///
/// Chains of the `kinds` asked for are judged; of the others only their effect on marks counts,
/// as the packet is known to have passed them. With [`ChainKind::Nat`] and without
/// [`ChainKind::Filter`] the ends are translations. The order of chains of the same priority in
/// different tables is not known: the packet is followed through each as if it came first.
pub fn evaluate<'r>(
    ruleset: &'r Ruleset,
    packet: &Packet,
    hook: Hook,
    kinds: &[ChainKind],
) -> Trial<'r> {
    let families = families(packet, hook, false);
    Evaluation::new(ruleset, packet, hook, kinds).run(ruleset, families)
}

/// The same for a frame that a bridge forwards, receives or sends: the chains of the family
/// `bridge`. The packet's interfaces are the bridge's ports.
pub fn evaluate_bridged<'r>(
    ruleset: &'r Ruleset,
    packet: &Packet,
    hook: Hook,
    kinds: &[ChainKind],
) -> Trial<'r> {
    let families = families(packet, hook, true);
    Evaluation::new(ruleset, packet, hook, kinds).run(ruleset, families)
}

struct Evaluation<'r, 'p> {
    packet: &'p Packet,
    hook: Hook,
    kinds: &'p [ChainKind],
    ip_sets: &'r IpSets,
    lookups: Lookups<'r>,
    chains: HashMap<*const Table, Chains<'r>>,
    /// No rule changes the marks of connections.
    connection_marks_stand: bool,
    trial: Trial<'r>,
}

impl<'r, 'p> Evaluation<'r, 'p> {
    fn new(ruleset: &'r Ruleset, packet: &'p Packet, hook: Hook, kinds: &'p [ChainKind]) -> Self {
        let chains = ruleset.tables.iter().map(|table| {
            let by_name = table.chains.iter();
            let by_name = by_name.map(|chain| (chain.name.as_str(), chain)).collect();
            (ptr::from_ref(table), by_name)
        });
        Self {
            packet,
            hook,
            kinds,
            ip_sets: &ruleset.ip_sets,
            lookups: Lookups::new(&ruleset.tables),
            chains: chains.collect(),
            connection_marks_stand: !ruleset.tables.iter().any(marks::of_connections_change),
            trial: Trial::default(),
        }
    }

    fn run(mut self, ruleset: &'r Ruleset, families: &[Family]) -> Trial<'r> {
        let mut passed = Some(self.beginning());
        for group in groups(ruleset, self.packet, self.hook, families) {
            let Some(carried) = passed else {
                break;
            };
            passed = self.group(&group, carried);
        }
        self.trial.may_pass = passed.is_some();
        // A queue whose reader lets the packet go on has had its say all the same.
        let only_end = self.trial.ends.len() == 1 && passed.is_none_or(|carried| carried.queued);
        for end in &mut self.trial.ends {
            end.certain = only_end;
        }
        self.trial
    }

    fn beginning(&self) -> Carried {
        Carried {
            mark: Word::from(self.packet.mark),
            connection_mark: Word::from(self.connection_mark()),
            tracking: Tracking::Given,
            queued: false,
        }
    }

    /// A new connection has none (`init_conntrack`).
    fn connection_mark(&self) -> Option<u32> {
        let known = &self.packet.conntrack;
        let untouched = known.state == Some(State::New) && self.connection_marks_stand;
        known.mark.or(untouched.then_some(0))
    }

    /// Chains of one priority: in one table the one registered last comes first
    /// (`nf_hook_entries_grow`).
    fn group(&mut self, group: &[Hooked<'r>], carried: Carried) -> Option<Carried> {
        let [first, rest @ ..] = group else {
            return Some(carried);
        };
        if rest.iter().all(|other| ptr::eq(other.table, first.table)) {
            let mut newest_first = group.iter().rev();
            return newest_first.try_fold(carried, |carried, hooked| {
                self.base_chain(hooked, carried, None)
            });
        }
        let mut entry = carried;
        for hooked in group {
            if let Some(left) = self.base_chain(hooked, carried, Some(Question::Effects)) {
                entry = entry.join(left);
            }
        }
        let mut passed = None;
        let mut stopped = false;
        for hooked in group {
            match self.base_chain(hooked, entry, None) {
                Some(left) => add(&mut passed, left),
                None => stopped = true,
            }
        }
        passed.filter(|_| !stopped)
    }

    /// The state in which the packet can leave the chain for the next.
    fn base_chain(
        &mut self,
        hooked: &Hooked<'r>,
        carried: Carried,
        question: Option<Question>,
    ) -> Option<Carried> {
        let scene = self.scene(hooked);
        let carried = Carried {
            tracking: self.tracking(hooked, &scene, carried.tracking),
            ..carried
        };
        let runs = runs(hooked, &scene, &carried);
        if runs == Truth::No {
            return Some(carried);
        }
        let own = self.question(hooked.base.kind);
        let question = question.unwrap_or(own);
        let Some(chains) = self.chains.get(&ptr::from_ref(hooked.table)) else {
            return Some(carried);
        };
        let walk = Walk::new(
            (hooked.table, hooked.chain, hooked.base.kind),
            question,
            &scene,
            chains,
            &mut self.lookups,
            &mut self.trial,
        );
        let mut passed = walk.run(carried, hooked.base.policy);
        if runs == Truth::Unknown {
            add(&mut passed, carried);
        }
        if own == Question::Effects {
            return passed.or(Some(carried));
        }
        passed
    }

    fn question(&self, kind: ChainKind) -> Question {
        let translations = !self.kinds.contains(&ChainKind::Filter);
        match kind {
            kind if !self.kinds.contains(&kind) => Question::Effects,
            ChainKind::Nat if translations => Question::Translations,
            _ => Question::Ends,
        }
    }

    fn scene(&self, hooked: &Hooked<'r>) -> Scene<'r> {
        let mut packet = self.packet.clone();
        packet.conntrack.mark = self.connection_mark();
        // Before the translation the packet was still for whom nginx dialled; one on loopback was
        // translated before it came in.
        let translates_here = match self.hook {
            Hook::Output => true,
            Hook::Prerouting => {
                matches!(&packet.input, Side::Device { .. }) && !is_loopback(&packet.input)
            }
            _ => false,
        };
        if let Some(dialled) = packet.conntrack.dialled
            && packet.conntrack.original == Some(true)
            && translates_here
            && hooked.priority <= hooked::DESTINATION_NAT
            && dialled.is_ipv4() == packet.to.is_ipv4()
        {
            packet.to = dialled;
        }
        Scene {
            packet,
            hook: self.hook,
            family: hooked.table.family,
            ip_sets: self.ip_sets,
        }
    }

    /// Whether the packet has its connection with it where this chain is run. A packet on
    /// loopback keeps at PREROUTING the entry that it got at OUTPUT (`nf_conntrack_in`:
    /// "previously seen").
    fn tracking(&self, hooked: &Hooked, scene: &Scene, before: Tracking) -> Tracking {
        let loops = match self.hook {
            Hook::Ingress => return Tracking::NotYet,
            Hook::Prerouting => scene.came_by_loopback(),
            Hook::Output => Some(false),
            _ => Some(true),
        };
        if loops == Some(true) || hooked.table.family == Family::Bridge {
            return before;
        }
        let untracked_yet = matches!(before, Tracking::Given | Tracking::NotYet);
        match (hooked.priority.cmp(&CONNTRACK), loops) {
            _ if !untracked_yet => before,
            (Ordering::Greater, _) => Tracking::Given,
            (Ordering::Less, Some(_)) => Tracking::NotYet,
            _ => Tracking::Unknown,
        }
    }
}

/// Chains of the kind nat are run for the first packet of a connection, once for the destination
/// and once for the source (`nf_nat_inet_fn`): on loopback that was before the packet came in.
fn runs(hooked: &Hooked, scene: &Scene, carried: &Carried) -> Truth {
    if hooked.base.kind != ChainKind::Nat {
        return Truth::Yes;
    }
    let comes_in = matches!(scene.hook, Hook::Prerouting | Hook::Input);
    let before = match scene.came_by_loopback() {
        _ if !comes_in => Truth::No,
        Some(looped) => looped.into(),
        None => Truth::Unknown,
    };
    let first = match scene.entry(carried) {
        Entry::Is(State::New | State::Related) => Truth::Yes,
        Entry::Is(_) | Entry::Absent { .. } => Truth::No,
        Entry::Unknown => Truth::Unknown,
    };
    before.not().and(first)
}
