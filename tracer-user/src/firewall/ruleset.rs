//! The packet filter of one network namespace, as it was read.

use std::collections::HashMap;

use crate::case::{Backend, FilterFamily as Family, Hook, Netns};
use crate::firewall::expression::{Expression, Verdict};
use crate::firewall::ip_set::IpSets;

/// Every table of a namespace, of nftables and of legacy iptables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ruleset {
    pub netns: Netns,
    /// Generation of the nftables part (`NFT_MSG_GETGEN`), null where there is none.
    pub generation: Option<u32>,
    pub tables: Vec<Table>,
    /// The sets that `-m set` of iptables refers to.
    pub ip_sets: IpSets,
    /// What could not be read, in words.
    pub unread: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub backend: Backend,
    pub family: Family,
    pub name: String,
    /// A dormant table's chains are not hooked (`NFT_TABLE_F_DORMANT`).
    pub dormant: bool,
    pub chains: Vec<Chain>,
    /// Sets and maps by name.
    pub sets: HashMap<String, Set>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub name: String,
    /// Null for a chain that only jumps lead to.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// How a chain is tied to a hook.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    pub hook: Hook,
    pub priority: i32,
    pub kind: ChainKind,
    /// Interfaces that a chain of the family `netdev` or an ingress chain is tied to.
    pub devices: Vec<String>,
    pub policy: Policy,
    /// Packets that the policy decided for, where counted (legacy iptables).
    pub policy_packets: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    Filter,
    Nat,
    Route,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    Accept,
    Drop,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Null for legacy iptables.
    pub handle: Option<u64>,
    /// One-based in its chain.
    pub position: u32,
    pub comment: Option<String>,
    /// Packets counted by the rule's own counter, null where it has none.
    pub packets: Option<u64>,
    /// Conditions and statements, in order: one that does not hold ends the rule.
    pub expressions: Vec<Expression>,
}

/// A set or a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// Bytes of a key, padding between concatenated fields included.
    pub key_length: u32,
    /// Lengths in bytes of concatenated fields, each padded to four; empty where not concatenated.
    pub fields: Vec<u32>,
    pub is_map: bool,
    pub intervals: bool,
    pub elements: Vec<Element>,
    /// Elements come and go by themselves: by packets (`dynamic`) or by time.
    pub changes: bool,
}

/// One key, or the keys from `low` to `high`, both included; each field for itself where the set
/// is concatenated.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// Null for the catch-all element (`*`).
    pub range: Option<(Vec<u8>, Vec<u8>)>,
    pub value: Option<Value>,
    /// Statements of the element, such as a counter or a limit, that decide as well.
    pub expressions: Vec<Expression>,
}

/// What a map holds for a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Data(Vec<u8>),
    Verdict(Verdict),
}
