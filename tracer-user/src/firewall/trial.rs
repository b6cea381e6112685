//! What an evaluation came to.

use std::collections::BTreeSet;

use crate::case::Action;
use crate::firewall::ruleset::{Chain, Rule, Table};

/// Where the packet's way through the chains of one hook can have ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trial<'r> {
    /// Rules and policies that can have ended it, in evaluation order. `Accept` is no end: the
    /// next chain of the hook goes on.
    pub ends: Vec<End<'r>>,
    /// Whether the packet can have got through all chains of the hook.
    pub may_pass: bool,
    /// Why conditions were not decided, in words.
    pub doubts: BTreeSet<String>,
}

/// A rule that can have ended the packet's way, or the policy of its base chain.
#[derive(Debug, Clone, PartialEq)]
pub struct End<'r> {
    pub table: &'r Table,
    /// The chain at the hook.
    pub base_chain: &'r Chain,
    /// The chain of the rule.
    pub chain: &'r Chain,
    /// Null for the policy of `base_chain`.
    pub rule: Option<&'r Rule>,
    pub action: Action,
    /// No condition on the way here was left undecided.
    pub certain: bool,
}
