use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::case::{Action, Icmp};
use crate::firewall::ip_set::{IpSet, Member, Range};
use crate::firewall::packet::{Conntrack, Kind, Owner, State};

fn packet(from: &str, to: &str) -> Packet {
    Packet {
        kind: Kind::Segment,
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        from_local: None,
        to_local: None,
        flags: 0x02,
        sequence: 1,
        ttl: None,
        mark: None,
        input: Side::Unknown,
        output: Side::Unknown,
        owner: Owner::Unknown,
        conntrack: Conntrack::default(),
    }
}

fn syn() -> Packet {
    packet("10.0.0.1:40000", "10.0.0.2:80")
}

fn extension(name: &str, revision: u8, data: Vec<u8>) -> Extension {
    Extension {
        name: name.to_owned(),
        revision,
        data,
    }
}

fn at(hook: Hook, extension: &Extension, packet: &Packet) -> Truth {
    let (truth, doubt) = matches(extension, packet, FilterFamily::Ip, hook, &IpSets::new());
    assert_eq!(truth == Truth::Unknown, doubt.is_some());
    truth
}

/// Words of 32 bits in the machine's order.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn what_is_not_known_is_doubted_by_name() {
    let unheard_of = extension("wormhole", 0, vec![]);
    let (truth, doubt) = matches(
        &unheard_of,
        &syn(),
        FilterFamily::Ip,
        Hook::Input,
        &IpSets::new(),
    );
    assert_eq!(truth, Truth::Unknown);
    assert!(doubt.unwrap().contains("wormhole"));
    for (name, revision) in [("tcp", 1), ("mark", 0), ("owner", 2), ("conntrack", 4)] {
        let later = extension(name, revision, vec![0; 512]);
        assert_eq!(at(Hook::Output, &later, &syn()), Truth::Unknown, "{name}");
    }
    let short = extension("tcp", 0, vec![0; 11]);
    assert_eq!(at(Hook::Input, &short, &syn()), Truth::Unknown);
}

#[test]
fn a_limit_is_no_decision() {
    for name in [
        "limit",
        "hashlimit",
        "connlimit",
        "statistic",
        "recent",
        "time",
        "string",
        "u32",
        "bpf",
    ] {
        let doubtful = extension(name, 0, vec![0; 64]);
        assert_eq!(at(Hook::Input, &doubtful, &syn()), Truth::Unknown, "{name}");
    }
}

#[test]
fn another_protocol_never_fits() {
    for name in ["udp", "icmp", "sctp", "esp"] {
        assert_eq!(
            at(Hook::Input, &extension(name, 0, vec![]), &syn()),
            Truth::No
        );
    }
}

#[test]
fn a_tcp_option_is_not_known_but_a_port_decides() {
    let with = |low: u16, option| {
        let mut data: Vec<u8> = [0, 65535, low, 65535]
            .iter()
            .flat_map(|port: &u16| port.to_ne_bytes())
            .collect();
        data.extend([option, 0, 0, 0]);
        at(Hook::Input, &extension("tcp", 0, data), &syn())
    };
    assert_eq!(with(80, 0), Truth::Yes);
    assert_eq!(with(80, 2), Truth::Unknown);
    assert_eq!(with(81, 2), Truth::No);
}

#[test]
fn without_a_socket_the_owner_match_holds_where_all_is_inverted() {
    let mut absent = syn();
    absent.owner = Owner::Absent;
    let mut known = syn();
    known.owner = Owner::User { uid: 33, gid: None };
    let owner = |asked: u8, inverted: u8, packet: &Packet| {
        let mut data = words(&[33, 33, 33, 33]);
        data.extend([asked, inverted, 0, 0]);
        at(Hook::Output, &extension("owner", 1, data), packet)
    };
    assert_eq!(owner(1, 0, &absent), Truth::No);
    assert_eq!(owner(1, 1, &absent), Truth::Yes);
    assert_eq!(owner(1, 0, &known), Truth::Yes);
    assert_eq!(owner(1, 1, &known), Truth::No);
    assert_eq!(owner(2, 0, &known), Truth::Unknown);
    assert_eq!(owner(4, 4, &known), Truth::No);
    assert_eq!(owner(1, 0, &syn()), Truth::Unknown);
}

