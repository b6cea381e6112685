//! Stateful objects: named counters, quotas, limits, which rules and maps refer to.

use crate::host::packet_filter::attributes::Attributes;

/// `NFT_OBJECT_*` and what a counter has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    pub kind: u32,
    /// Null where it is no counter, or where several rules or map elements count into it.
    pub packets: Option<u64>,
}

impl Object {
    pub const UNSPECIFIED: u32 = 0;
    pub const COUNTER: u32 = 1;
    pub const QUOTA: u32 = 2;
    pub const LIMIT: u32 = 4;
    pub const CONNLIMIT: u32 = 5;
    pub const SYNPROXY: u32 = 10;
    /// Kinds that came later.
    pub const BEYOND: u32 = 11;

    /// Table, name and object.
    pub fn decode(attributes: Attributes<'_>) -> Option<(String, String, Self)> {
        let kind = attributes.u32(3)?;
        let alone = attributes.u32(5) == Some(1);
        let packets = attributes.nested(4).and_then(counted);
        let object = Self {
            kind,
            packets: packets.filter(|_| alone && kind == Self::COUNTER),
        };
        Some((attributes.text(1)?, attributes.text(2)?, object))
    }
}

/// `NFTA_COUNTER_PACKETS`
pub fn counted(counter: Attributes<'_>) -> Option<u64> {
    counter.u64(2)
}
