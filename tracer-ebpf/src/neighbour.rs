//! Packets of ARP and of IPv6 neighbour discovery that a packet filter freed: without them no SYN
//! leaves for its next hop.

use aya_ebpf::{maps::PerCpuArray, programs::RawTracePointContext};
use tracer_common::record::{Address, FRAMES, NeighbourDropped, kind};

use crate::{
    emit::{emit, fill, header, lost, now},
    kernel::{inode_of_net, layout, net_of_packet, read},
    maps::{Credit, NEIGHBOUR_CREDIT},
    packet::beside,
    reply::stack,
};

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// `ARPHRD_ETHER`, `ETH_P_IP`, and the lengths of their addresses: how an ARP packet begins.
const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// `ARPOP_REQUEST` and `ARPOP_REPLY` of include/uapi/linux/if_arp.h.
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const IPPROTO_ICMPV6: u8 = 58;
/// `NDISC_NEIGHBOUR_SOLICITATION` and `NDISC_NEIGHBOUR_ADVERTISEMENT` of include/net/ndisc.h.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// A scan of a network may make a filter drop thousands in a second; an attempt needs one.
const MOST_IN_A_WINDOW: u64 = 64;
const WINDOW_NS: u64 = 100_000_000;

/// What one packet asks or tells.
pub struct Talk {
    pub wanted: Address,
    pub asker: Address,
    pub answer: bool,
}

/// Tells that a packet filter freed `skb`, where that is a packet of ARP or neighbour discovery.
#[inline(never)]
pub fn dropped(context: &RawTracePointContext, skb: u64) {
    let Some(talk) = talk(skb) else {
        return;
    };
    if !may_tell(&NEIGHBOUR_CREDIT) {
        lost(u32::from(kind::NEIGHBOUR_DROPPED));
        return;
    }
    let device: u64 = read(skb, layout!(skb_dev)).unwrap_or(0);
    let net = net_of_packet(skb, device);
    let fill = fill!(record: NeighbourDropped {
        header: header(kind::NEIGHBOUR_DROPPED),
        wanted: talk.wanted,
        asker: talk.asker,
        netns: inode_of_net(net),
        ifindex: read(device, layout!(netdev_ifindex)).unwrap_or(0),
        answer: u32::from(talk.answer),
        reserved: 0,
        location: context.arg(1),
        beside: beside(skb, net),
        frames: [0; FRAMES],
    });
    emit(kind::NEIGHBOUR_DROPPED, |record| {
        fill(record);
        // SAFETY: the record was filled above.
        stack(context, unsafe { &mut (*record).frames });
    });
}

/// What `skb` asks or tells, where it is a packet of ARP or neighbour discovery.
#[inline(always)]
pub fn talk(skb: u64) -> Option<Talk> {
    let protocol = u16::from_be(read(skb, layout!(skb_protocol))?);
    if protocol != ETH_P_ARP && protocol != ETH_P_IPV6 {
        return None;
    }
    let network: u16 = read(skb, layout!(skb_network_header))?;
    let start = read::<u64>(skb, layout!(skb_head))? + u64::from(network);
    if protocol == ETH_P_ARP {
        arp(start)
    } else {
        discovery(start)
    }
}

/// The header of 8 bytes, then link-layer and IPv4 address of the sender and of the target
/// (RFC 826).
#[inline(always)]
fn arp(start: u64) -> Option<Talk> {
    let packet: [u8; 28] = read(start, 0)?;
    let answer = packet[7] == REPLY;
    if packet[..6] != ETHERNET_AND_IPV4 || packet[6] != 0 || !(answer || packet[7] == REQUEST) {
        return None;
    }
    let sender = Address::v4([packet[14], packet[15], packet[16], packet[17]], 0);
    let target = Address::v4([packet[24], packet[25], packet[26], packet[27]], 0);
    Some(match answer {
        true => Talk {
            wanted: sender,
            asker: target,
            answer,
        },
        false => Talk {
            wanted: target,
            asker: sender,
            answer,
        },
    })
}

/// The target's address stands 8 bytes into both messages (RFC 4861, 4.3 and 4.4), which carry no
/// extension headers.
#[inline(always)]
fn discovery(start: u64) -> Option<Talk> {
    let next: u8 = read(start, 6)?;
    let message: u8 = read(start, 40)?;
    let answer = message == ADVERTISEMENT;
    if next != IPPROTO_ICMPV6 || !(answer || message == SOLICITATION) {
        return None;
    }
    let asker: [u8; 16] = read(start, if answer { 24 } else { 8 })?;
    let wanted: [u8; 16] = read(start, 48)?;
    Some(Talk {
        wanted: Address::v6(wanted, 0, 0),
        asker: Address::v6(asker, 0, 0),
        answer,
    })
}

/// Whether this processor has told few such packets lately; takes one more as told.
#[inline(always)]
pub fn may_tell(told: &PerCpuArray<Credit>) -> bool {
    let Some(credit) = told.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the pointer is to this processor's own element of the map.
    let credit = unsafe { &mut *credit };
    let now = now();
    if now - credit.since > WINDOW_NS {
        credit.since = now;
        credit.told = 0;
    }
    credit.told += 1;
    credit.told <= MOST_IN_A_WINDOW
}
