//! From records of rules to facts.

use tracer_common::record::{self, packet_kind, rule_kind};

use super::{segment, socket_address};
use crate::{
    case::{FilterFamily, Memory, RuleEnd, RuleOwner},
    evidence::{Packet, RuleBytes, What},
};

pub fn met(record: &record::RuleMet) -> Option<What> {
    let by = match record.kind {
        rule_kind::DROP => RuleEnd::Drop,
        rule_kind::REJECT => RuleEnd::Reject,
        rule_kind::REJECT_TARGET => RuleEnd::RejectTarget,
        _ => return None,
    };
    Some(What::RuleMet {
        netns: record.segment.netns.into(),
        by,
        packet: packet(record)?,
        place: record.expression,
    })
}

fn packet(record: &record::RuleMet) -> Option<Packet> {
    let (from, to) = (&record.segment.from, &record.segment.to);
    match record.packet {
        packet_kind::OPENING | packet_kind::ANSWER => segment(&record.segment).map(Packet::Segment),
        kind => Some(Packet::Neighbour {
            wanted: socket_address(to)?.ip(),
            asker: socket_address(from)
                .map(|asker| asker.ip())
                .filter(|asker| !asker.is_unspecified()),
            answer: kind == packet_kind::NEIGHBOUR_ANSWER,
        }),
    }
}

pub fn bytes(head: &record::RuleBytesHead, memory: &[u8]) -> RuleBytes {
    RuleBytes {
        memory: Memory {
            base: head.base,
            bytes: memory.to_vec(),
            place: head.expression,
        },
        size: head.size.into(),
        owner: owner(head),
    }
}

/// What was read through pointers behind the rules may be anything: what is no name is none.
fn owner(head: &record::RuleBytesHead) -> Option<RuleOwner> {
    /// `NFPROTO_*` of include/uapi/linux/netfilter.h.
    const FAMILIES: [(u32, FilterFamily); 6] = [
        (1, FilterFamily::Inet),
        (2, FilterFamily::Ip),
        (3, FilterFamily::Arp),
        (5, FilterFamily::Netdev),
        (7, FilterFamily::Bridge),
        (10, FilterFamily::Ip6),
    ];
    let (_, family) = FAMILIES.iter().find(|(number, _)| *number == head.family)?;
    Some(RuleOwner {
        family: *family,
        table: name(&head.table)?,
        chain: name(&head.chain)?,
    })
}

fn name(bytes: &[u8]) -> Option<String> {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8(name.to_vec()).ok()?;
    (!name.is_empty()).then_some(name)
}
