//! The packet at one base chain.

use std::borrow::Cow;

use crate::case::{FilterFamily as Family, Hook};
use crate::firewall::ip_set::IpSets;
use crate::firewall::packet::{Packet, Side, State};

use super::carried::{Carried, Tracking};

/// Index of the loopback interface in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// What the loads of a chain's rules look at, apart from what earlier rules changed.
#[derive(Debug, Clone)]
pub struct Scene<'r> {
    pub packet: Packet,
    pub hook: Hook,
    /// Of the chain's table.
    pub family: Family,
    pub ip_sets: &'r IpSets,
}

/// The packet's connection at a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It has one, in this state.
    Is(State),
    /// It has none: untracked where told, else of no known state.
    Absent {
        untracked: bool,
    },
    Unknown,
}

impl Scene<'_> {
    pub fn is_ipv4(&self) -> bool {
        self.packet.to.is_ipv4()
    }

    /// Null where the interface is not known.
    pub fn came_by_loopback(&self) -> Option<bool> {
        let known = self.packet.input != Side::Unknown;
        known.then(|| is_loopback(&self.packet.input))
    }

    /// The packet as earlier rules left it.
    pub fn packet(&self, carried: &Carried) -> Cow<'_, Packet> {
        let mut conntrack = self.packet.conntrack;
        conntrack.mark = carried.connection_mark.get();
        conntrack.state = match self.entry(carried) {
            Entry::Is(state) => Some(state),
            Entry::Absent { untracked: true } => Some(State::Untracked),
            Entry::Absent { untracked: false } => Some(State::Invalid),
            Entry::Unknown => None,
        };
        let mark = carried.mark.get();
        if conntrack == self.packet.conntrack && mark == self.packet.mark {
            return Cow::Borrowed(&self.packet);
        }
        Cow::Owned(Packet {
            mark,
            conntrack,
            ..self.packet.clone()
        })
    }

    pub fn entry(&self, carried: &Carried) -> Entry {
        match carried.tracking {
            Tracking::NotYet => Entry::Absent { untracked: false },
            Tracking::Untracked => Entry::Absent { untracked: true },
            Tracking::Unknown => Entry::Unknown,
            Tracking::Given => match self.packet.conntrack.state {
                Some(State::Invalid) => Entry::Absent { untracked: false },
                Some(State::Untracked) => Entry::Absent { untracked: true },
                Some(state) => Entry::Is(state),
                None => Entry::Unknown,
            },
        }
    }
}

pub fn is_loopback(side: &Side) -> bool {
    matches!(side, Side::Device { index, .. } if *index == LOOPBACK)
}
