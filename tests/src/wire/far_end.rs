//! What the machines at the far end of a cable answer, frame by frame.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, NetSlice, PacketBuilder, SlicedPacket,
    TcpSlice, TransportSlice,
};

/// The hardware address of everything at the far end.
const MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 2];
const HOPS: u8 = 64;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// How the far end meets a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With a reset.
    Reset,
    /// With an ICMP or ICMPv6 error from `sender`, or from the dialled host itself.
    Icmp {
        kind: u8,
        code: u8,
        sender: Option<IpAddr>,
    },
}

impl FromStr for Answer {
    type Err = Error;

    /// `reset`, `3/13` or `3/13@10.77.0.254`.
    fn from_str(text: &str) -> Result<Self> {
        if text == "reset" {
            return Ok(Self::Reset);
        }
        let (numbers, sender) = match text.split_once('@') {
            Some((numbers, sender)) => (numbers, Some(sender.parse()?)),
            None => (text, None),
        };
        let Some((kind, code)) = numbers.split_once('/') else {
            bail!("{text:?} is neither `reset` nor an ICMP type and code such as `3/13`");
        };
        Ok(Self::Icmp {
            kind: kind.parse().context("no ICMP type")?,
            code: code.parse().context("no ICMP code")?,
            sender,
        })
    }
}

/// The machines at the far end.
#[derive(Debug, Clone, Default)]
pub struct FarEnd {
    /// What a SYN to a port gets; one to any other port gets nothing.
    pub ports: HashMap<u16, Answer>,
}

impl FarEnd {
    /// The frame that comes back for `frame`, if any.
    ///
    /// # Errors
    ///
    /// The answer cannot be built; a frame that cannot be read gets none.
    pub fn answer(&self, frame: &[u8]) -> Result<Option<Vec<u8>>> {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
            return Ok(None);
        };
        let Some(sender) = frame
            .get(6..12)
            .and_then(|mac| <[u8; 6]>::try_from(mac).ok())
        else {
            return Ok(None);
        };
        match (&packet.net, &packet.transport) {
            (Some(NetSlice::Arp(request)), _) => self.arp(sender, &request.to_packet()),
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp)))
                if icmp.slice().first() == Some(&NEIGHBOUR_SOLICITATION) =>
            {
                self.neighbour(sender, ip.header().source_addr(), icmp.slice())
            }
            (Some(net), Some(TransportSlice::Tcp(tcp))) if tcp.syn() && !tcp.ack() => {
                let Some((from, to)) = addresses(net) else {
                    return Ok(None);
                };
                match self.ports.get(&tcp.destination_port()) {
                    Some(Answer::Reset) => reset(sender, from, to, tcp).map(Some),
                    Some(&Answer::Icmp {
                        kind,
                        code,
                        sender: router,
                    }) => icmp(
                        sender,
                        from,
                        router.unwrap_or(to),
                        (kind, code),
                        &frame[14..],
                    )
                    .map(Some),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    fn arp(&self, sender: [u8; 6], request: &ArpPacket) -> Result<Option<Vec<u8>>> {
        let Ok(target) = <[u8; 4]>::try_from(request.target_protocol_addr()) else {
            return Ok(None);
        };
        let asker = request.sender_protocol_addr();
        let about_itself = asker == target;
        if request.operation != ArpOperation::REQUEST || about_itself {
            return Ok(None);
        }
        let answer = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            ArpOperation::REPLY,
            &MAC,
            &target,
            &sender,
            asker,
        )?;
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MAC, sender)
            .arp(answer)
            .write(&mut frame)?;
        Ok(Some(frame))
    }

    /// Answers a neighbour solicitation (RFC 4861, 4.3 and 4.4).
    fn neighbour(&self, sender: [u8; 6], asker: Ipv6Addr, icmp: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(target) = icmp
            .get(8..24)
            .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
        else {
            return Ok(None);
        };
        // A solicitation without a source asks whether its own new address is free.
        if asker.is_unspecified() {
            return Ok(None);
        }
        let solicited_and_overriding = [0x60, 0, 0, 0];
        let mut body = target.to_vec();
        let target_link_layer_address = [2, 1];
        body.extend(target_link_layer_address);
        body.extend(MAC);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MAC, sender)
            .ipv6(target, asker.octets(), 255)
            .icmpv6_raw(NEIGHBOUR_ADVERTISEMENT, 0, solicited_and_overriding)
            .write(&mut frame, &body)?;
        Ok(Some(frame))
    }
}

