use std::net::TcpListener;
use std::time::Duration;

use super::*;
use crate::case::Death;
use crate::host::netns::Namespaces;
use crate::host::testing::{Sandbox, root_or_skip};

const NETNS: Netns = 4026531840;

/// No process has this pid, so that nothing of this host is described.
const PID: u32 = u32::MAX;

fn listed(inode: u64, address: &str) -> ListeningSocket {
    ListeningSocket {
        address: address.parse().unwrap(),
        v6only: false,
        device: None,
        inode,
        uid: 0,
        queue: Queue {
            length: 0,
            limit: 128,
        },
        cookie: inode,
    }
}

fn began(inode: u64, address: &str, at: KernelTime) -> BeganListening {
    BeganListening {
        netns: NETNS,
        inode,
        sk: 0xffff_8880_0000_0000 + inode,
        address: address.parse().unwrap(),
        v6only: false,
        device: None,
        pid: PID,
        comm: "app".into(),
        at,
    }
}

fn ended(inode: u64, address: &str, at: KernelTime) -> EndedListening {
    EndedListening {
        netns: NETNS,
        inode,
        sk: 0xffff_8880_0000_0000 + inode,
        address: address.parse().unwrap(),
        at,
        death: Death::Exited { status: 3 },
        pid: PID,
        comm: "app".into(),
    }
}

fn ended_at(table: &ListenerTable, target: &str, at: KernelTime) -> Vec<KernelTime> {
    table
        .ended_on(NETNS, target.parse().unwrap(), at)
        .iter()
        .map(|ended| ended.at)
        .collect()
}

#[test]
fn an_ended_listener_is_remembered_with_its_death_and_owner() {
    let mut table = ListenerTable::default();
    table.began(began(7, "127.0.0.1:9101", 10));
    assert_eq!(table.on_port(9101).len(), 1);
    table.ended(ended(7, "127.0.0.1:9101", 20));
    assert!(table.is_empty());
    let found = table.ended_on(NETNS, "127.0.0.1:9101".parse().unwrap(), 30);
    assert_eq!(found[0].death, Death::Exited { status: 3 });
    assert_eq!(found[0].listener.since, Some(10));
    assert_eq!(found[0].listener.owners[0].comm, "app");
    assert_eq!(table.ended_on_port(9101, 30), found);
}

#[test]
fn a_close_becomes_the_death_that_was_under_way_and_no_later_one() {
    let killed = Death::Killed {
        signal: libc::SIGKILL,
        core: false,
        sender: None,
    };
    let exited = Death::Exited { status: 0 };
    for (death, signalled, at, expected) in [
        (&exited, None, 21, &exited),
        (&exited, None, 20 + FAREWELL, &Death::Closed),
        (&killed, Some(19), 21, &killed),
        (&killed, Some(21), 22, &Death::Closed),
        (&killed, None, 21, &Death::Closed),
    ] {
        let mut table = ListenerTable::default();
        let mut report = ended(7, "127.0.0.1:9101", 20);
        report.death = Death::Closed;
        table.ended(report);
        table.process_exited(PID, death, signalled, at);
        let found = &table.ended_on_port(9101, u64::MAX)[0].death;
        assert_eq!(found, expected, "{death:?} {signalled:?} {at}");
    }
}

#[test]
fn an_end_after_the_time_asked_for_had_not_happened() {
    let mut table = ListenerTable::default();
    table.ended(ended(7, "127.0.0.1:9101", 20));
    assert!(ended_at(&table, "127.0.0.1:9101", 19).is_empty());
}

#[test]
fn a_replaced_listener_has_not_ended_from_then_on() {
    let mut table = ListenerTable::default();
    table.began(began(7, "127.0.0.1:9101", 10));
    table.ended(ended(7, "127.0.0.1:9101", 20));
    table.began(began(8, "127.0.0.1:9101", 40));
    assert!(ended_at(&table, "127.0.0.1:9101", 50).is_empty());
    assert_eq!(ended_at(&table, "127.0.0.1:9101", 30), [20]);
}