#[test]
fn an_untracked_packet_has_no_state_but_that() {
    let mut untracked = syn();
    untracked.conntrack.state = Some(State::Untracked);
    let state = |mask: u16, asked: u16, packet: &Packet| {
        let mut data = vec![0; 168];
        data[146..148].copy_from_slice(&asked.to_ne_bytes());
        data[150..152].copy_from_slice(&mask.to_ne_bytes());
        at(Hook::Input, &extension("conntrack", 3, data), packet)
    };
    assert_eq!(state(1 << 8, 1, &untracked), Truth::Yes);
    assert_eq!(state(1 << 3, 1, &untracked), Truth::No);
    // The direction is asked for in vain.
    assert_eq!(state(0, 1 << 12, &untracked), Truth::No);
    assert_eq!(state(1 << 8, 1 | 1 << 12, &untracked), Truth::Yes);
    assert_eq!(state(1 << 3, 1, &syn()), Truth::Unknown);
    assert_eq!(
        at(
            Hook::Input,
            &extension("state", 0, words(&[1 << 6])),
            &untracked
        ),
        Truth::Yes
    );
}

#[test]
fn a_translated_destination_is_a_state() {
    let mut translated = syn();
    translated.conntrack.state = Some(State::New);
    translated.conntrack.destination_translated = Some(true);
    let mut data = vec![0; 168];
    data[146] = 1;
    data[150] = 1 << 7;
    let dnat = extension("conntrack", 2, data);
    assert_eq!(at(Hook::Input, &dnat, &translated), Truth::Yes);
    translated.conntrack.destination_translated = Some(false);
    assert_eq!(at(Hook::Input, &dnat, &translated), Truth::No);
}

#[test]
fn where_an_address_is_local_is_told_by_the_hook() {
    let local = [0u16, 4]
        .iter()
        .flat_map(|mask| mask.to_ne_bytes())
        .chain([0; 4])
        .collect();
    let local = extension("addrtype", 1, local);
    assert_eq!(at(Hook::Input, &local, &syn()), Truth::Yes);
    assert_eq!(at(Hook::Forward, &local, &syn()), Truth::No);
    assert_eq!(at(Hook::Prerouting, &local, &syn()), Truth::Unknown);
    assert_eq!(
        at(Hook::Output, &local, &packet("127.0.0.1:1", "127.8.8.8:2")),
        Truth::Yes
    );
    let from = [4u16, 0].iter().flat_map(|mask| mask.to_ne_bytes());
    let from = extension("addrtype", 1, from.chain([0; 4]).collect());
    assert_eq!(at(Hook::Output, &from, &syn()), Truth::Unknown);
    let mut told = syn();
    told.to_local = Some(false);
    assert_eq!(at(Hook::Prerouting, &local, &told), Truth::No);
}

#[test]
fn an_unknown_interface_leaves_a_header_open() {
    let asked = Header {
        input: Some("eth0".to_owned()),
        ..Header::default()
    };
    assert_eq!(header(&asked, &syn()), Truth::Unknown);
    let other_port = Header {
        protocol: Some(17),
        ..asked.clone()
    };
    assert_eq!(header(&other_port, &syn()), Truth::No);
    let mut absent = syn();
    absent.input = Side::Absent;
    assert_eq!(header(&asked, &absent), Truth::No);
    let fragments = Header {
        fragments: true,
        ..Header::default()
    };
    assert_eq!(header(&fragments, &syn()), Truth::No);
}

#[test]
fn a_set_that_expires_may_have_held_more() {
    let mut set = IpSet {
        name: "blue".to_owned(),
        kind: "hash:ip".to_owned(),
        v6: Some(false),
        expires: true,
        ..IpSet::default()
    };
    // Index 7, one direction, which is src.
    let mut data = 7u16.to_ne_bytes().to_vec();
    data.extend([1, 2]);
    data.resize(48, 0);
    let asked = extension("set", 4, data);
    let ask = |set: &IpSet| {
        let sets = IpSets::from([(7, set.clone())]);
        matches(&asked, &syn(), FilterFamily::Ip, Hook::Input, &sets).0
    };
    assert_eq!(ask(&set), Truth::Unknown);
    set.members.push(Member {
        address: Some(Range {
            address: "10.0.0.1".parse().unwrap(),
            prefix: 32,
        }),
        ..Member::default()
    });
    assert_eq!(ask(&set), Truth::Yes);
    set.v6 = Some(true);
    assert_eq!(ask(&set), Truth::No);
    set.uncertain = true;
    assert_eq!(ask(&set), Truth::Unknown);
    assert_eq!(at(Hook::Input, &asked, &syn()), Truth::Unknown);
}

