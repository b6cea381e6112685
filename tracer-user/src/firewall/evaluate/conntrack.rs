//! What connection tracking says of the packet (`nft_ct_get_eval`).

use std::net::{IpAddr, SocketAddr};

use crate::case::Hook;
use crate::firewall::packet::{Conntrack, State};

use super::bits::Bits;
use super::carried::Carried;
use super::load::Loaded;
use super::scene::{Entry, Scene};

// enum nft_ct_keys (include/uapi/linux/netfilter/nf_tables.h).
const STATE: u32 = 0;
const DIRECTION: u32 = 1;
const STATUS: u32 = 2;
pub const MARK: u32 = 3;
const SECMARK: u32 = 4;
const EXPIRATION: u32 = 5;
const HELPER: u32 = 6;
const L3PROTOCOL: u32 = 7;
const SRC: u32 = 8;
const DST: u32 = 9;
const PROTOCOL: u32 = 10;
const PROTO_SRC: u32 = 11;
const PROTO_DST: u32 = 12;
const LABELS: u32 = 13;
const PKTS: u32 = 14;
const BYTES: u32 = 15;
const AVGPKT: u32 = 16;
const ZONE: u32 = 17;
const SRC_IP: u32 = 19;
const DST_IP: u32 = 20;
const SRC_IP6: u32 = 21;
const DST_IP6: u32 = 22;
const ID: u32 = 23;

const TCP: u8 = 6;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const REPLY: u8 = 1;

pub fn conntrack(scene: &Scene, carried: &Carried, key: u32, direction: Option<u8>) -> Loaded {
    let entry = scene.entry(carried);
    if key == STATE {
        return state_bits(entry).map_or(Loaded::unknown(4), Loaded::word);
    }
    match entry {
        Entry::Absent { .. } => Loaded::fails(),
        Entry::Unknown => Loaded::perhaps(field_length(key)),
        Entry::Is(state) => of_entry(scene, carried, key, direction, state),
    }
}

/// The name of a key in a doubt.
pub fn key_name(key: u32) -> &'static str {
    match key {
        STATE => "the connection's state",
        STATUS => "the connection's status",
        MARK => "the connection's mark",
        LABELS => "the connection's labels",
        _ => "something about the connection",
    }
}

/// `NF_CT_STATE_BIT` and its like (`nf_conntrack_common.h`).
fn state_bits(entry: Entry) -> Option<u32> {
    Some(match entry {
        Entry::Is(State::Established) => 1 << 1,
        Entry::Is(State::Related) => 1 << 2,
        Entry::Is(State::New) => 1 << 3,
        Entry::Is(State::Invalid) | Entry::Absent { untracked: false } => 1,
        Entry::Is(State::Untracked) | Entry::Absent { untracked: true } => 1 << 6,
        Entry::Unknown => return None,
    })
}

fn of_entry(
    scene: &Scene,
    carried: &Carried,
    key: u32,
    direction: Option<u8>,
    state: State,
) -> Loaded {
    let known = &scene.packet.conntrack;
    let tuple = || tuple(scene, direction);
    match key {
        DIRECTION => known.original.map_or(Loaded::unknown(1), |original| {
            Loaded::value(&[u8::from(!original)])
        }),
        STATUS => Loaded::bytes(status(known, state)),
        MARK => Loaded::bytes(carried.connection_mark.0.to_vec()),
        L3PROTOCOL if scene.is_ipv4() => Loaded::value(&[NFPROTO_IPV4]),
        L3PROTOCOL => Loaded::value(&[NFPROTO_IPV6]),
        PROTOCOL => Loaded::value(&[TCP]),
        // Only a connection that another one announced has a master with a helper.
        HELPER if state == State::New => Loaded::fails(),
        HELPER => Loaded::perhaps(16),
        SRC_IP | DST_IP if !scene.is_ipv4() => Loaded::fails(),
        SRC_IP6 | DST_IP6 if scene.is_ipv4() => Loaded::fails(),
        SRC | SRC_IP | SRC_IP6 => address(scene, tuple().0),
        DST | DST_IP | DST_IP6 => address(scene, tuple().1),
        PROTO_SRC => port(tuple().0),
        PROTO_DST => port(tuple().1),
        SECMARK | EXPIRATION | LABELS | PKTS | BYTES | AVGPKT | ZONE | ID => {
            Loaded::unknown(field_length(key))
        }
        _ => Loaded::perhaps(field_length(key)),
    }
}

fn field_length(key: u32) -> usize {
    match key {
        DIRECTION | L3PROTOCOL | PROTOCOL => 1,
        PROTO_SRC | PROTO_DST | ZONE => 2,
        PKTS | BYTES | AVGPKT => 8,
        HELPER | SRC | DST | SRC_IP6 | DST_IP6 | LABELS => 16,
        _ => 4,
    }
}

/// `ct->status`, as far as it follows from what is known.
fn status(known: &Conntrack, state: State) -> Vec<Bits> {
    const EXPECTED: u32 = 1;
    const SEEN_REPLY: u32 = 1 << 1;
    const ASSURED: u32 = 1 << 2;
    const DST_NAT: u32 = 1 << 5;
    let (mut value, mut mask) = (0, 0);
    if state == State::New {
        mask |= EXPECTED | SEEN_REPLY | ASSURED;
    } else if known.original == Some(false) {
        value |= SEEN_REPLY;
        mask |= SEEN_REPLY;
    }
    if let Some(translated) = known.destination_translated {
        value |= if translated { DST_NAT } else { 0 };
        mask |= DST_NAT;
    }
    let pairs = u32::to_ne_bytes(value)
        .into_iter()
        .zip(u32::to_ne_bytes(mask));
    pairs
        .map(|(value, mask)| Bits::partly(value, mask))
        .collect()
}

/// Source and destination of a direction of the connection, where known.
fn tuple(scene: &Scene, direction: Option<u8>) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let packet = &scene.packet;
    let known = &packet.conntrack;
    if direction == Some(REPLY) || known.original != Some(true) {
        let dialled = known.dialled.filter(|_| direction != Some(REPLY));
        return (None, dialled);
    }
    let untranslated = known.destination_translated == Some(false);
    let destination = known.dialled.or(untranslated.then_some(packet.to));
    // The source is translated at POSTROUTING, which a packet on loopback has passed before it
    // comes in, and at INPUT.
    let source_stands = match scene.hook {
        Hook::Output => true,
        Hook::Prerouting | Hook::Forward => scene.came_by_loopback() == Some(false),
        _ => false,
    };
    (source_stands.then_some(packet.from), destination)
}

fn address(scene: &Scene, of: Option<SocketAddr>) -> Loaded {
    match of.map(|of| of.ip()) {
        Some(IpAddr::V4(ip)) => Loaded::value(&ip.octets()),
        Some(IpAddr::V6(ip)) => Loaded::value(&ip.octets()),
        None => Loaded::unknown(if scene.is_ipv4() { 4 } else { 16 }),
    }
}

fn port(of: Option<SocketAddr>) -> Loaded {
    of.map_or(Loaded::unknown(2), |of| {
        Loaded::value(&of.port().to_be_bytes())
    })
}
