use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::case::{Action, Backend, FilterFamily as Family, Hook};
use crate::firewall::Expression;
use crate::firewall::expression::{Operator, Register, Verdict};
use crate::firewall::ruleset::{Chain, ChainKind, Element, Policy, Set, Table, Value};
use crate::host::testing::{Sandbox, root_or_skip};

/// A namespace in which nft has loaded `rules`; null, said aloud, without root or nft.
pub fn filtered(rules: &str) -> Option<Sandbox> {
    if !root_or_skip() {
        return None;
    }
    let sandbox = Sandbox::new();
    let rules = rules.to_owned();
    let status = sandbox.run(move || {
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .ok()?;
        nft.stdin.take()?.write_all(rules.as_bytes()).ok()?;
        nft.wait().ok()
    });
    let Some(status) = status else {
        let _ = writeln!(io::stderr(), "skipped: needs nft");
        return None;
    };
    assert!(status.success(), "nft refuses the rules");
    Some(sandbox)
}

/// Runs `program` inside; whether it succeeds.
pub fn run(sandbox: &Sandbox, program: &'static str, arguments: &str) -> bool {
    let arguments = arguments.to_owned();
    let status = sandbox.run(move || {
        Command::new(program)
            .args(arguments.split_whitespace())
            .status()
    });
    let done = status.is_ok_and(|status| status.success());
    if !done {
        let _ = writeln!(io::stderr(), "skipped: {program} cannot do it here");
    }
    done
}

pub fn table<'r>(ruleset: &'r Ruleset, family: Family, name: &str) -> &'r Table {
    let mut tables = ruleset.tables.iter();
    tables
        .find(|table| table.family == family && table.name == name)
        .unwrap()
}

pub fn chain<'r>(table: &'r Table, name: &str) -> &'r Chain {
    table
        .chains
        .iter()
        .find(|chain| chain.name == name)
        .unwrap()
}

const RULES: &str = r#"
table inet lab {
    counter hits { packets 41 bytes 100 }
    limit slow { rate 5/second; }
    set ports { type inet_service; flags interval; elements = { 80, 1000-2000, 65000-65535 } }
    set flood { type ipv4_addr; flags dynamic, timeout; timeout 1m; }
    set exact { type ipv4_addr . inet_service; elements = { 10.0.0.1 . 80 } }
    set wide { type ipv4_addr . inet_service; flags interval
        elements = { 10.0.0.0/8 . 80-90, 1.2.3.4 . 443 } }
    map there { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1, * : 10.0.0.2 } }
    map ways { type inet_service : verdict; flags interval
        elements = { 1-5 : jump down, 6-9 : drop } }
    map limits { type inet_service : limit; elements = { 80 : "slow" } }
    chain down { tcp dport 81 reject with tcp reset comment "no # handle 9"; }
    chain in {
        type filter hook input priority -7; policy drop;
        ct state established,related accept
        tcp dport @ports counter packets 7 bytes 9 drop
        tcp dport vmap @ways
        ip saddr . tcp dport @wide counter name "hits" accept
        ip saddr . tcp dport @exact accept
        meta mark set tcp dport map { 80 : 1, 81 : 2 }
        tcp dport 82 limit rate 1/second log prefix "slow"
        tcp dport 83 limit name tcp dport map @limits drop
        tcp dport 84 update @flood { ip saddr limit rate 3/second } accept
        meta skuid 33 fib daddr type local tcp flags & (syn | ack) == syn reject with icmpv6 admin-prohibited
        meta mark & 0xff00 == 0x1200 ip6 saddr fd00::/8 tcp dport != 1-9 goto down
        tcp option maxseg size 1000 osf name "Linux" drop
    }
    chain nat { type nat hook prerouting priority dstnat
        tcp dport 90 dnat ip to tcp dport map @there
        tcp dport 91 dnat ip to 10.0.0.3:8080
        tcp dport 92 redirect to :8080
        tcp dport 93 dnat ip to 10.0.0.3-10.0.0.5; }
}
table ip filter { flags dormant; chain input { type filter hook input priority 0; }; }
table netdev dev { chain ingress { type filter hook ingress device lo priority 0; tcp dport 1 drop; }; }
table bridge b { chain across { type filter hook forward priority 0; }; }
table arp a { chain out { type filter hook output priority 0; arp operation request drop; }; }
"#;

