//! What a packet carries from rule to rule.

use super::bits::Word;

/// What rules can change and later rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Carried {
    pub mark: Word,
    pub connection_mark: Word,
    pub tracking: Tracking,
    /// Every way here led through a queue, whose reader let the packet go on.
    pub queued: bool,
}

/// Whether the packet has its connection with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tracking {
    /// As the packet says.
    Given,
    /// Connection tracking has not seen it yet.
    NotYet,
    /// `notrack`.
    Untracked,
    Unknown,
}

impl Carried {
    /// What is known whichever of the two ways the packet came.
    pub fn join(self, other: Self) -> Self {
        Self {
            mark: self.mark.join(other.mark),
            connection_mark: self.connection_mark.join(other.connection_mark),
            tracking: if self.tracking == other.tracking {
                self.tracking
            } else {
                Tracking::Unknown
            },
            queued: self.queued && other.queued,
        }
    }

    /// Anything can have happened on the way.
    pub fn anything(self) -> Self {
        Self {
            mark: Word::UNKNOWN,
            connection_mark: Word::UNKNOWN,
            tracking: Tracking::Unknown,
            queued: false,
        }
    }
}

/// Adds a way by which the packet can come to a place.
pub fn add(place: &mut Option<Carried>, way: Carried) {
    *place = Some(place.map_or(way, |other| other.join(way)));
}
