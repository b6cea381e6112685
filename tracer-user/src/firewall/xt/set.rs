//! Sets of `ipset` (`xt_set.c`).

use std::collections::BTreeSet;

use crate::firewall::Expression;
use crate::firewall::expression::Extension;
use crate::firewall::fields::Fields;
use crate::firewall::ip_set::{Ask, IpSets, contains};
use crate::firewall::packet::Packet;
use crate::firewall::ruleset::Table;
use crate::firewall::truth::Truth;

/// `IPSET_INV_MATCH` and `IPSET_RETURN_NOMATCH` of revision 1 and 2.
const INVERTED: u8 = 1;
const RETURN_NOMATCH: u8 = 1 << 7;

/// `IPSET_FLAG_RETURN_NOMATCH` of later revisions.
const FLAG_RETURN_NOMATCH: u32 = 1 << 7;

/// `IPSET_INVALID_ID`: none.
const NONE: u16 = u16::MAX;

/// `struct xt_set_info_match_v1` to `v4`.
pub fn matches(extension: &Extension, packet: &Packet, sets: &IpSets) -> (Truth, Option<String>) {
    let Some((index, asked)) = asked(extension) else {
        return (Truth::Unknown, None);
    };
    let (found, doubt) = contains(sets, index, asked.ask, packet);
    let found = if asked.inverted { found.not() } else { found };
    match found {
        // How often a member was met is compared only where it was found.
        Truth::Yes if asked.counts => (Truth::Unknown, Some("counters of an ipset".to_owned())),
        found => (found, doubt),
    }
}

/// Sets that the rules of these tables look packets up in.
pub fn tested_sets(tables: &[Table]) -> BTreeSet<u16> {
    extensions(tables)
        .filter(|(is_match, extension)| *is_match && extension.name == "set")
        .filter_map(|(_, extension)| Some(asked(extension)?.0))
        .collect()
}

/// Sets that packets change, by the target `SET`.
pub fn changed_sets(tables: &[Table]) -> BTreeSet<u16> {
    extensions(tables)
        .filter(|(is_match, extension)| !*is_match && extension.name == "SET")
        .flat_map(|(_, extension)| {
            let fields = Fields(&extension.data);
            match extension.revision {
                0 => [fields.u16(0), fields.u16(28)],
                _ => [fields.u16(0), fields.u16(4)],
            }
        })
        .flatten()
        .filter(|index| *index != NONE)
        .collect()
}

/// Every extension of the rules, and whether it is a match.
fn extensions(tables: &[Table]) -> impl Iterator<Item = (bool, &Extension)> {
    let chains = tables.iter().flat_map(|table| &table.chains);
    let rules = chains.flat_map(|chain| &chain.rules);
    rules
        .flat_map(|rule| &rule.expressions)
        .filter_map(|expression| match expression {
            Expression::Match(extension) => Some((true, extension)),
            Expression::Target(extension) => Some((false, extension)),
            _ => None,
        })
}

struct Asked {
    ask: Ask,
    inverted: bool,
    /// Counters of the member are compared as well.
    counts: bool,
}

fn asked(extension: &Extension) -> Option<(u16, Asked)> {
    let fields = Fields(&extension.data);
    let (index, dimensions, flags) = (fields.u16(0)?, fields.u8(2)?, fields.u8(3)?);
    let (counts, return_nomatch) = match extension.revision {
        1 | 2 => (false, flags & RETURN_NOMATCH != 0),
        // The comparison, then the value.
        3 => (
            fields.u8(8)? != 0 || fields.u8(24)? != 0,
            fields.u32(40)? & FLAG_RETURN_NOMATCH != 0,
        ),
        // The value, then the comparison.
        4 => (
            fields.u8(16)? != 0 || fields.u8(32)? != 0,
            fields.u32(40)? & FLAG_RETURN_NOMATCH != 0,
        ),
        _ => return None,
    };
    let ask = Ask {
        dimensions,
        sources: flags,
        return_nomatch,
    };
    let asked = Asked {
        ask,
        inverted: flags & INVERTED != 0,
        counts,
    };
    Some((index, asked))
}
