//! Reads TCP headers out of packets, and tells whether a packet belongs to an attempt of nginx.

use tracer_common::{
    layout::NONE,
    record::{Address, Beside, Segment},
};

use crate::{
    emit::current,
    kernel::{inode_of_net, layout, net_of_packet, read},
    maps::{self, ATTEMPTS, Attempt, DIALLED, WAITING},
};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const IPPROTO_TCP: u8 = 6;
/// `SKB_DST_PTRMASK` of include/linux/skbuff.h: the flag beside a route that it is not counted.
const DST: u64 = !1;
/// `RTN_LOCAL` of include/uapi/linux/rtnetlink.h, `RTF_LOCAL` of include/uapi/linux/ipv6_route.h.
const RTN_LOCAL: u16 = 2;
const RTF_LOCAL: u32 = 0x8000_0000;
/// Bits of the flag byte of a TCP header.
pub const FLAG_SYN: u8 = 0x02;
pub const FLAG_RST: u8 = 0x04;
pub const FLAG_ACK: u8 = 0x10;

/// Bytes of an IPv4 header without options, of an IPv6 header, and of a TCP header up to and with
/// its flags.
const V4_HEADER: usize = 20;
const V6_HEADER: u64 = 40;
const TCP_START: usize = 14;

/// The side that a packet comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// nginx's opening SYN.
    Nginx,
    /// A SYN-ACK or a reset towards nginx.
    Target,
}

/// The TCP segment in `skb`, where there is one with any of these flags. The headers are found
/// from the network header on: the transport header is not set yet at the early hooks.
#[inline(always)]
pub fn segment(skb: u64, flags: u8) -> Option<Segment> {
    let protocol = u16::from_be(read(skb, layout!(skb_protocol))?);
    let network: u16 = match protocol {
        ETH_P_IP | ETH_P_IPV6 => read(skb, layout!(skb_network_header))?,
        _ => return None,
    };
    let header = read::<u64>(skb, layout!(skb_head))? + u64::from(network);
    if protocol == ETH_P_IP {
        v4(header, flags)
    } else {
        v6(header, flags)
    }
}

/// Fills in where the packet is, and returns its `struct net`.
#[inline(always)]
pub fn locate(skb: u64, segment: &mut Segment) -> u64 {
    let device: u64 = read(skb, layout!(skb_dev)).unwrap_or(0);
    let net = net_of_packet(skb, device);
    segment.netns = inode_of_net(net);
    segment.ifindex = read(device, layout!(netdev_ifindex)).unwrap_or(0);
    net
}

/// What the kernel keeps of the packet beside its headers.
#[inline(always)]
pub fn beside(skb: u64, net: u64) -> Beside {
    Beside {
        mark: read(skb, layout!(skb_mark)).unwrap_or(0),
        input: read(skb, layout!(skb_iif)).unwrap_or(0),
        output: read::<u64>(route(skb), layout!(dst_dev))
            .and_then(|device| read(device, layout!(netdev_ifindex)))
            .unwrap_or(0),
        generation: read(net, layout!(net_nft_generation)).unwrap_or(NONE),
    }
}

/// Whether the segment opens a connection of nginx or answers one, and which.
#[inline(always)]
pub fn belongs(segment: &Segment) -> Option<Side> {
    let opening = segment.flags & (FLAG_SYN | FLAG_ACK) == FLAG_SYN;
    if opening {
        return (dialled(&segment.to) || waiting(&segment.from) || under_way(segment))
            .then_some(Side::Nginx);
    }
    if segment.flags & (FLAG_SYN | FLAG_RST) == 0 {
        return None;
    }
    (dialled(&segment.from) || waiting(&segment.to)).then_some(Side::Target)
}

#[inline(always)]
fn v4(header: u64, flags: u8) -> Option<Segment> {
    let ip: [u8; V4_HEADER] = read(header, 0)?;
    if ip[9] != IPPROTO_TCP {
        return None;
    }
    let options = u64::from(ip[0] & 0x0f) * 4;
    let tcp: [u8; TCP_START] = read(header + options, 0)?;
    (tcp[13] & flags != 0).then(|| {
        assemble(
            Address::v4([ip[12], ip[13], ip[14], ip[15]], port(&tcp, 0)),
            Address::v4([ip[16], ip[17], ip[18], ip[19]], port(&tcp, 2)),
            &tcp,
            ip[8],
        )
    })
}

/// IPv6 without extension headers: opening segments and their answers carry none in practice.
#[inline(always)]
fn v6(header: u64, flags: u8) -> Option<Segment> {
    let start: [u8; 8] = read(header, 0)?;
    if start[6] != IPPROTO_TCP {
        return None;
    }
    let tcp: [u8; TCP_START] = read(header + V6_HEADER, 0)?;
    if tcp[13] & flags == 0 {
        return None;
    }
    let from: [u8; 16] = read(header, 8)?;
    let to: [u8; 16] = read(header, 24)?;
    Some(assemble(
        Address::v6(from, port(&tcp, 0), 0),
        Address::v6(to, port(&tcp, 2), 0),
        &tcp,
        start[7],
    ))
}

#[inline(always)]
fn port(tcp: &[u8; TCP_START], at: usize) -> u16 {
    u16::from_be_bytes([tcp[at], tcp[at + 1]])
}

#[inline(always)]
fn assemble(from: Address, to: Address, tcp: &[u8; TCP_START], ttl: u8) -> Segment {
    Segment {
        from,
        to,
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        netns: 0,
        ifindex: 0,
        flags: tcp[13],
        ttl,
        reserved: 0,
    }
}

/// Whether the packet was routed to this host: only then `tcp_v4_send_reset` answers it where no
/// socket does.
#[inline(always)]
pub fn v4_is_for_this_host(skb: u64) -> bool {
    read::<u16>(route(skb), layout!(rtable_type)).is_none_or(|kind| kind == RTN_LOCAL)
}

/// The same of `tcp_v6_send_reset` (`ipv6_unicast_destination`).
#[inline(always)]
pub fn v6_is_for_this_host(skb: u64) -> bool {
    read::<u32>(route(skb), layout!(rt6_flags)).is_none_or(|flags| flags & RTF_LOCAL != 0)
}

#[inline(always)]
fn route(skb: u64) -> u64 {
    read::<u64>(skb, layout!(skb_refdst)).unwrap_or(0) & DST
}

/// Whether nginx dialled the address lately.
#[inline(always)]
pub fn dialled(address: &Address) -> bool {
    DIALLED.get_ptr(address.key()).is_some()
}

#[inline(always)]
fn waiting(address: &Address) -> bool {
    WAITING.get_ptr(address.key()).is_some()
}

/// The segment is the SYN of the `connect()` that the running task is in.
#[inline(always)]
fn under_way(segment: &Segment) -> bool {
    attempt_under_way(segment).is_some()
}

/// The attempt whose `connect()` the running task is in, where the segment is its SYN. On
/// loopback and to another namespace the answer is made before the call returns, on the same
/// processor.
#[inline(always)]
pub fn attempt_under_way(segment: &Segment) -> Option<&'static mut Attempt> {
    let (_, tid) = current();
    let call = maps::under_way(tid)?;
    // SAFETY: the entry belongs to the running thread, which is inside the call.
    let socket = unsafe { (*call).socket };
    if read::<u32>(socket, layout!(tcp_snd_una)) != Some(segment.sequence) {
        return None;
    }
    let attempt = ATTEMPTS.get_ptr_mut(socket)?;
    // SAFETY: the entry stays as long as its socket is in SYN_SENT, which `connect()` holds.
    Some(unsafe { &mut *attempt })
}
