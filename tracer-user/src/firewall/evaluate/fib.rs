//! What routing says of the packet's addresses (`nft_fib4_eval_type`, `nft_fib6_eval_type`).

use crate::case::Hook;
use crate::firewall::packet::{Kind, Side};

use super::load::Loaded;
use super::scene::{Scene, is_loopback};

// enum nft_fib_result, enum nft_fib_flags (include/uapi/linux/netfilter/nf_tables.h).
const RESULT_ADDRTYPE: u32 = 3;
const SADDR: u32 = 1;
const DADDR: u32 = 1 << 1;
const MARK: u32 = 1 << 2;

const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;

/// The type of an address where it follows from the hook; all else is in routing tables, which
/// are not read here.
pub fn fib(scene: &Scene, result: u32, flags: u32) -> Loaded {
    // Neighbour discovery is sent to groups as well.
    if result != RESULT_ADDRTYPE || scene.packet.kind != Kind::Segment {
        return Loaded::perhaps(16);
    }
    // With an interface the type is that on this interface.
    let local = match flags & !MARK {
        SADDR => source_is_local(scene),
        DADDR => destination_is_local(scene),
        _ => None,
    };
    match local {
        Some(true) => Loaded::word(RTN_LOCAL),
        Some(false) => Loaded::word(RTN_UNICAST),
        None => Loaded::unknown(4),
    }
}

fn source_is_local(scene: &Scene) -> Option<bool> {
    let packet = &scene.packet;
    if packet.from.ip().is_loopback() {
        return Some(true);
    }
    let by_way = match scene.hook {
        Hook::Input | Hook::Prerouting if scene.came_by_loopback() == Some(true) => Some(true),
        _ => None,
    };
    packet.from_local.or(by_way)
}

fn destination_is_local(scene: &Scene) -> Option<bool> {
    let packet = &scene.packet;
    if packet.to.ip().is_loopback() {
        return Some(true);
    }
    let by_way = match (scene.hook, &packet.output) {
        // IP's local delivery brought it here.
        (Hook::Input, _) => Some(true),
        (Hook::Prerouting, _) if scene.came_by_loopback() == Some(true) => Some(true),
        (Hook::Output | Hook::Postrouting, Side::Device { .. }) => {
            Some(is_loopback(&packet.output))
        }
        (Hook::Forward, _) => Some(false),
        _ => None,
    };
    packet.to_local.or(by_way)
}
