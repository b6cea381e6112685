//! Targets that translate addresses (`xt_nat.c`, `xt_REDIRECT.c`, `xt_NETMAP.c`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::View;
use crate::case::{Action, Hook};
use crate::firewall::expression::Extension;
use crate::firewall::fields::Fields;

/// `NF_NAT_RANGE_*`.
const ADDRESSES: u32 = 1;
const PORTS: u32 = 1 << 1;
const OFFSET: u32 = 1 << 5;

/// `struct nf_nat_range2`, or what the older structures have of it.
struct Range {
    flags: u32,
    addresses: (IpAddr, IpAddr),
    ports: (u16, u16),
}

/// What `DNAT` translates to.
pub fn destination(extension: &Extension, view: &View) -> Option<Action> {
    let range = match (extension.revision, view.v6) {
        (0, false) => first(Fields(&extension.data))?,
        (1 | 2, v6) => range(Fields(&extension.data), v6)?,
        _ => return None,
    };
    let old = view.packet.to;
    let address = match range.flags & ADDRESSES {
        0 => Some(old.ip()),
        _ => (range.addresses.0 == range.addresses.1).then_some(range.addresses.0),
    };
    Some(translate(address, port(&range, old.port())))
}

/// What `REDIRECT` translates to: the loopback address of what this host sends, and an address
/// of the interface where it was received.
pub fn redirect(extension: &Extension, view: &View) -> Option<Action> {
    let fields = Fields(&extension.data);
    let range = match (extension.revision, view.v6) {
        (0, false) => first(fields)?,
        (0, true) => range(fields, true)?,
        _ => return None,
    };
    let address = match (view.hook, view.v6) {
        (Hook::Output, false) => Some(Ipv4Addr::LOCALHOST.into()),
        (Hook::Output, true) => Some(Ipv6Addr::LOCALHOST.into()),
        _ => None,
    };
    Some(translate(address, port(&range, view.packet.to.port())))
}

/// `NETMAP` replaces the network part: of the destination where packets come in, else of the
/// source.
pub fn netmap(extension: &Extension, view: &View) -> Option<Action> {
    if !matches!(view.hook, Hook::Prerouting | Hook::Output) {
        return Some(Action::Accept);
    }
    let fields = Fields(&extension.data);
    let range = match (extension.revision, view.v6) {
        (0, false) => first(fields)?,
        (0, true) => range(fields, true)?,
        _ => return None,
    };
    let old = view.packet.to;
    let address = match (range.addresses, old.ip().to_canonical()) {
        ((IpAddr::V4(low), IpAddr::V4(high)), IpAddr::V4(old)) => {
            let host = low.to_bits() ^ high.to_bits();
            Some(Ipv4Addr::from_bits((low.to_bits() & !host) | (old.to_bits() & host)).into())
        }
        ((IpAddr::V6(low), IpAddr::V6(high)), IpAddr::V6(old)) => {
            let host = low.to_bits() ^ high.to_bits();
            Some(Ipv6Addr::from_bits((low.to_bits() & !host) | (old.to_bits() & host)).into())
        }
        _ => None,
    };
    Some(translate(address, Some(old.port())))
}

fn translate(address: Option<IpAddr>, port: Option<u16>) -> Action {
    let to = address
        .zip(port)
        .map(|(ip, port)| SocketAddr::new(ip, port));
    Action::Translate { to }
}

/// Null where the rule leaves a choice.
fn port(range: &Range, old: u16) -> Option<u16> {
    match range.flags & (PORTS | OFFSET) {
        0 => Some(old),
        PORTS if range.ports.0 == range.ports.1 => Some(range.ports.0),
        _ => None,
    }
}

/// The one range of `struct nf_nat_ipv4_multi_range_compat`.
fn first(fields: Fields) -> Option<Range> {
    Some(Range {
        flags: fields.u32(4)?,
        addresses: (fields.ipv4(8)?.into(), fields.ipv4(12)?.into()),
        ports: (fields.u16_be(16)?, fields.u16_be(18)?),
    })
}

/// `struct nf_nat_range` and `nf_nat_range2`.
fn range(fields: Fields, v6: bool) -> Option<Range> {
    Some(Range {
        flags: fields.u32(0)?,
        addresses: (fields.address(4, v6)?, fields.address(20, v6)?),
        ports: (fields.u16_be(36)?, fields.u16_be(38)?),
    })
}
