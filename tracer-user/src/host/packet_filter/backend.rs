//! Whose rules a table of nf_tables holds.
//!
//! iptables-nft, ebtables-nft and arptables-nft work only on tables with the names that they
//! know. Such a table is theirs where a rule runs an extension of iptables or says that it is
//! compatible with it (`NFTA_RULE_COMPAT`), which nft never writes; or else where every base
//! chain is exactly one that those tools make: name, hook, priority and type. A table of nft that
//! is called `filter` has chains in lower case, as its users write them, or other priorities; one
//! that copies everything is told by iptables-save as well as by nft.

use crate::case::{Backend, FilterFamily as Family, Hook};
use crate::firewall::ruleset::{Chain, ChainKind};

/// `compat` says that a rule of the table is one of iptables.
pub fn of(family: Family, table: &str, chains: &[Chain], compat: bool) -> Backend {
    let mut bases = chains
        .iter()
        .filter(|chain| chain.base.is_some())
        .peekable();
    let known = known(family, table);
    let theirs = !known.is_empty()
        && (compat || bases.peek().is_some() && bases.all(|chain| is_one_of(known, chain)));
    if theirs {
        Backend::IptablesNft
    } else {
        Backend::Nft
    }
}

fn is_one_of(known: &[Builtin], chain: &Chain) -> bool {
    chain.base.as_ref().is_some_and(|base| {
        known.iter().any(|(name, hook, priority, kind)| {
            (*name, *hook, *priority, *kind)
                == (chain.name.as_str(), base.hook, base.priority, base.kind)
        })
    })
}

type Builtin = (&'static str, Hook, i32, ChainKind);

/// `xtables_ipv4`, `xtables_arp` and `xtables_bridge` of iptables (iptables/nft.c).
fn known(family: Family, table: &str) -> &'static [Builtin] {
    match (family, table) {
        (Family::Ip | Family::Ip6, "filter") => &[
            ("INPUT", Hook::Input, 0, ChainKind::Filter),
            ("FORWARD", Hook::Forward, 0, ChainKind::Filter),
            ("OUTPUT", Hook::Output, 0, ChainKind::Filter),
        ],
        (Family::Ip | Family::Ip6, "nat") => &[
            ("PREROUTING", Hook::Prerouting, -100, ChainKind::Nat),
            ("INPUT", Hook::Input, 100, ChainKind::Nat),
            ("OUTPUT", Hook::Output, -100, ChainKind::Nat),
            ("POSTROUTING", Hook::Postrouting, 100, ChainKind::Nat),
        ],
        (Family::Ip | Family::Ip6, "mangle") => &[
            ("PREROUTING", Hook::Prerouting, -150, ChainKind::Filter),
            ("INPUT", Hook::Input, -150, ChainKind::Filter),
            ("FORWARD", Hook::Forward, -150, ChainKind::Filter),
            ("OUTPUT", Hook::Output, -150, ChainKind::Route),
            ("POSTROUTING", Hook::Postrouting, -150, ChainKind::Filter),
        ],
        (Family::Ip | Family::Ip6, "raw") => &[
            ("PREROUTING", Hook::Prerouting, -300, ChainKind::Filter),
            ("OUTPUT", Hook::Output, -300, ChainKind::Filter),
        ],
        (Family::Ip | Family::Ip6, "security") => &[
            // NF_IP_PRI_SECURITY is 50; iptables takes 150 for it.
            ("INPUT", Hook::Input, 150, ChainKind::Filter),
            ("FORWARD", Hook::Forward, 150, ChainKind::Filter),
            ("OUTPUT", Hook::Output, 150, ChainKind::Filter),
        ],
        (Family::Arp, "filter") => &[
            ("INPUT", Hook::Input, 0, ChainKind::Filter),
            ("OUTPUT", Hook::Output, 0, ChainKind::Filter),
        ],
        (Family::Bridge, "filter") => &[
            ("INPUT", Hook::Input, -200, ChainKind::Filter),
            ("FORWARD", Hook::Forward, -200, ChainKind::Filter),
            ("OUTPUT", Hook::Output, -200, ChainKind::Filter),
        ],
        (Family::Bridge, "nat") => &[
            ("PREROUTING", Hook::Prerouting, -300, ChainKind::Filter),
            ("OUTPUT", Hook::Output, 100, ChainKind::Filter),
            ("POSTROUTING", Hook::Postrouting, 300, ChainKind::Filter),
        ],
        _ => &[],
    }
}
