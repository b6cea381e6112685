//! Ranges of addresses (`xt_iprange.c`).

use std::net::IpAddr;

use super::View;
use crate::firewall::fields::Fields;
use crate::firewall::truth::Truth;

/// `struct xt_iprange_mtinfo`.
pub fn iprange(fields: Fields, view: &View) -> Option<Truth> {
    let flags = fields.u8(64)?;
    let ends = [
        (0x01, 0x10, 0, view.packet.from.ip()),
        (0x02, 0x20, 32, view.packet.to.ip()),
    ];
    let mut holds = true;
    for (asked, inverted, at, address) in ends {
        if flags & asked == 0 {
            continue;
        }
        let range = fields.address(at, view.v6)?..=fields.address(at + 16, view.v6)?;
        let address: IpAddr = address.to_canonical();
        holds &= range.contains(&address) != (flags & inverted != 0);
    }
    Some(holds.into())
}
