//! What a packet filter made of a packet of the attempt: the kernel's account of where it was
//! freed, and the rules that can have done it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Hook, Icmp, Netns, RuleMet};

/// What else the kernel knew of a packet at the place where it freed or answered it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// Time to live or hop limit.
    pub ttl: u8,
    /// `skb->mark`.
    pub mark: u32,
    /// Index of `skb->dev`: where the packet came in, once it has; 0 for none.
    pub device: u32,
    /// `skb->skb_iif`: the interface by which it entered this namespace, 0 for none.
    pub input: u32,
    /// The interface by which its route leaves, 0 where it has no route yet.
    pub output: u32,
    /// Generation of the namespace's nftables ruleset at that moment (`net->nft.base_seq`); null
    /// where this kernel keeps it elsewhere.
    pub generation: Option<u32>,
    /// Functions of packet filters on the kernel's stack, the innermost first, such as
    /// `nft_do_chain_inet`.
    pub functions: Vec<String>,
    /// The rule that stopped it, where the kernel was seen to evaluate one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleMet>,
    /// Rules of nftables that drop were watched as it was stopped: one that did would be `rule`.
    #[serde(default)]
    pub rules_watched: bool,
}

/// What the packet filter of one namespace can have done with one packet of the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filtering {
    pub netns: Netns,
    pub hook: Hook,
    /// The packet is an answer to nginx, not nginx's own; of a neighbour's that it tells its
    /// link-layer address.
    pub answer: bool,
    /// Whose link-layer address a packet of ARP or neighbour discovery asked for or told; null
    /// for a TCP segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbour: Option<IpAddr>,
    /// What the question was.
    pub purpose: Purpose,
    /// Rules and policies that can have done what was seen, in evaluation order. Those of which
    /// the kernel's evidence shows that they did not are left out.
    pub fitting: Vec<Fitting>,
    /// Why the evaluation could not decide, in words: statements it does not know, state that
    /// cannot be read.
    pub doubts: Vec<String>,
    /// The ruleset was changed between the moment in question and its reading.
    pub changed: bool,
    /// What could not be read of the ruleset, in words.
    pub unread: Vec<String>,
    /// By which means `fitting` is known.
    #[serde(default)]
    pub known_by: KnownBy,
    /// Where the kernel evaluated another rule than the evaluation of the ruleset led to: what
    /// that came to, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disagreement: Option<String>,
}

/// How the rules that can have decided are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownBy {
    /// The ruleset was read and evaluated for the packet.
    #[default]
    Evaluation,
    /// The kernel was seen to evaluate the rule for the packet.
    Kernel,
    /// The same as `Evaluation`; rules that the kernel was not seen to evaluate are left out.
    Silence,
}

/// What is asked of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Which of them stopped the packet.
    Stopped,
    /// Which of them changed its destination.
    Translated,
}

/// A rule, or the policy of a chain, that can have decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fitting {
    pub backend: Backend,
    pub family: Family,
    pub table: String,
    pub chain: String,
    /// The chain at the hook, from which jumps led to `chain`.
    pub base_chain: String,
    /// Of nft rules, those of iptables-nft too; null for a policy.
    pub handle: Option<u64>,
    /// One-based in its chain; null for a policy.
    pub position: Option<u32>,
    pub action: Action,
    /// As its owner's tool prints it, without position and handle.
    pub text: String,
    /// The rule's comment, where it has one.
    pub comment: Option<String>,
    /// Every condition up to here was decided by what is known of the packet. Where false, some
    /// condition on the way is not known to hold.
    pub certain: bool,
    /// Packets that the rule counted since the reading before: null where it has no counter or
    /// was read for the first time.
    pub counted: Option<u64>,
    /// Its counter stood at zero when it was read after the packet: it cannot have met one.
    pub never_met: bool,
    /// Of a policy: chains to which the base chain leads. They tell whose policy it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leads_to: Vec<String>,
}

/// Whose rules they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    Nft,
    IptablesNft,
    IptablesLegacy,
}

/// The family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ip,
    Ip6,
    Inet,
    Arp,
    Bridge,
    Netdev,
}

/// What a rule does with a packet that it ends for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "does")]
pub enum Action {
    Accept,
    Drop,
    RejectWithReset,
    RejectWithIcmp {
        icmp: Icmp,
    },
    /// Handed to a program by number.
    Queue {
        number: u16,
        bypass: bool,
    },
    /// The destination is replaced; null where the rule leaves a choice.
    Translate {
        to: Option<SocketAddr>,
    },
    /// Something that ends the packet's way through the rules and is none of these.
    Other {
        name: String,
    },
}
