use std::process::Command;

use proptest::prelude::*;

use super::sockopt::Info;
use super::*;
use crate::case::{Action, Hook, Icmp};
use crate::firewall::expression::{Header, Verdict};
use crate::firewall::ruleset::{Chain, Policy, Rule};
use crate::firewall::xt::{self, TargetEffect};
use crate::firewall::{Expression, Packet};
use crate::host::testing::{Sandbox, root_or_skip};

/// Runs a command inside, which must succeed, and returns what it prints.
pub fn run(sandbox: &Sandbox, line: &str) -> String {
    let line = line.to_owned();
    sandbox.run(move || {
        let output = Command::new("bash").args(["-ec", &line]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

/// The tables, all of which must be readable.
pub fn read(sandbox: &Sandbox) -> Vec<Table> {
    let (tables, unread) = tables(&sandbox.namespace());
    assert_eq!(unread, Vec::<String>::new());
    tables
}

pub fn chain<'t>(tables: &'t [Table], family: FilterFamily, table: &str, name: &str) -> &'t Chain {
    let table = tables
        .iter()
        .find(|found| found.family == family && found.name == table)
        .unwrap();
    let mut chains = table.chains.iter();
    chains.find(|chain| chain.name == name).unwrap()
}

#[test]
fn reading_a_fresh_namespace_creates_no_table() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let names = "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names \
                 /proc/net/arp_tables_names 2>/dev/null || true";
    assert_eq!(run(&sandbox, names), "");
    assert_eq!(read(&sandbox), Vec::new());
    assert_eq!(run(&sandbox, names), "");
    run(&sandbox, "iptables-legacy -w -t raw -L -n");
    assert_eq!(read(&sandbox).len(), 1);
    assert_eq!(run(&sandbox, names), "raw\n");
}

const RULES: &str = "
    iptables-legacy -w -N blue
    iptables-legacy -w -N empty
    iptables-legacy -w -P FORWARD DROP
    iptables-legacy -w -A INPUT -i eth+ ! -s 10.1.0.0/16 -p tcp --dport 80:90 -j blue
    iptables-legacy -w -A INPUT -g empty -m comment --comment 'a \"word\"'
    iptables-legacy -w -A INPUT
    iptables-legacy -w -A blue ! -o lo+ -j RETURN
    iptables-legacy -w -A blue -p tcp -j REJECT --reject-with tcp-reset
    iptables-legacy -w -A blue -j RETURN
    iptables-legacy -w -A OUTPUT -d 127.0.0.1 -p tcp -m multiport --dports 1,2:4 -j ACCEPT
    iptables-legacy -w -t nat -A PREROUTING -p tcp --dport 81 -j DNAT --to 10.0.0.1:80
    iptables-legacy -w -t mangle -A OUTPUT -j MARK --set-mark 3
    ip6tables-legacy -w -A INPUT ! -p tcp -s fd00::/8 -j DROP
    ip6tables-legacy -w -A INPUT -p tcp -g INPUT2 2>/dev/null || true
    ip6tables-legacy -w -t security -A OUTPUT -d ::1 -j ACCEPT
";

/// What `iptables-save -c` prints of one table: per chain its policy and packets, and of each
/// rule the packets and the target.
fn saved(text: &str, table: &str) -> Vec<String> {
    let start = format!("*{table}");
    let mut lines: Vec<String> = text
        .lines()
        .skip_while(|line| **line != start)
        .skip(1)
        .take_while(|line| *line != "COMMIT")
        .map(|line| {
            let packets = |word: &str| {
                word.trim_start_matches('[')
                    .split(':')
                    .next()
                    .unwrap()
                    .to_owned()
            };
            let words: Vec<&str> = line.split(' ').collect();
            if let Some(name) = words[0].strip_prefix(':') {
                let policy = (words[1] != "-").then(|| (words[1], packets(words[2])));
                return format!("{name} {policy:?}");
            }
            let target = words.iter().position(|word| ["-j", "-g"].contains(word));
            let target = target.map(|at| format!("{} {}", words[at], words[at + 1]));
            format!("{} {} {target:?}", words[2], packets(words[0]))
        })
        .collect();
    lines.sort();
    lines
}

/// The same of a table as it was read.
fn summary(table: &Table) -> Vec<String> {
    let target = |rule: &Rule| match rule.expressions.last() {
        Some(Expression::Target(target)) => Some(format!("-j {}", target.name)),
        Some(Expression::Verdict(verdict)) => Some(match verdict {
            Verdict::Accept => "-j ACCEPT".to_owned(),
            Verdict::Drop => "-j DROP".to_owned(),
            Verdict::Return => "-j RETURN".to_owned(),
            Verdict::Jump(chain) => format!("-j {chain}"),
            Verdict::Goto(chain) => format!("-g {chain}"),
            Verdict::Continue => panic!("not read as such"),
        }),
        Some(Expression::Terminal(Action::Queue { .. })) => Some("-j QUEUE".to_owned()),
        _ => None,
    };
    let mut lines = Vec::new();
    for chain in &table.chains {
        let policy = chain.base.as_ref().map(|base| {
            let policy = match base.policy {
                Policy::Accept => "ACCEPT",
                Policy::Drop => "DROP",
            };
            (policy, base.policy_packets.unwrap().to_string())
        });
        lines.push(format!("{} {policy:?}", chain.name));
        for rule in &chain.rules {
            let (packets, target) = (rule.packets.unwrap(), target(rule));
            lines.push(format!("{} {packets} {target:?}", chain.name));
        }
    }
    lines.sort();
    lines
}

#[test]
fn tables_read_as_the_owners_tool_saves_them() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    run(&sandbox, RULES);
    run(
        &sandbox,
        "printf x >/dev/udp/127.0.0.1/9; printf x >/dev/udp/::1/9",
    );
    let v4 = run(&sandbox, "iptables-legacy-save -c");
    let v6 = run(&sandbox, "ip6tables-legacy-save -c");
    let tables = read(&sandbox);
    assert_eq!(tables.len(), 5);
    for table in &tables {
        let text = match table.family {
            FilterFamily::Ip => &v4,
            _ => &v6,
        };
        assert_eq!(summary(table), saved(text, &table.name), "{}", table.name);
    }
}

