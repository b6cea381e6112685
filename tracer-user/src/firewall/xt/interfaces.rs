//! Bridge ports, kinds of frames, and IPsec (`xt_physdev.c`, `xt_pkttype.c`, `xt_policy.c`): known
//! of what this host sends and of what loops, for which there is none of it.

use super::View;
use crate::case::Hook;
use crate::firewall::fields::Fields;
use crate::firewall::truth::Truth;

/// `XT_PHYSDEV_OP_*`, all of them.
const PHYSDEV: u8 = 0x1f;

/// `PACKET_HOST`.
const HOST: i32 = 0;

/// `XT_POLICY_MATCH_NONE`.
const NO_POLICY: u16 = 0x4;

/// `struct xt_physdev_info`. What crosses no bridge fits where every option is inverted.
pub fn physdev(fields: Fields, view: &View) -> Option<Truth> {
    let (inverted, asked) = (fields.u8(64)?, fields.u8(65)?);
    Some(match view.loops() {
        true => (asked & PHYSDEV & !inverted == 0).into(),
        false => Truth::Unknown,
    })
}

/// `struct xt_pkttype_info`. A packet that was not received, or from this host, is for it.
pub fn pkttype(fields: Fields, view: &View) -> Option<Truth> {
    let (asked, inverted) = (fields.i32(0)?, fields.i32(4)? != 0);
    Some(match view.loops() || view.hook == Hook::Output {
        true => ((asked == HOST) != inverted).into(),
        false => Truth::Unknown,
    })
}

/// `struct xt_policy_info`. The loopback interface has `disable_xfrm`.
pub fn policy(fields: Fields, view: &View) -> Option<Truth> {
    // Four elements of 76 bytes stand before.
    let flags = fields.u16(304)?;
    Some(match view.loops() {
        true => (flags & NO_POLICY != 0).into(),
        false => Truth::Unknown,
    })
}
