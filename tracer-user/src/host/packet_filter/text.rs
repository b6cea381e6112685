//! The text of a rule, as its owner's tool prints it.
//!
//! The tools list, and nothing else: `nft list` and `iptables-nft-save` ask nf_tables, which the
//! rules in question show to be there; `iptables-legacy-save` reads the tables that the namespace
//! already has. What must not happen is that a question loads a module. `iptables-nft-save` asks
//! nft_compat for the revision of every extension that it prints, which whoever made the rules by
//! iptables has done as well: it is run only where nft_compat is there, as rules that look like
//! those of iptables may have been restored by nft.

use std::collections::HashMap;

use crate::case::{Backend, FilterFamily as Family};
use crate::firewall::rendering;
use crate::firewall::ruleset::{Chain, Rule, Table};
use crate::host::netns::Namespace;

mod iptables;
mod nft;
mod tool;

pub use iptables::iptables_texts;
pub use nft::nft_texts;
pub use tool::ToolError;

/// The programs that print rules and are not installed: without them rules are named all the same,
/// and their texts are made as well as this program can.
pub fn missing_tools() -> Vec<&'static str> {
    let mut tools = vec!["nft", "iptables-nft-save", "iptables-legacy-save"];
    tools.retain(|tool| !tool::is_installed(tool));
    tools
}

/// Table and chain, and the texts of its rules in order.
pub type ChainTexts = HashMap<(String, String), Vec<String>>;

/// Texts of the rules of some chains.
#[derive(Debug, Default)]
pub struct Texts {
    chains: HashMap<(Backend, Family, String, String), Vec<String>>,
}

/// Has the texts of the rules in `chains` printed by the tools that they were made with. Takes
/// as long as these tools do, and up to a limit where one hangs.
///
/// A listing that does not have as many rules as the chain, or others, is not used: the rules
/// changed meanwhile, or a comment or a name in them reads as if it were a rule.
pub fn texts(namespace: &Namespace, chains: &[(&Table, &Chain)]) -> Texts {
    let mut texts = Texts::default();
    let mut listings = HashMap::new();
    for (table, chain) in chains {
        let mut printed = None;
        if table.backend != Backend::Nft {
            let listing = listings
                .entry((table.backend, table.family))
                .or_insert_with(|| iptables_texts(namespace, table.family, table.backend));
            printed = listing.as_ref().ok().and_then(|listing| {
                let key = (table.name.clone(), chain.name.clone());
                let rules = listing.get(&key)?;
                (rules.len() == chain.rules.len()).then(|| rules.clone())
            });
        }
        if printed.is_none() && table.backend != Backend::IptablesLegacy {
            printed = nft_texts(namespace, table, chain).ok();
        }
        if let Some(rules) = printed {
            texts.chains.insert(key(table, chain), rules);
        }
    }
    texts
}

impl Texts {
    /// The text of a rule of one of the chains: where the tool did not tell it, as well as this
    /// program can.
    pub fn of(&self, table: &Table, chain: &Chain, rule: &Rule) -> String {
        let place = usize::try_from(rule.position).ok();
        let printed = place
            .and_then(|position| position.checked_sub(1))
            .and_then(|index| self.chains.get(&key(table, chain))?.get(index));
        printed
            .cloned()
            .unwrap_or_else(|| rendering::rule(table.family, rule))
    }
}

fn key(table: &Table, chain: &Chain) -> (Backend, Family, String, String) {
    let names = (table.name.clone(), chain.name.clone());
    (table.backend, table.family, names.0, names.1)
}

#[cfg(test)]
mod tests;
