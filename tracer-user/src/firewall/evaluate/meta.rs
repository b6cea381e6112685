//! What the kernel keeps about the packet (`nft_meta_get_eval`).

use crate::case::{FilterFamily as Family, Hook};
use crate::firewall::packet::{Kind, Owner, Side};

use super::carried::Carried;
use super::load::Loaded;
use super::scene::{Scene, is_loopback};

// enum nft_meta_keys (include/uapi/linux/netfilter/nf_tables.h).
const LEN: u32 = 0;
const PROTOCOL: u32 = 1;
const PRIORITY: u32 = 2;
const MARK: u32 = 3;
const IIF: u32 = 4;
const OIF: u32 = 5;
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const IIFTYPE: u32 = 8;
const OIFTYPE: u32 = 9;
const SKUID: u32 = 10;
const SKGID: u32 = 11;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const PKTTYPE: u32 = 19;
const CPU: u32 = 20;
const IIFGROUP: u32 = 21;
const OIFGROUP: u32 = 22;
const CGROUP: u32 = 23;
const PRANDOM: u32 = 24;
const SECPATH: u32 = 25;
const TIME_NS: u32 = 30;
const TIME_DAY: u32 = 31;
const TIME_HOUR: u32 = 32;

const IFNAMSIZ: usize = 16;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ARPHRD_LOOPBACK: u16 = 772;
const PACKET_HOST: u8 = 0;

pub fn meta(scene: &Scene, carried: &Carried, key: u32) -> Loaded {
    let packet = &scene.packet;
    match key {
        PROTOCOL if packet.kind.is_arp() => Loaded::value(&ETH_P_ARP.to_be_bytes()),
        PROTOCOL if scene.is_ipv4() => Loaded::value(&ETH_P_IP.to_be_bytes()),
        PROTOCOL => Loaded::value(&ETH_P_IPV6.to_be_bytes()),
        NFPROTO => Loaded::value(&[nfproto(scene)]),
        L4PROTO => match packet.kind.protocol() {
            Some(protocol) => Loaded::value(&[protocol]),
            None => Loaded::fails(),
        },
        MARK => Loaded::bytes(carried.mark.0.to_vec()),
        IIF => index(&packet.input),
        OIF => index(&packet.output),
        IIFNAME => name(&packet.input),
        OIFNAME => name(&packet.output),
        // Here newer kernels give the type of `skb->dev`, which is the output device by now: seen
        // on 6.18.
        IIFTYPE if scene.hook == Hook::Postrouting => Loaded::perhaps(2),
        IIFTYPE => kind(&packet.input),
        OIFTYPE => kind(&packet.output),
        // Groups are not read, and kernels before 5.13 take that of the other side.
        IIFGROUP | OIFGROUP => Loaded::perhaps(4),
        SKUID | SKGID | CGROUP => owner(packet.owner, key),
        PKTTYPE => packet_type(scene),
        // The time is taken at the evaluation, and nobody noted it.
        LEN | PRIORITY | CPU | PRANDOM | TIME_HOUR => Loaded::unknown(4),
        SECPATH | TIME_DAY => Loaded::unknown(1),
        TIME_NS => Loaded::unknown(8),
        // Realm, kinds of interfaces, ports of bridges, slave interfaces: the longest is a name.
        _ => Loaded::perhaps(IFNAMSIZ),
    }
}

/// The name of a key in a doubt.
pub fn key_name(key: u32) -> &'static str {
    match key {
        LEN => "the packet's length",
        PRIORITY => "the packet's priority",
        MARK => "the packet's mark",
        IIF | IIFNAME | IIFTYPE | IIFGROUP => "the input interface",
        OIF | OIFNAME | OIFTYPE | OIFGROUP => "the output interface",
        SKUID => "the socket's user",
        SKGID => "the socket's group",
        CGROUP => "the socket's cgroup",
        CPU => "the CPU",
        PRANDOM => "a random number",
        TIME_NS | TIME_DAY | TIME_HOUR => "the time of the packet",
        _ => "something about the packet",
    }
}

/// `nft_pf`: the family of the hook, which for an ingress chain of the family `inet` is the
/// packet's (`nft_do_chain_inet_ingress`).
fn nfproto(scene: &Scene) -> u8 {
    const NFPROTO_IPV4: u8 = 2;
    const NFPROTO_ARP: u8 = 3;
    const NFPROTO_NETDEV: u8 = 5;
    const NFPROTO_BRIDGE: u8 = 7;
    const NFPROTO_IPV6: u8 = 10;
    match scene.family {
        Family::Netdev => NFPROTO_NETDEV,
        Family::Bridge => NFPROTO_BRIDGE,
        Family::Arp => NFPROTO_ARP,
        _ if scene.is_ipv4() => NFPROTO_IPV4,
        _ => NFPROTO_IPV6,
    }
}

/// Without a device index 0 and an empty name (`nft_meta_store_ifindex`, `_ifname`, since 4.20).
fn index(side: &Side) -> Loaded {
    match side {
        Side::Unknown => Loaded::unknown(4),
        Side::Absent => Loaded::word(0),
        Side::Device { index, .. } => Loaded::word(*index),
    }
}

fn name(side: &Side) -> Loaded {
    let name = match side {
        Side::Unknown => return Loaded::unknown(IFNAMSIZ),
        Side::Absent => "",
        Side::Device { name, .. } => name,
    };
    let mut padded = [0; IFNAMSIZ];
    for (place, byte) in padded.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    Loaded::value(&padded)
}

fn kind(side: &Side) -> Loaded {
    match side {
        Side::Unknown => Loaded::perhaps(2),
        Side::Absent => Loaded::fails(),
        _ if is_loopback(side) => Loaded::value(&ARPHRD_LOOPBACK.to_ne_bytes()),
        Side::Device { .. } => Loaded::unknown(2),
    }
}

fn owner(owner: Owner, key: u32) -> Loaded {
    match (owner, key) {
        (Owner::Absent, _) => Loaded::fails(),
        (Owner::User { uid, .. }, SKUID) => Loaded::word(uid),
        (Owner::User { gid: Some(gid), .. }, SKGID) => Loaded::word(gid),
        (Owner::User { .. }, _) => Loaded::unknown(4),
        (Owner::Unknown, _) => Loaded::perhaps(4),
    }
}

/// What a host sends itself or receives by IP is `PACKET_HOST`: `ip_rcv_core` drops what is for
/// other hosts, and TCP is not sent to groups.
fn packet_type(scene: &Scene) -> Loaded {
    match scene.hook {
        Hook::Ingress | Hook::Egress => Loaded::unknown(1),
        _ if scene.family == Family::Bridge => Loaded::unknown(1),
        // Those of ARP and neighbour discovery are sent to all, to a group or to one.
        _ if scene.packet.kind != Kind::Segment => Loaded::unknown(1),
        _ => Loaded::value(&[PACKET_HOST]),
    }
}