/// Here the kernel's way of making the table that is asked for is of use.
#[test]
fn a_table_of_arptables_is_read() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.run(|| drop(sockopt::read(&layout::ARP, "filter").unwrap()));
    let tables = read(&sandbox);
    assert_eq!(tables.len(), 1);
    for (name, hook) in [
        ("INPUT", Hook::Input),
        ("OUTPUT", Hook::Output),
        ("FORWARD", Hook::Forward),
    ] {
        let chain = chain(&tables, FilterFamily::Arp, "filter", name);
        let base = chain.base.as_ref().unwrap();
        assert_eq!(
            (base.hook, base.policy, base.policy_packets),
            (hook, Policy::Accept, Some(0))
        );
    }
}

#[test]
fn conditions_and_jumps_are_read() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    run(&sandbox, RULES);
    let tables = read(&sandbox);
    let input = chain(&tables, FilterFamily::Ip, "filter", "INPUT");
    let header = Header {
        source: Some((vec![10, 1, 0, 0], vec![255, 255, 0, 0])),
        not_source: true,
        input: Some("eth+".to_owned()),
        protocol: Some(6),
        ..Header::default()
    };
    assert_eq!(input.rules[0].expressions[0], Expression::Header(header));
    assert!(matches!(&input.rules[0].expressions[1], Expression::Match(tcp) if tcp.name == "tcp"));
    let jump = Expression::Verdict(Verdict::Jump("blue".to_owned()));
    assert_eq!(input.rules[0].expressions[2], jump);
    assert_eq!(input.rules[1].comment.as_deref(), Some("a \"word\""));
    assert_eq!(input.rules[2].expressions, Vec::new());
    let positions: Vec<u32> = input.rules.iter().map(|rule| rule.position).collect();
    assert_eq!(positions, [1, 2, 3]);
    let base = input.base.as_ref().unwrap();
    assert_eq!((base.hook, base.priority), (Hook::Input, 0));
    let nat = chain(&tables, FilterFamily::Ip, "nat", "INPUT");
    assert_eq!(nat.base.as_ref().unwrap().priority, 100);
    let input6 = chain(&tables, FilterFamily::Ip6, "filter", "INPUT");
    let Expression::Header(header) = &input6.rules[0].expressions[0] else {
        panic!("no header");
    };
    assert_eq!((header.protocol, header.not_protocol), (Some(6), true));
}

