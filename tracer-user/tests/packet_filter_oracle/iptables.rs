//! Random rulesets as text for `iptables-restore` and `ip6tables-restore`.

use std::fmt::Write;

use crate::random::Random;

const CHAINS: usize = 3;

const GENERAL: &[&str] = &[
    "-p tcp",
    "! -p tcp",
    "-p udp",
    "-p tcp --dport 80",
    "-p tcp --dport 80:443",
    "-p tcp ! --dport 81:8080",
    "-p tcp --sport 20000:20300",
    "-p tcp --syn",
    "-p tcp ! --syn",
    "-p tcp --tcp-flags SYN,ACK,RST RST,ACK",
    "-i lo",
    "! -i lo",
    "-i l+",
    "-i eth0",
    "-o lo",
    "! -o lo",
    "! -o eth+",
    "-m conntrack --ctstate NEW",
    "-m conntrack --ctstate ESTABLISHED,RELATED",
    "-m conntrack ! --ctstate NEW",
    "-m conntrack --ctstate INVALID",
    "-m conntrack --ctstate UNTRACKED",
    "-m conntrack --ctdir ORIGINAL",
    "-m conntrack --ctproto tcp",
    "-m state --state NEW",
    "-m mark --mark 0x1",
    "-m mark ! --mark 0x10/0x10",
    "-m mark --mark 0x0/0x5",
    "-m connmark --mark 0x2",
    "-m connmark ! --mark 0x0/0x1",
    "-p tcp -m multiport --dports 80,443,3000:9000",
    "-p tcp -m multiport ! --dports 80,81",
    "-p tcp -m multiport --ports 81,8080",
    "-m comment --comment anything",
    "-m addrtype --dst-type LOCAL",
    "-m addrtype ! --src-type LOCAL",
    "-m pkttype --pkt-type unicast",
    "-m owner --uid-owner 33",
    "-m owner ! --uid-owner 0-999",
    "-m limit --limit 1000/s",
    "-m statistic --mode random --probability 0.5",
    "-m length --length 0:59",
];

const V4: &[&str] = &[
    "-s 127.0.0.1",
    "! -s 127.0.0.2",
    "-d 127.0.0.0/30",
    "! -d 127.0.0.2/31",
    "-d 10.0.0.0/8",
    "-m iprange --src-range 127.0.0.2-127.0.0.4",
    "-m iprange ! --dst-range 127.0.0.1-127.0.0.2",
    "-m ttl --ttl-eq 64",
    "-m ttl --ttl-lt 64",
];

const V6: &[&str] = &[
    "-s ::1",
    "! -s fd00::2",
    "-d fd00::/64",
    "! -d fd00::2/127",
    "-m iprange --src-range fd00::2-fd00::9",
    "-m hl --hl-eq 64",
    "-m hl --hl-gt 64",
];

/// A chain that rules are for.
struct Around<'t> {
    table: &'t str,
    chain: &'t str,
    /// Number of the first chain that a jump can lead to.
    next: usize,
    v6: bool,
}

/// Some of the tables, the rest as they are.
pub fn ruleset(random: &mut Random, v6: bool) -> String {
    let mut text = String::new();
    let tables: [(&str, &[&str]); 3] = [
        ("raw", &["PREROUTING", "OUTPUT"]),
        ("mangle", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
        ("filter", &["INPUT", "OUTPUT"]),
    ];
    for (table, chains) in tables {
        if table == "filter" || random.percent(50) {
            write_table(&mut text, random, table, chains, v6);
        }
    }
    text
}

fn write_table(text: &mut String, random: &mut Random, table: &str, bases: &[&str], v6: bool) {
    writeln!(text, "*{table}").unwrap();
    for base in bases {
        let policy = if random.percent(15) { "DROP" } else { "ACCEPT" };
        writeln!(text, ":{base} {policy} [0:0]").unwrap();
    }
    for number in 0..CHAINS {
        writeln!(text, ":C{number} - [0:0]").unwrap();
    }
    for number in 0..CHAINS {
        let chain = format!("C{number}");
        let around = Around {
            table,
            chain: &chain,
            next: number + 1,
            v6,
        };
        rules(text, random, &around);
    }
    for chain in bases {
        let around = Around {
            table,
            chain,
            next: 0,
            v6,
        };
        rules(text, random, &around);
    }
    writeln!(text, "COMMIT").unwrap();
}

fn rules(text: &mut String, random: &mut Random, around: &Around) {
    for _ in 0..1 + random.below(5) {
        let mut rule = format!("-A {}", around.chain);
        for _ in 0..random.one(&[0, 1, 1, 2, 2]) {
            write!(rule, " {}", condition(random, around)).unwrap();
        }
        rule += &target(random, around);
        writeln!(text, "{rule}").unwrap();
    }
}

fn condition(random: &mut Random, around: &Around) -> &'static str {
    match (random.percent(70), around.v6) {
        (true, _) => random.one(GENERAL),
        (false, true) => random.one(V6),
        (false, false) => random.one(V4),
    }
}

fn target(random: &mut Random, around: &Around) -> String {
    let marks = [
        " -j MARK --set-mark 0x1",
        " -j MARK --set-xmark 0x5/0xf",
        " -j MARK --or-mark 0x10",
        " -j MARK --and-mark 0xfffffff0",
        " -j CONNMARK --set-mark 0x2",
        " -j CONNMARK --save-mark",
        " -j CONNMARK --restore-mark",
    ];
    match random.below(12) {
        0 | 1 => " -j DROP".to_owned(),
        2 => " -j ACCEPT".to_owned(),
        3 => " -j RETURN".to_owned(),
        4 if around.table == "filter" => " -j REJECT".to_owned(),
        5 if around.table == "filter" => " -p tcp -j REJECT --reject-with tcp-reset".to_owned(),
        4..=6 if around.table == "mangle" => random.one(&marks).to_owned(),
        4 if around.table == "raw" => " -j CT --notrack".to_owned(),
        7..=10 if around.next < CHAINS => {
            let chain = around.next + random.below(CHAINS - around.next);
            format!(" {} C{chain}", random.one(&["-j", "-j", "-g"]))
        }
        _ => String::new(),
    }
}
