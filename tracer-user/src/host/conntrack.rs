//! What connection tracking knows of one connection.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::host::netlink::{Conversation, NetlinkError};
use crate::host::netns::{Namespace, within};
use crate::host::packet_filter::presence;

mod listed;

/// The destination that the connection from `from` to `to` really has: another than `to` where it
/// is translated. Null where the kernel does not track it, or does not say so: its list is looked
/// through where asking for one connection would load a module.
pub fn destination(namespace: &Namespace, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    if from.is_ipv4() != to.is_ipv4() {
        return None;
    }
    if !presence::conntrack().unwrap_or(false) {
        return listed::replied_from(namespace, from, to);
    }
    let opened = within(namespace, || Conversation::open(NETLINK_NETFILTER));
    let answer = ask(&mut opened.ok()?.ok()?, from, to).ok()?;
    replied_from(&answer)
}

fn ask(
    conversation: &mut Conversation,
    from: SocketAddr,
    to: SocketAddr,
) -> Result<NetfilterMessage, NetlinkError> {
    let family = if to.is_ipv4() {
        NetfilterProtoFamily::IPv4
    } else {
        NetfilterProtoFamily::IPv6
    };
    let original = ConntrackAttribute::CtaTupleOrig(vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(from.ip()),
            IPTuple::DestinationAddress(to.ip()),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::Tcp),
            ProtoTuple::SourcePort(from.port()),
            ProtoTuple::DestinationPort(to.port()),
        ]),
    ]);
    conversation.ask(NetfilterMessage::new(
        NetfilterHeader::new(family, 0, 0),
        ConntrackMessage::Get(vec![original]),
    ))
}

/// Where the answers come from.
fn replied_from(answer: &NetfilterMessage) -> Option<SocketAddr> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &answer.inner else {
        return None;
    };
    let reply = attributes.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleReply(reply) => Some(reply),
        _ => None,
    })?;
    let ip = reply.iter().find_map(|part| match part {
        Tuple::Ip(parts) => parts.iter().find_map(source),
        _ => None,
    })?;
    let port = reply.iter().find_map(|part| match part {
        Tuple::Proto(parts) => parts.iter().find_map(source_port),
        _ => None,
    })?;
    Some(SocketAddr::new(ip, port))
}

fn source(part: &IPTuple) -> Option<IpAddr> {
    match part {
        IPTuple::SourceAddress(ip) => Some(*ip),
        _ => None,
    }
}

fn source_port(part: &ProtoTuple) -> Option<u16> {
    match part {
        ProtoTuple::SourcePort(port) => Some(*port),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;
    use crate::host::testing::{Sandbox, root_or_skip};

    #[test]
    fn a_translated_connection_tells_where_it_goes() {
        if !root_or_skip() {
            return;
        }
        let sandbox = Sandbox::new();
        let (from, to, real) = sandbox.run(|| {
            let rules = "table ip nat { chain out { type nat hook output priority -100; \
                         tcp dport 7001 redirect to :7002; }; }";
            let loaded = Command::new("nft").arg(rules).status();
            assert!(loaded.is_ok_and(|status| status.success()));
            let listener = TcpListener::bind("127.0.0.1:7002").unwrap();
            let stream = std::net::TcpStream::connect("127.0.0.1:7001").unwrap();
            let real = listener.local_addr().unwrap();
            (
                stream.local_addr().unwrap(),
                stream.peer_addr().unwrap(),
                real,
            )
        });
        let namespace = sandbox.namespace();
        assert_eq!(destination(&namespace, from, to), Some(real));
        if std::path::Path::new("/proc/net/nf_conntrack").exists() {
            assert_eq!(listed::replied_from(&namespace, from, to), Some(real));
        }
        let other = SocketAddr::new(to.ip(), 7003);
        assert_eq!(destination(&namespace, from, other), None);
    }
}
