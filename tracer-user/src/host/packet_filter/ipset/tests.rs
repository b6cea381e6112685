use proptest::prelude::*;

use super::*;
use crate::host::packet_filter::legacy;
use crate::host::packet_filter::legacy::tests::run;
use crate::host::testing::{Sandbox, root_or_skip};

#[test]
fn no_set_is_asked_for_without_a_rule() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    run(&sandbox, "ipset create lonely hash:ip");
    let (sets, unread) = sets(&sandbox.namespace(), &[]);
    assert!(sets.is_empty() && unread.is_empty());
}

#[test]
fn sets_of_lists_and_sets_that_change_are_read() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    run(
        &sandbox,
        "ipset create inner hash:ip,port timeout 100
         ipset add inner 10.0.0.1,tcp:80
         ipset create list list:set
         ipset add list inner
         ipset create big hash:ip
         for last in $(seq 1 250); do echo add big 10.0.0.$last; done | ipset restore
         ipset create changed hash:ip
         iptables-legacy -w -A INPUT -m set --match-set list src,dst -m set --match-set big src -j DROP
         iptables-legacy -w -A INPUT -m set --match-set changed src -j DROP
         iptables-legacy -w -A INPUT -j SET --add-set changed src",
    );
    let (tables, _) = legacy::tables(&sandbox.namespace());
    let (sets, unread) = sets(&sandbox.namespace(), &tables);
    assert_eq!(unread, Vec::<String>::new());
    let named = |name: &str| sets.values().find(|set| set.name == name).unwrap();
    assert_eq!(sets.len(), 4);
    assert_eq!(named("list").members[0].set.as_deref(), Some("inner"));
    assert!(named("inner").expires && !named("inner").uncertain);
    assert_eq!(named("inner").members[0].port, Some((Some(6), 80)));
    assert_eq!(named("big").members.len(), 250);
    assert!(named("changed").uncertain && !named("big").uncertain);
}

#[test]
fn a_set_that_is_gone_is_said_to_be_unread() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    run(
        &sandbox,
        "ipset create blue hash:ip; iptables-legacy -w -A INPUT -m set --match-set blue src",
    );
    let (tables, _) = legacy::tables(&sandbox.namespace());
    run(&sandbox, "iptables-legacy -w -F; ipset destroy blue");
    let (sets, unread) = sets(&sandbox.namespace(), &tables);
    assert!(sets.is_empty());
    assert_eq!(unread.len(), 1);
}

proptest! {
    #[test]
    fn any_attributes_are_read_or_passed_over(
        attributes in prop::collection::vec(
            (0u16..16, prop::collection::vec(any::<u8>(), 0..80)), 0..10),
    ) {
        let _ = decode::head(&attributes);
        let _ = decode::name(&attributes);
        let _ = decode::members(&attributes);
    }
}