#[test]
fn tables_and_chains_are_as_nft_made_them() {
    let Some(sandbox) = filtered(RULES) else {
        return;
    };
    let ruleset = read(&sandbox.namespace()).unwrap();
    assert_eq!(ruleset.unread, Vec::<String>::new());
    assert_eq!(ruleset.netns, sandbox.inode());
    assert_eq!(ruleset.tables.len(), 5);
    assert!(
        ruleset
            .tables
            .iter()
            .all(|table| table.backend == Backend::Nft)
    );
    let lab = table(&ruleset, Family::Inet, "lab");
    let base = chain(lab, "in").base.clone().unwrap();
    assert_eq!(
        (base.hook, base.priority, base.kind, base.policy),
        (Hook::Input, -7, ChainKind::Filter, Policy::Drop)
    );
    assert!(chain(lab, "down").base.is_none());
    assert!(table(&ruleset, Family::Ip, "filter").dormant);
    let device = chain(table(&ruleset, Family::Netdev, "dev"), "ingress");
    let base = device.base.clone().unwrap();
    assert_eq!(
        (base.hook, base.devices),
        (Hook::Ingress, vec!["lo".to_owned()])
    );
    let arp = chain(table(&ruleset, Family::Arp, "a"), "out");
    assert_eq!(arp.base.as_ref().unwrap().hook, Hook::Output);
}

#[test]
fn rules_are_decoded_to_the_last() {
    let Some(sandbox) = filtered(RULES) else {
        return;
    };
    let ruleset = read(&sandbox.namespace()).unwrap();
    let lab = table(&ruleset, Family::Inet, "lab");
    let unknown: Vec<&Expression> = lab
        .chains
        .iter()
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.expressions)
        .filter(|expression| matches!(expression, Expression::Unknown { .. }))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let rules = &chain(lab, "in").rules;
    assert_eq!(rules.len(), 12);
    assert!(rules.iter().map(|rule| rule.position).eq(1..=12));
    assert_eq!(rules[1].packets, Some(7));
    assert_eq!(rules[3].packets, Some(41));
    assert_eq!(rules[0].packets, None);
    let last = |rule: usize| rules[rule].expressions.last().unwrap().clone();
    let log = Expression::Statement {
        name: "log".to_owned(),
    };
    assert_eq!(last(6), log);
    assert_eq!(
        last(10),
        Expression::Verdict(Verdict::Goto("down".to_owned()))
    );
    assert!(rules[7].expressions.contains(&Expression::Sometimes {
        name: "limit".to_owned()
    }));
    assert!(rules[8].expressions.iter().any(|one| matches!(
        one,
        Expression::UpdateSet { set, statements } if set == "flood" && statements.len() == 1
    )));
    let down = &chain(lab, "down").rules[0];
    assert_eq!(down.comment.as_deref(), Some("no # handle 9"));
    assert_eq!(
        down.expressions[2..],
        [
            Expression::Payload {
                base: crate::firewall::expression::PayloadBase::Transport,
                offset: 2,
                length: 2,
                to: Register(0)
            },
            Expression::Compare {
                operator: Operator::Equal,
                from: Register(0),
                data: vec![0, 81]
            },
            Expression::Terminal(Action::RejectWithReset)
        ]
    );
    let nat = &chain(lab, "nat").rules;
    let ends: Vec<&Expression> = nat
        .iter()
        .filter_map(|rule| rule.expressions.last())
        .collect();
    assert!(matches!(
        ends[0],
        Expression::Nat {
            destination: true,
            address: Some(_),
            port: None,
            ..
        }
    ));
    assert!(matches!(
        ends[1],
        Expression::Nat {
            destination: true,
            address: Some(_),
            port: Some(_),
            ..
        }
    ));
    assert!(matches!(
        ends[2],
        Expression::Nat {
            redirect: true,
            address: None,
            port: Some(_),
            ..
        }
    ));
    assert_eq!(
        *ends[3],
        Expression::Terminal(Action::Translate { to: None })
    );
}