fn addresses(net: &NetSlice) -> Option<(IpAddr, IpAddr)> {
    match net {
        NetSlice::Ipv4(ip) => Some((
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        )),
        NetSlice::Ipv6(ip) => Some((
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        )),
        NetSlice::Arp(_) => None,
    }
}

fn reset(mac: [u8; 6], from: IpAddr, to: IpAddr, syn: &TcpSlice) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(MAC, mac);
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(to.octets(), from.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(to.octets(), from.octets(), HOPS),
        _ => bail!("{from} and {to} are of different families"),
    };
    let mut frame = Vec::new();
    ip.tcp(syn.destination_port(), syn.source_port(), 0, 0)
        .rst()
        .ack(syn.sequence_number().wrapping_add(1))
        .write(&mut frame, &[])?;
    Ok(frame)
}

fn icmp(
    mac: [u8; 6],
    to: IpAddr,
    from: IpAddr,
    (kind, code): (u8, u8),
    about: &[u8],
) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(MAC, mac);
    let unused = [0; 4];
    let mut frame = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet
            .ipv4(from.octets(), to.octets(), HOPS)
            .icmpv4_raw(kind, code, unused)
            .write(&mut frame, about)?,
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet
            .ipv6(from.octets(), to.octets(), HOPS)
            .icmpv6_raw(kind, code, unused)
            .write(&mut frame, about)?,
        _ => bail!("{from} cannot report to {to}"),
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn syn(port: u16) -> Result<Vec<u8>> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], MAC)
            .ipv4([10, 77, 0, 1], [10, 77, 0, 2], HOPS)
            .tcp(40_000, port, 7, 64)
            .syn()
            .write(&mut frame, &[])?;
        Ok(frame)
    }

    fn far_end() -> Result<FarEnd> {
        Ok(FarEnd {
            ports: [(1, Answer::Reset), (2, "3/13@10.77.0.254".parse()?)].into(),
        })
    }

    fn answer(frame: &[u8]) -> Result<Vec<u8>> {
        far_end()?.answer(frame)?.context("no answer")
    }

    #[test]
    fn a_reset_answers_the_very_syn() -> Result<()> {
        let frame = answer(&syn(1)?)?;
        let packet = SlicedPacket::from_ethernet(&frame)?;
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
            panic!("no TCP: {packet:?}");
        };
        assert!(tcp.rst() && tcp.ack());
        assert_eq!(tcp.acknowledgment_number(), 8);
        assert_eq!((tcp.source_port(), tcp.destination_port()), (1, 40_000));
        Ok(())
    }

    #[test]
    fn an_icmp_error_quotes_the_packet_and_comes_from_the_router() -> Result<()> {
        let asked = syn(2)?;
        let frame = answer(&asked)?;
        let packet = SlicedPacket::from_ethernet(&frame)?;
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) =
            (&packet.net, &packet.transport)
        else {
            panic!("no ICMP: {packet:?}");
        };
        assert_eq!(ip.header().source_addr(), Ipv4Addr::new(10, 77, 0, 254));
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 13));
        assert_eq!(icmp.payload(), &asked[14..]);
        Ok(())
    }

    #[test]
    fn a_port_without_an_answer_swallows_the_syn() -> Result<()> {
        assert_eq!(far_end()?.answer(&syn(3)?)?, None);
        Ok(())
    }
}
