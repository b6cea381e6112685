//! The rule with which the kernel stopped a packet, as its place in memory tells it.

use serde::{Deserialize, Serialize};

use super::FilterFamily;

/// A rule that the kernel evaluated to its end for a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMet {
    pub by: RuleEnd,
    /// Handles that the rule of nftables at that place can have: the memory before its last
    /// expression can be read as the head of a rule with each of them.
    pub handles: Vec<u64>,
    /// Whose rule it is; null on kernels that do not keep that beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<RuleOwner>,
    /// What lies around the data of a target of iptables; not recorded.
    #[serde(skip)]
    pub around: Option<Memory>,
}

/// What ends a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleEnd {
    /// `drop` of nftables.
    Drop,
    /// `reject` of nftables.
    Reject,
    /// The target REJECT of iptables, of either backend.
    RejectTarget,
}

/// The chain that a rule of nftables stands in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleOwner {
    pub family: FilterFamily,
    /// Names are cut off after [`RuleOwner::NAME`] bytes.
    pub table: String,
    pub chain: String,
}

impl RuleOwner {
    /// Bytes of a name that are known at most.
    pub const NAME: usize = tracer_common::record::RULE_NAME - 1;
}

/// A piece of the kernel's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Address of the first byte.
    pub base: u64,
    /// What could not be read is zero.
    pub bytes: Vec<u8>,
    /// The address in question.
    pub place: u64,
}

impl Memory {
    /// The bytes at an address.
    pub fn at(&self, address: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        self.bytes.get(start..start.checked_add(length)?)
    }

    /// The word at an address, in the machine's byte order.
    pub fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.at(address, 8)?.try_into().ok()?;
        Some(u64::from_ne_bytes(bytes))
    }
}