/// Low, high and value of each element, sorted.
fn elements(set: &Set) -> Vec<(Vec<u8>, Vec<u8>, Option<Value>)> {
    let flat = |element: &Element| {
        let (low, high) = element.range.clone().unwrap_or_default();
        (low, high, element.value.clone())
    };
    let mut elements: Vec<_> = set.elements.iter().map(flat).collect();
    elements.sort_by(|one, other| one.0.cmp(&other.0));
    elements
}

#[test]
fn sets_and_maps_hold_what_nft_put_into_them() {
    let Some(sandbox) = filtered(RULES) else {
        return;
    };
    let ruleset = read(&sandbox.namespace()).unwrap();
    let sets = &table(&ruleset, Family::Inet, "lab").sets;
    let range = |low: u16, high: u16, value| {
        (
            low.to_be_bytes().to_vec(),
            high.to_be_bytes().to_vec(),
            value,
        )
    };
    assert_eq!(
        elements(&sets["ports"]),
        [
            range(80, 80, None),
            range(1000, 2000, None),
            range(65000, 65535, None)
        ]
    );
    let verdict = |verdict| Some(Value::Verdict(verdict));
    assert_eq!(
        elements(&sets["ways"]),
        [
            range(1, 5, verdict(Verdict::Jump("down".to_owned()))),
            range(6, 9, verdict(Verdict::Drop))
        ]
    );
    let there = &sets["there"];
    assert!(there.is_map && !there.intervals);
    let (address, all) = (
        Value::Data(vec![10, 0, 0, 1]),
        Value::Data(vec![10, 0, 0, 2]),
    );
    assert_eq!(
        elements(there),
        [
            (Vec::new(), Vec::new(), Some(all)),
            range(80, 80, Some(address))
        ]
    );
    assert_eq!(sets["wide"].fields, [4, 2]);
    assert_eq!(
        elements(&sets["wide"]),
        [
            (
                vec![1, 2, 3, 4, 1, 187, 0, 0],
                vec![1, 2, 3, 4, 1, 187, 0, 0],
                None
            ),
            (
                vec![10, 0, 0, 0, 0, 80, 0, 0],
                vec![10, 255, 255, 255, 0, 90, 0, 0],
                None
            )
        ]
    );
    assert_eq!(sets["exact"].elements.len(), 1);
    assert_eq!(sets["exact"].key_length, 8);
    assert!(sets["flood"].changes && !sets["ports"].changes);
}

#[test]
fn rules_of_iptables_are_known_as_such() {
    let Some(sandbox) =
        filtered("table inet own { chain INPUT { type filter hook input priority 0; }; }")
    else {
        return;
    };
    if !run(
        &sandbox,
        "iptables-nft",
        "-A INPUT -p tcp --dport 80 -m comment --comment mine -j REJECT",
    ) || !run(
        &sandbox,
        "ip6tables-nft",
        "-t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 81",
    ) {
        return;
    }
    let ruleset = read(&sandbox.namespace()).unwrap();
    let backends: Vec<(Family, Backend)> = ruleset
        .tables
        .iter()
        .map(|table| (table.family, table.backend))
        .collect();
    assert_eq!(
        backends,
        [
            (Family::Inet, Backend::Nft),
            (Family::Ip, Backend::IptablesNft),
            (Family::Ip6, Backend::IptablesNft)
        ]
    );
    let input = chain(table(&ruleset, Family::Ip, "filter"), "INPUT");
    assert_eq!(input.rules[0].comment.as_deref(), Some("mine"));
    assert_eq!(input.rules[0].packets, Some(0));
}

