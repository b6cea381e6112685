//! Any fact, whether or not it could follow from another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::option::of;
use proptest::prelude::*;

use super::connection::any_peer_ended;
use crate::case::*;
use crate::diagnose::example;

pub(super) fn any_observed() -> BoxedStrategy<Observed> {
    let fact = prop_oneof![
        Just(Fact::ResetReceived),
        (any_netns(), of(any_reason()), any_segment()).prop_map(|(netns, reason, segment)| {
            Fact::ResetSent {
                netns,
                reason,
                segment,
            }
        }),
        (
            any_netns(),
            any_reason(),
            of("(nf_queue|do_xdp_generic|\\PC{0,8})"),
            any_hook(),
            any::<bool>(),
            any_segment()
        )
            .prop_map(|(netns, reason, location, hook, answer, segment)| {
                Fact::Dropped {
                    netns,
                    reason,
                    location,
                    hook,
                    answer,
                    segment,
                    circumstances: None,
                }
            }),
        (any_netns(), any_icmp(), any_hook(), any_segment()).prop_map(
            |(netns, icmp, hook, segment)| Fact::IcmpSent {
                netns,
                icmp,
                hook,
                segment,
                circumstances: None,
            }
        ),
        (any_address(), any_icmp()).prop_map(|(from, icmp)| Fact::IcmpReceived {
            from: from.ip(),
            icmp
        }),
        of(prop_oneof![-17..2i32, any::<i32>()]).prop_map(|error| Fact::Retransmitted { error }),
        (any_netns(), any_hook(), any_address(), any::<bool>()).prop_map(
            |(netns, hook, wanted, answer)| Fact::NeighbourPacketDropped {
                netns,
                hook,
                wanted: wanted.ip(),
                asker: None,
                answer,
                circumstances: Circumstances::default(),
            }
        ),
        of(any_address()).prop_map(|client| Fact::ClientClosed { client }),
        Just(Fact::FinReceived),
        any_peer_ended(),
    ];
    (any_time(), fact)
        .prop_map(|(at, fact)| Observed { at, fact })
        .boxed()
}

pub(super) fn any_hook() -> impl Strategy<Value = Option<Hook>> {
    prop::sample::select(vec![
        None,
        Some(Hook::Input),
        Some(Hook::Output),
        Some(Hook::Ingress),
    ])
}

pub(super) fn any_reason() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "NO_SOCKET",
        "NETFILTER_DROP",
        "NEIGH_FAILED",
        "TC_EGRESS",
        "TCP_RESET",
        "TCP_LISTEN_OVERFLOW",
        "NOT_SPECIFIED",
        "",
    ])
    .prop_map(str::to_owned)
}

pub(super) fn any_segment() -> impl Strategy<Value = Segment> {
    (any_address(), any_address(), any::<u8>()).prop_map(|(from, to, flags)| Segment {
        from,
        to,
        sequence: 1,
        flags,
    })
}

pub(super) fn any_icmp() -> impl Strategy<Value = Icmp> {
    (0u8..13, 0u8..16, any::<bool>()).prop_map(|(kind, code, v6)| Icmp { kind, code, v6 })
}

pub(super) fn any_time() -> impl Strategy<Value = KernelTime> {
    prop_oneof![
        6 => (0..4_000u64).prop_map(|milliseconds| example::START + milliseconds * example::MILLISECOND),
        1 => any::<u64>(),
    ]
}

/// Few addresses and ports, so that they meet each other.
pub(super) fn any_address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        Just(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Just(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Just(IpAddr::V4(Ipv4Addr::BROADCAST)),
        Just(IpAddr::V4(Ipv4Addr::new(10, 99, 1, 2))),
        Just(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        Just(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        Just(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped())),
        Just(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))),
    ];
    let port = prop_oneof![Just(0), Just(80), Just(9101), Just(9102), Just(65535)];
    (ip, port).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

pub(super) fn any_netns() -> impl Strategy<Value = Netns> {
    prop::sample::select(vec![example::OWN, example::OTHER, 0, u64::MAX])
}

pub(super) fn any_errno() -> impl Strategy<Value = i32> {
    prop_oneof![
        4 => prop::sample::select(vec![
            libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EACCES, libc::EPERM,
            libc::EINVAL, libc::EADDRNOTAVAIL, libc::EADDRINUSE, libc::EMFILE, libc::ENFILE,
            libc::EAFNOSUPPORT, libc::ETIMEDOUT, libc::ECONNABORTED, libc::ECONNRESET,
        ]),
        1 => any::<i32>(),
    ]
}
