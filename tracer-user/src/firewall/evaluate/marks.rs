//! Marks of packets and connections, as rules change them.

use crate::firewall::expression::Expression;
use crate::firewall::ruleset::{Ruleset, Table};
use crate::firewall::xt::TargetEffect;

use super::bits::Word;
use super::carried::Carried;
use super::conntrack;
use super::scene::Entry;

/// Whether a rule can change the mark of packets.
pub fn sets_marks(ruleset: &Ruleset) -> bool {
    let chains = ruleset.tables.iter().flat_map(|table| &table.chains);
    let rules = chains.flat_map(|chain| &chain.rules);
    rules
        .flat_map(|rule| &rule.expressions)
        .any(|expression| match expression {
            Expression::SetMark { .. } => true,
            Expression::Target(target) => matches!(target.name.as_str(), "MARK" | "CONNMARK"),
            _ => false,
        })
}

/// Whether a rule can change the mark of connections.
pub fn of_connections_change(table: &Table) -> bool {
    let rules = table.chains.iter().flat_map(|chain| &chain.rules);
    rules
        .flat_map(|rule| &rule.expressions)
        .any(|expression| match expression {
            Expression::SetConntrack { key, .. } => *key == conntrack::MARK,
            Expression::Target(target) => target.name == "CONNMARK",
            _ => false,
        })
}

/// `nft_ct_set_eval` and `connmark_tg` change nothing where there is no entry.
pub fn mark_connection(carried: &mut Carried, entry: Entry, value: Word) {
    match entry {
        Entry::Is(_) => carried.connection_mark = value,
        Entry::Absent { .. } => {}
        Entry::Unknown => carried.connection_mark = carried.connection_mark.join(value),
    }
}

/// What targets of iptables do to marks (`mark_tg`, `connmark_tg_shift`).
pub fn apply(effect: &TargetEffect, carried: &mut Carried, entry: Entry) {
    let (packet, connection) = (carried.mark, carried.connection_mark);
    match *effect {
        TargetEffect::SetsMark { value, mask } => {
            carried.mark = packet.and(!mask).xor(Word::from(Some(value)));
        }
        TargetEffect::SetsConnectionMark { value, mask } => {
            let value = connection.and(!mask).xor(Word::from(Some(value)));
            mark_connection(carried, entry, value);
        }
        TargetEffect::SavesMark {
            connection_mask,
            packet_mask,
        } => {
            let value = connection
                .and(!connection_mask)
                .xor(packet.and(packet_mask));
            mark_connection(carried, entry, value);
        }
        TargetEffect::RestoresMark {
            connection_mask,
            packet_mask,
        } => {
            let value = packet
                .and(!packet_mask)
                .xor(connection.and(connection_mask));
            match entry {
                Entry::Is(_) => carried.mark = value,
                Entry::Absent { .. } => {}
                Entry::Unknown => carried.mark = packet.join(value),
            }
        }
        _ => {
            carried.mark = Word::UNKNOWN;
            carried.connection_mark = Word::UNKNOWN;
        }
    }
}
