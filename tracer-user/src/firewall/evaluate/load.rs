//! Loads: what an expression puts into a register.

use crate::firewall::expression::PayloadBase;
use crate::firewall::truth::Truth;

use super::bits::Bits;

/// What came of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// No: the load fails, which ends the rule (`NFT_BREAK`).
    pub succeeds: Truth,
    pub bytes: Vec<Bits>,
}

impl Loaded {
    pub fn bytes(bytes: Vec<Bits>) -> Self {
        Self {
            succeeds: Truth::Yes,
            bytes,
        }
    }

    pub fn value(bytes: &[u8]) -> Self {
        Self::bytes(super::bits::of(bytes))
    }

    /// A 32-bit value in host byte order.
    pub fn word(value: u32) -> Self {
        Self::value(&value.to_ne_bytes())
    }

    pub fn unknown(length: usize) -> Self {
        Self::bytes(super::bits::unknown(length))
    }

    pub fn fails() -> Self {
        Self {
            succeeds: Truth::No,
            bytes: Vec::new(),
        }
    }

    /// Neither the value nor whether there is one is known.
    pub fn perhaps(length: usize) -> Self {
        Self {
            succeeds: Truth::Unknown,
            bytes: super::bits::unknown(length),
        }
    }
}

/// The name of a payload's base in a doubt.
pub fn base_name(base: PayloadBase) -> &'static str {
    match base {
        PayloadBase::LinkLayer => "a link layer header",
        PayloadBase::Network => "an IP header's field",
        PayloadBase::Transport => "a TCP header's field",
        PayloadBase::Inner => "what follows the TCP header",
    }
}
