//! Mark, time to live and length (`xt_mark.c`, `xt_hl.c`, `xt_length.c`).

use super::View;
use crate::firewall::fields::Fields;
use crate::firewall::packet::Packet;
use crate::firewall::truth::Truth;

/// The flags of a segment that carries no data.
const SYN: u8 = 0x02;

/// `struct xt_mark_mtinfo1`.
pub fn mark(fields: Fields, packet: &Packet) -> Option<Truth> {
    let (mark, mask) = (fields.u32(0)?, fields.u32(4)?);
    let inverted = fields.u8(8)? != 0;
    Some(packet.mark.map_or(Truth::Unknown, |known| {
        ((known & mask == mark) != inverted).into()
    }))
}

/// `struct ipt_ttl_info`, and `struct ip6t_hl_info`, which is the same.
pub fn ttl(fields: Fields, packet: &Packet) -> Option<Truth> {
    let (mode, asked) = (fields.u8(0)?, fields.u8(1)?);
    let Some(ttl) = packet.ttl else {
        return Some(Truth::Unknown);
    };
    match mode {
        0 => Some((ttl == asked).into()),
        1 => Some((ttl != asked).into()),
        2 => Some((ttl < asked).into()),
        3 => Some((ttl > asked).into()),
        _ => None,
    }
}

/// `struct xt_length_info`. A SYN or its answer has no data here: its length lies between the
/// bare headers and those with all the options they have room for.
pub fn length(fields: Fields, view: &View) -> Option<Truth> {
    let (low, high) = (fields.u16(0)?, fields.u16(2)?);
    let inverted = fields.u8(4)? != 0;
    let (least, most) = if view.v6 { (60, 100) } else { (40, 120) };
    if view.packet.flags & SYN == 0 {
        return Some(Truth::Unknown);
    }
    Some(if low <= least && most <= high {
        (!inverted).into()
    } else if most < low || high < least {
        inverted.into()
    } else {
        Truth::Unknown
    })
}
