//! Types of addresses (`xt_addrtype.c`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::View;
use crate::case::Hook;
use crate::firewall::fields::Fields;
use crate::firewall::truth::Truth;

/// `XT_ADDRTYPE_*`, which for IPv4 are one bit each of `RTN_*`.
const UNSPEC: u16 = 1;
const UNICAST: u16 = 1 << 1;
const LOCAL: u16 = 1 << 2;
const BROADCAST: u16 = 1 << 3;
const ANYCAST: u16 = 1 << 4;
const MULTICAST: u16 = 1 << 5;
const UNREACHABLE: u16 = 1 << 7;

/// `XT_ADDRTYPE_LIMIT_IFACE_*`.
const LIMITED: u32 = 0x04 | 0x08;

/// `struct xt_addrtype_info` and `struct xt_addrtype_info_v1`.
pub fn addrtype(fields: Fields, revision: u8, view: &View) -> Option<Truth> {
    let (source, destination) = (fields.u16(0)?, fields.u16(2)?);
    let flags = fields.u32(4)?;
    let (not_source, not_destination, limited) = match revision {
        0 => (flags != 0, fields.u32(8)? != 0, false),
        _ => (flags & 1 != 0, flags & 2 != 0, flags & LIMITED != 0),
    };
    let packet = view.packet;
    // No hook tells where it came from: a transparent socket sends from any address.
    let ends = [
        (source, not_source, packet.from.ip(), packet.from_local),
        (destination, not_destination, packet.to.ip(), to_local(view)),
    ];
    Some(
        ends.into_iter()
            .filter(|(mask, ..)| *mask != 0)
            .map(|(mask, not, address, local)| {
                let truth = match address.to_canonical() {
                    IpAddr::V4(address) => ip(address, mask, local, limited),
                    IpAddr::V6(address) => ip6(address, mask, local, limited),
                };
                if not { truth.not() } else { truth }
            })
            .fold(Truth::Yes, Truth::and),
    )
}

/// What is routed to the input hook is for an address of its own, what is forwarded is not. That
/// `TPROXY` leads other packets to the input hook is left to who knows of it.
fn to_local(view: &View) -> Option<bool> {
    view.packet.to_local.or(match view.hook {
        Hook::Input => Some(true),
        Hook::Forward => Some(false),
        _ => None,
    })
}

/// `inet_dev_addr_type` finds an address in the local table or takes it for unicast. TCP is not
/// spoken with the broadcast addresses of a subnet, which only that table knows.
fn ip(address: Ipv4Addr, mask: u16, local: Option<bool>, limited: bool) -> Truth {
    let first = address.octets()[0];
    let kind = if first == 0 || address == Ipv4Addr::BROADCAST {
        BROADCAST
    } else if address.is_multicast() {
        MULTICAST
    } else {
        match (local.or(address.is_loopback().then_some(true)), limited) {
            (Some(false), _) => UNICAST,
            (Some(true), false) => LOCAL,
            // Local, but perhaps at another interface, where it counts as unicast.
            (Some(true), true) | (None, _) => return one_of(mask, &[LOCAL, UNICAST]),
        }
    };
    (mask & kind != 0).into()
}

/// Of kinds that it may be.
fn one_of(mask: u16, kinds: &[u16]) -> Truth {
    let all = kinds.iter().all(|kind| mask & kind != 0);
    let none = kinds.iter().all(|kind| mask & kind == 0);
    match (all, none) {
        (true, _) => Truth::Yes,
        (_, true) => Truth::No,
        _ => Truth::Unknown,
    }
}

/// `match_type6`: some of the types must hold all, of the others one must.
fn ip6(address: Ipv6Addr, mask: u16, local: Option<bool>, limited: bool) -> Truth {
    let multicast = address.is_multicast();
    let unicast = !multicast && !address.is_unspecified();
    let must = (mask & MULTICAST == 0 || multicast)
        && (mask & UNICAST == 0 || unicast)
        && (mask & UNSPEC == 0 || address.is_unspecified());
    let routed = mask & (LOCAL | ANYCAST | UNREACHABLE);
    if !must || routed == 0 {
        return must.into();
    }
    match local.or(address.is_loopback().then_some(true)) {
        Some(true) if routed & LOCAL != 0 && !limited => Truth::Yes,
        Some(false) if routed == LOCAL => Truth::No,
        _ => Truth::Unknown,
    }
}