#[test]
fn the_end_of_one_socket_of_a_reuseport_group_is_no_end() {
    let mut table = ListenerTable::default();
    table.began(began(7, "0.0.0.0:9101", 10));
    table.began(began(8, "0.0.0.0:9101", 11));
    table.ended(ended(7, "0.0.0.0:9101", 20));
    assert!(table.ended_on_port(9101, 30).is_empty());
    table.ended(ended(8, "0.0.0.0:9101", 21));
    assert_eq!(ended_at(&table, "10.0.0.1:9101", 30), [21]);
}

#[test]
fn an_end_is_joined_by_the_sk_where_the_inode_is_unknown() {
    let mut table = ListenerTable::default();
    table.began(began(7, "127.0.0.1:9101", 10));
    let mut report = ended(7, "127.0.0.1:9101", 20);
    report.inode = 0;
    table.ended(report);
    assert!(table.is_empty());
    assert_eq!(table.ended_on_port(9101, 30)[0].listener.since, Some(10));
}

#[test]
fn the_same_sk_in_another_namespace_is_another_socket() {
    let mut table = ListenerTable::default();
    table.began(began(7, "127.0.0.1:9101", 10));
    let mut report = ended(7, "127.0.0.1:9101", 20);
    report.netns = NETNS + 1;
    table.ended(report);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_census_that_sees_the_end_first_leaves_the_death_to_the_report() {
    let mut table = ListenerTable::default();
    table.listed(NETNS, 0, vec![listed(7, "127.0.0.1:9101")], 5);
    table.began(began(7, "127.0.0.1:9101", 10));
    assert_eq!(table.len(), 1);
    table.listed(NETNS, 0, Vec::new(), 20);
    assert!(table.is_empty() && table.ended_on_port(9101, 50).is_empty());
    table.ended(ended(7, "127.0.0.1:9101", 19));
    let found = table.ended_on_port(9101, 50);
    assert_eq!(found[0].listener.since, Some(10));
    assert_eq!(found[0].listener.queue.unwrap().limit, 128);
}

#[test]
fn a_census_of_one_port_leaves_the_others_alone() {
    let mut table = ListenerTable::default();
    table.listed(
        NETNS,
        0,
        vec![listed(7, "[::]:80"), listed(8, "[::]:81")],
        5,
    );
    table.listed(NETNS, 80, vec![listed(9, "[::]:80")], 6);
    assert_eq!(table.on_port(80).len(), 1);
    assert_eq!(table.on_port(81).len(), 1);
    assert_eq!(table.in_namespace(NETNS).len(), 2);
    table.retain_namespaces(|_| false);
    assert!(table.is_empty());
}

#[test]
fn one_that_an_earlier_census_lacked_began_in_between() {
    let mut table = ListenerTable::default();
    table.listed(NETNS, 0, vec![listed(7, "[::]:80")], 5);
    let both = vec![listed(7, "[::]:80"), listed(8, "[::]:81")];
    table.listed(NETNS, 0, both, 9);
    assert_eq!(table.on_port(80)[0].since, None);
    assert_eq!(table.on_port(81)[0].since, Some(9));
}

#[test]
fn one_that_still_takes_the_connection_means_no_end() {
    let mut table = ListenerTable::default();
    table.began(began(7, "127.0.0.1:9101", 10));
    table.began(began(8, "[::]:9101", 11));
    table.ended(ended(7, "127.0.0.1:9101", 20));
    assert!(ended_at(&table, "127.0.0.1:9101", 30).is_empty());
}

#[test]
fn only_the_newest_ends_are_remembered() {
    let mut table = ListenerTable::default();
    for at in 0..2 * ENDED as u64 {
        table.ended(ended(at, "127.0.0.1:9101", at));
    }
    let found = table.ended_on_port(9101, u64::MAX);
    assert_eq!(found.len(), ENDED);
    assert_eq!(found[0].at, ENDED as u64);
}

#[test]
fn a_listener_that_is_gone_without_a_report_is_one_that_was_lost() {
    let target = "10.0.0.1:9101".parse().unwrap();
    let mut table = ListenerTable::default();
    table.listed(NETNS, 0, vec![listed(7, "0.0.0.0:9101")], 5);
    assert!(!table.lost_one_on(NETNS, target));
    table.listed(NETNS, 9101, Vec::new(), 20);
    assert!(table.lost_one_on(NETNS, target));
    assert!(!table.lost_one_on(NETNS + 1, target));
    assert!(!table.lost_one_on(NETNS, "10.0.0.1:9102".parse().unwrap()));
    table.ended(ended(7, "0.0.0.0:9101", 19));
    assert!(!table.lost_one_on(NETNS, target), "the report was late");
}

#[test]
fn a_lost_listener_matters_no_more_once_another_stands_in_its_place() {
    let target = "127.0.0.1:9101".parse().unwrap();
    let mut table = ListenerTable::default();
    let group = vec![listed(7, "127.0.0.1:9101"), listed(8, "127.0.0.1:9101")];
    table.listed(NETNS, 0, group, 5);
    table.listed(NETNS, 9101, vec![listed(8, "127.0.0.1:9101")], 10);
    assert!(!table.lost_one_on(NETNS, target));
    table.listed(NETNS, 9101, Vec::new(), 20);
    assert!(table.lost_one_on(NETNS, target));
    table.began(began(9, "127.0.0.1:9101", 30));
    assert!(!table.lost_one_on(NETNS, target));
}

#[test]
fn ends_that_find_no_room_are_lost_ones() {
    let target = "127.0.0.1:9101".parse().unwrap();
    let mut table = ListenerTable::default();
    table.ended(ended(1, "127.0.0.1:9101", 1));
    for at in 2..=ENDED as u64 {
        table.ended(ended(at, "127.0.0.1:9102", at));
    }
    assert!(!table.lost_one_on(NETNS, target));
    table.ended(ended(0, "127.0.0.1:9102", 5000));
    assert!(table.lost_one_on(NETNS, target));

    let mut table = ListenerTable::default();
    table.listed(NETNS, 0, vec![listed(1, "127.0.0.1:9101")], 5);
    table.listed(NETNS, 9101, Vec::new(), 6);
    let others = (0..MISSED as u64).map(|inode| listed(100 + inode, "127.0.0.1:9102"));
    table.listed(NETNS, 9102, others.collect(), 7);
    table.listed(NETNS, 9102, Vec::new(), 8);
    assert_eq!(table.missed.len(), MISSED);
    assert!(table.lost_one_on(NETNS, target));
}

#[test]
fn wildcards_take_what_their_family_allows() {
    let takes = |bound: &str, v6only, target: &str| {
        listens_for(bound.parse().unwrap(), v6only, target.parse().unwrap())
    };
    assert!(takes("0.0.0.0:80", false, "10.0.0.1:80"));
    assert!(!takes("0.0.0.0:80", false, "[::1]:80"));
    assert!(takes("[::]:80", false, "10.0.0.1:80"));
    assert!(!takes("[::]:80", true, "10.0.0.1:80"));
    assert!(takes("[::]:80", true, "[::1]:80"));
    assert!(!takes("127.0.0.1:80", false, "10.0.0.1:80"));
    assert!(!takes("0.0.0.0:80", false, "10.0.0.1:81"));
}

#[test]
fn a_census_finds_listeners_of_other_namespaces_with_their_owners() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let _held = sandbox.run(|| TcpListener::bind("127.0.0.1:9101").unwrap());
    let _holder = sandbox.hold();
    let mut table = ListenerTable::default();
    let census = table
        .rescan(&Namespaces::read().unwrap(), Duration::from_secs(10))
        .unwrap();
    assert!(census.owners_complete);
    let found = table.in_namespace(sandbox.inode());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].owners[0].pid, std::process::id());
    assert_eq!(found[0].since, None);
}