/// The effects of the targets of a chain, for a packet to port 80.
fn effects(
    sandbox: &Sandbox,
    family: FilterFamily,
    place: (&str, &str),
    hook: Hook,
) -> Vec<TargetEffect> {
    let (from, to) = match family {
        FilterFamily::Ip6 => ("[fd00::1]:40000", "[fd00::2]:80"),
        _ => ("10.0.0.1:40000", "10.0.0.2:80"),
    };
    let packet = Packet {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        ..oracle::at_hook(hook, from.parse().unwrap(), to.parse().unwrap(), 0)
    };
    let tables = read(sandbox);
    let rules = &chain(&tables, family, place.0, place.1).rules;
    rules
        .iter()
        .map(|rule| match rule.expressions.last() {
            Some(Expression::Target(target)) => xt::target(target, &packet, family, hook),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn targets_do_what_their_rules_say() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let load = |tool: &str, place: &str, targets: &[&str]| {
        let lines = targets
            .iter()
            .map(|target| format!("{tool}-legacy -w {place} -p tcp -j {target}\n"));
        run(&sandbox, &lines.collect::<String>());
    };
    let to = |text: &str| {
        TargetEffect::Ends(Action::Translate {
            to: Some(text.parse().unwrap()),
        })
    };
    let open = TargetEffect::Ends(Action::Translate { to: None });
    let nat = [
        "DNAT --to 10.9.9.9",
        "DNAT --to 10.9.9.9:81",
        "DNAT --to 10.9.9.1-10.9.9.2",
        "REDIRECT --to-ports 82",
        "NETMAP --to 10.8.0.0/16",
        "DNAT --to 10.9.9.9:1000-2000/1000",
    ];
    load("iptables", "-t nat -A OUTPUT", &nat);
    let expected = [
        to("10.9.9.9:80"),
        to("10.9.9.9:81"),
        open.clone(),
        to("127.0.0.1:82"),
        to("10.8.0.2:80"),
        open.clone(),
    ];
    assert_eq!(
        effects(&sandbox, FilterFamily::Ip, ("nat", "OUTPUT"), Hook::Output),
        expected
    );
    load(
        "iptables",
        "-t nat -A POSTROUTING",
        &["SNAT --to 10.9.9.9", "MASQUERADE"],
    );
    let passes = TargetEffect::Ends(Action::Accept);
    let source = effects(
        &sandbox,
        FilterFamily::Ip,
        ("nat", "POSTROUTING"),
        Hook::Postrouting,
    );
    assert_eq!(source, [passes.clone(), passes]);
    load(
        "ip6tables",
        "-t nat -A PREROUTING",
        &[
            "DNAT --to [fd00::9]:81",
            "REDIRECT --to-ports 82",
            "NETMAP --to fd01::/64",
        ],
    );
    let expected = [to("[fd00::9]:81"), open, to("[fd01::2]:80")];
    assert_eq!(
        effects(
            &sandbox,
            FilterFamily::Ip6,
            ("nat", "PREROUTING"),
            Hook::Prerouting
        ),
        expected
    );
    load(
        "iptables",
        "-A INPUT",
        &[
            "REJECT --reject-with icmp-admin-prohibited",
            "REJECT --reject-with tcp-reset",
            "NFQUEUE --queue-num 5",
            "NFQUEUE --queue-num 6 --queue-bypass",
            "NFQUEUE --queue-balance 7:9",
            "LOG",
            "NFLOG",
        ],
    );
    let icmp = Icmp {
        kind: 3,
        code: 13,
        v6: false,
    };
    let queue = |number, bypass| TargetEffect::Ends(Action::Queue { number, bypass });
    let expected = [
        TargetEffect::Ends(Action::RejectWithIcmp { icmp }),
        TargetEffect::Ends(Action::RejectWithReset),
        queue(5, false),
        queue(6, true),
        queue(7, false),
        TargetEffect::Continues,
        TargetEffect::Continues,
    ];
    assert_eq!(
        effects(&sandbox, FilterFamily::Ip, ("filter", "INPUT"), Hook::Input),
        expected
    );
}

#[test]
fn marks_are_changed_as_the_rules_say() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let targets = [
        "MARK --set-xmark 5/0xff",
        "MARK --or-mark 8",
        "CONNMARK --set-mark 3",
        "CONNMARK --save-mark",
        "CONNMARK --restore-mark --nfmask 0xf --ctmask 0xff",
        "TTL --ttl-set 9",
        "TPROXY --on-port 81",
    ];
    for target in targets {
        run(
            &sandbox,
            &format!("iptables-legacy -w -t mangle -A PREROUTING -p tcp -j {target}"),
        );
    }
    run(
        &sandbox,
        "iptables-legacy -w -t raw -A PREROUTING -j CT --notrack; iptables-legacy -w -t raw -A PREROUTING -j CT --zone 3",
    );
    let all = u32::MAX;
    let expected = [
        TargetEffect::SetsMark {
            value: 5,
            mask: 0xff,
        },
        TargetEffect::SetsMark { value: 8, mask: 8 },
        TargetEffect::SetsConnectionMark {
            value: 3,
            mask: all,
        },
        TargetEffect::SavesMark {
            connection_mask: all,
            packet_mask: all,
        },
        TargetEffect::RestoresMark {
            connection_mask: 0xff,
            packet_mask: 0xf,
        },
        TargetEffect::Continues,
        TargetEffect::Ends(Action::Other {
            name: "TPROXY".to_owned(),
        }),
    ];
    assert_eq!(
        effects(
            &sandbox,
            FilterFamily::Ip,
            ("mangle", "PREROUTING"),
            Hook::Prerouting
        ),
        expected
    );
    let raw = effects(
        &sandbox,
        FilterFamily::Ip,
        ("raw", "PREROUTING"),
        Hook::Prerouting,
    );
    assert_eq!(raw, [TargetEffect::Untracks, TargetEffect::Continues]);
}

#[test]
fn a_table_without_its_end_is_refused() {
    let info = Info {
        hooks: vec![None; 5],
        size: 0,
    };
    assert!(matches!(
        chains::table(&layout::IP, "filter", &info, &[]),
        Err(LegacyError::Malformed { .. })
    ));
}

fn info() -> impl Strategy<Value = Info> {
    let hook = prop::option::of((0u32..800, 0u32..800));
    prop::collection::vec(hook, 5).prop_map(|hooks| Info { hooks, size: 0 })
}

/// Entries whose sizes make sense, and the rest any bytes.
fn blob(layout: &'static Layout) -> impl Strategy<Value = Vec<u8>> {
    let entry =
        (prop::collection::vec(any::<u8>(), 300), 0usize..3).prop_map(move |(bytes, shape)| {
            let mut entry = bytes;
            let target = u16::try_from(layout.size).unwrap();
            let next = target + 64;
            entry.resize(usize::from(next), 0);
            entry[layout.offsets..layout.offsets + 2].copy_from_slice(&target.to_ne_bytes());
            entry[layout.offsets + 2..layout.offsets + 4].copy_from_slice(&next.to_ne_bytes());
            let at = layout.size;
            entry[at..at + 2].copy_from_slice(&64u16.to_ne_bytes());
            let name: &[u8] = [&b"\0"[..], b"ERROR\0", b"LOG\0"][shape];
            entry[at + 2..at + 2 + name.len()].copy_from_slice(name);
            entry
        });
    prop::collection::vec(entry, 0..6).prop_map(|entries| entries.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..900),
        info in info(),
    ) {
        for layout in [&layout::IP, &layout::IP6, &layout::ARP] {
            let _ = chains::table(layout, "filter", &info, &bytes);
        }
    }

    #[test]
    fn any_entries_are_read_or_refused(blob in blob(&layout::IP), info in info()) {
        let _ = chains::table(&layout::IP, "nat", &info, &blob);
    }
}