fn ends(extension: &Extension, packet: &Packet, family: FilterFamily) -> Option<Action> {
    match target(extension, packet, family, Hook::Prerouting) {
        TargetEffect::Ends(action) => Some(action),
        _ => None,
    }
}

#[test]
fn every_kind_of_reject_is_told_apart() {
    let codes = |family, v6, kind: u8, expected: &[(u32, u8)]| {
        for (with, code) in expected {
            let icmp = Icmp {
                kind,
                code: *code,
                v6,
            };
            let target = extension("REJECT", 0, words(&[*with]));
            assert_eq!(
                ends(&target, &syn(), family),
                Some(Action::RejectWithIcmp { icmp })
            );
        }
    };
    codes(
        FilterFamily::Ip,
        false,
        3,
        &[(0, 0), (1, 1), (2, 2), (3, 3), (5, 9), (6, 10), (8, 13)],
    );
    codes(
        FilterFamily::Ip6,
        true,
        1,
        &[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (7, 5), (8, 6)],
    );
    let reset = |with, family| ends(&extension("REJECT", 0, words(&[with])), &syn(), family);
    assert_eq!(reset(7, FilterFamily::Ip), Some(Action::RejectWithReset));
    assert_eq!(reset(6, FilterFamily::Ip6), Some(Action::RejectWithReset));
    assert_eq!(reset(9, FilterFamily::Ip), None);
}

#[test]
fn a_synproxy_takes_what_opens_and_leaves_the_answer() {
    let synproxy = extension("SYNPROXY", 0, vec![0; 8]);
    assert!(ends(&synproxy, &syn(), FilterFamily::Ip).is_some());
    let mut answer = syn();
    answer.flags = 0x12;
    assert_eq!(ends(&synproxy, &answer, FilterFamily::Ip), None);
}

const NAMES: &[&str] = &[
    "tcp",
    "udp",
    "multiport",
    "conntrack",
    "state",
    "connmark",
    "mark",
    "ttl",
    "length",
    "owner",
    "iprange",
    "addrtype",
    "physdev",
    "pkttype",
    "policy",
    "set",
    "comment",
    "REJECT",
    "NFQUEUE",
    "DNAT",
    "REDIRECT",
    "NETMAP",
    "SNAT",
    "MARK",
    "CONNMARK",
    "SET",
    "CT",
    "SYNPROXY",
    "ERROR",
];

proptest! {
    #[test]
    fn any_bytes_are_evaluated(
        name in prop::sample::select(NAMES),
        revision in 0u8..5,
        data in prop::collection::vec(any::<u8>(), 0..400),
        v6 in any::<bool>(),
        set in 0u16..3,
    ) {
        let packet = match v6 {
            true => packet("[fd00::1]:1", "[fd00::2]:2"),
            false => syn(),
        };
        let sets = IpSets::from([(set, IpSet { kind: "hash:net,iface".to_owned(), ..IpSet::default() })]);
        let extension = extension(name, revision, data);
        for family in [FilterFamily::Ip, FilterFamily::Ip6, FilterFamily::Inet] {
            for hook in [Hook::Prerouting, Hook::Output] {
                let (truth, doubt) = matches(&extension, &packet, family, hook, &sets);
                prop_assert_eq!(truth == Truth::Unknown, doubt.is_some());
                let _ = target(&extension, &packet, family, hook);
            }
        }
    }

    #[test]
    fn any_mask_is_compared(
        source in prop::option::of((prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..20))),
        input in prop::option::of(".{0,20}"),
    ) {
        let asked = Header { source, input, ..Header::default() };
        let _ = header(&asked, &syn());
    }
}

#[test]
fn the_ports_of_a_translation_stay_where_none_is_given() {
    let range = |flags: u32, address: [u8; 4], port: u16| {
        let mut data = words(&[1, flags]);
        data.extend(address.repeat(2));
        data.extend(port.to_be_bytes().repeat(2));
        extension("DNAT", 0, data)
    };
    let to = |text: &str| Action::Translate {
        to: Some(text.parse::<SocketAddr>().unwrap()),
    };
    let dnat = |extension: &Extension| ends(extension, &syn(), FilterFamily::Ip);
    assert_eq!(dnat(&range(1, [10, 9, 9, 9], 0)), Some(to("10.9.9.9:80")));
    assert_eq!(dnat(&range(3, [10, 9, 9, 9], 81)), Some(to("10.9.9.9:81")));
    assert_eq!(dnat(&range(2, [0; 4], 81)), Some(to("10.0.0.2:81")));
}
