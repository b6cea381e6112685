//! The packet filter, evaluated for one packet.
//!
//! Pure: a [`Ruleset`] as it was read, a [`Packet`] as far as it is known, and which rules can
//! have decided about it. What is not known of the packet is followed both ways.

pub mod evaluate;
pub mod expression;
pub mod fields;
pub mod ip_set;
pub mod met;
pub mod packet;
pub mod rendering;
pub mod ruleset;
pub mod trial;
pub mod truth;
pub mod xt;

pub use evaluate::{evaluate, evaluate_bridged, sets_marks};
pub use expression::Expression;
pub use ip_set::IpSet;
pub use packet::Packet;
pub use ruleset::Ruleset;
pub use trial::Trial;
pub use truth::Truth;
