//! The packet at one base chain.

use crate::case::{FilterFamily as Family, Hook};
use crate::firewall::packet::{Packet, Side, State};

use super::carried::{Carried, Tracking};

/// Index of the loopback interface in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// What the loads of a chain's rules look at, apart from what earlier rules changed.
#[derive(Debug, Clone)]
pub struct Scene {
    pub packet: Packet,
    pub hook: Hook,
    /// Of the chain's table.
    pub family: Family,
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

impl Scene {
    pub fn is_ipv4(&self) -> bool {
        self.packet.to.is_ipv4()
    }

    pub fn came_by_loopback(&self) -> bool {
        is_loopback(&self.packet.input)
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