/// None of these rules says that it is one of iptables: the chains do.
#[test]
fn every_chain_of_iptables_is_known() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let ip = [
        ("filter", "INPUT FORWARD OUTPUT"),
        ("nat", "PREROUTING INPUT OUTPUT POSTROUTING"),
        ("mangle", "PREROUTING INPUT FORWARD OUTPUT POSTROUTING"),
        ("raw", "PREROUTING OUTPUT"),
        ("security", "INPUT FORWARD OUTPUT"),
    ];
    let bridge = [
        ("filter", "INPUT FORWARD OUTPUT"),
        ("nat", "PREROUTING OUTPUT POSTROUTING"),
    ];
    let tools: [(&str, &[(&str, &str)]); 4] = [
        ("iptables-nft", &ip),
        ("ip6tables-nft", &ip),
        ("ebtables-nft", &bridge),
        ("arptables-nft", &[("filter", "INPUT OUTPUT")]),
    ];
    for (tool, tables) in tools {
        for (table, chains) in tables {
            for chain in chains.split(' ') {
                if !run(&sandbox, tool, &format!("-t {table} -A {chain} -j ACCEPT")) {
                    return;
                }
            }
        }
    }
    let ruleset = read(&sandbox.namespace()).unwrap();
    assert_eq!(ruleset.tables.len(), 13);
    for table in &ruleset.tables {
        let name = &table.name;
        assert_eq!(
            table.backend,
            Backend::IptablesNft,
            "{:?} {name}",
            table.family
        );
    }
}

#[test]
fn reading_changes_nothing() {
    let Some(sandbox) = filtered(RULES) else {
        return;
    };
    let namespace = sandbox.namespace();
    let before = generation(&namespace).unwrap();
    let first = read(&namespace).unwrap();
    assert_eq!(first, read(&namespace).unwrap());
    assert_eq!(first.generation, before);
    assert_eq!(generation(&namespace).unwrap(), before);
    assert!(run(&sandbox, "nft", "add table ip later"));
    assert_ne!(generation(&namespace).unwrap(), before);
}

#[test]
fn an_empty_namespace_stays_empty() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let before = generation(&sandbox.namespace()).unwrap();
    let ruleset = read(&sandbox.namespace()).unwrap();
    assert!(ruleset.tables.is_empty() && ruleset.unread.is_empty());
    assert_eq!(generation(&sandbox.namespace()).unwrap(), before);
}

/// Far above what it takes even without optimisation, so that only a reading whose cost grows
/// faster than the ruleset fails. The time is printed.
#[test]
fn ten_thousand_rules_are_read_without_delay() {
    const RULES: usize = 10_000;
    let rules: String = (0..RULES)
        .map(|rule| {
            format!(
                "ip saddr 10.{}.{}.0/24 tcp dport {} counter drop\n",
                rule / 256,
                rule % 256,
                rule + 1
            )
        })
        .collect();
    let ruleset = format!(
        "table inet big {{ chain in {{ type filter hook input priority 0;\n{rules}\n}}\n}}"
    );
    let Some(sandbox) = filtered(&ruleset) else {
        return;
    };
    let namespace = sandbox.namespace();
    // It is looked for once in the life of a process.
    assert!(presence::nf_tables().unwrap());
    let begun = Instant::now();
    let ruleset = read(&namespace).unwrap();
    let took = begun.elapsed();
    println!("{RULES} rules read in {took:?}");
    assert_eq!(ruleset.tables[0].chains[0].rules.len(), RULES);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Reads a ruleset that changes under the first `changes` attempts; also how many were made.
fn read_while_changing(changes: u32) -> (Ruleset, u32) {
    let mut attempts = 0;
    let ruleset = steady(|| {
        attempts += 1;
        Ok::<_, std::convert::Infallible>(Attempt {
            dump: Dump::default(),
            generation: attempts,
            changed: attempts <= changes,
        })
    });
    (ruleset.unwrap(), attempts)
}

#[test]
fn a_ruleset_that_changed_is_read_again() {
    let (ruleset, attempts) = read_while_changing(2);
    assert_eq!((ruleset.generation, attempts), (Some(3), 3));
    assert!(ruleset.unread.is_empty());
}

#[test]
fn a_ruleset_that_keeps_changing_is_told() {
    let (ruleset, attempts) = read_while_changing(u32::MAX);
    assert_eq!(attempts, 4);
    assert_eq!(
        ruleset.unread,
        ["the nftables ruleset changed while it was read, 4 times"]
    );
}
