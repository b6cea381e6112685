//! Random rulesets as text for nft.

use std::fmt::Write;

use crate::conditions::{GENERAL, V4, V6};
use crate::random::Random;

pub const PORTS: [u16; 6] = [80, 81, 443, 3000, 8080, 9000];
pub const USERS: [u32; 3] = [0, 33, 1000];
pub const MARKS: [u32; 4] = [0, 1, 5, 0x10];

/// Table `begin` traces every packet and shows its mark before any other rule; table `end` shows
/// that it got through the hook.
pub const FRAME: &str = "
table inet begin {
    chain prerouting { type filter hook prerouting priority -1000; meta nftrace set 1; }
    chain input { type filter hook input priority -1000; meta nftrace set 1; }
    chain output { type filter hook output priority -1000; meta nftrace set 1; }
    chain postrouting { type filter hook postrouting priority -1000; meta nftrace set 1; }
}
table inet end {
    chain prerouting { type filter hook prerouting priority 1000; counter; }
    chain input { type filter hook input priority 1000; counter; }
    chain output { type filter hook output priority 1000; counter; }
    chain postrouting { type filter hook postrouting priority 1000; counter; }
}
";

/// A ruleset, the old one flushed.
pub fn ruleset(random: &mut Random) -> String {
    let mut text = format!("flush ruleset\n{FRAME}");
    let tables = 1 + random.below(3);
    for number in 0..tables {
        let family = random.one(&["ip", "ip6", "inet", "inet"]);
        table(&mut text, random, family, number);
    }
    if random.percent(30) {
        translations(&mut text, random);
    }
    text
}

/// Nothing in this table ends a packet's way but a translation.
fn translations(text: &mut String, random: &mut Random) {
    text.push_str("table inet nat {\nchain nat { type nat hook output priority -100;\n");
    for _ in 0..1 + random.below(4) {
        let (version, to) = random.one(&[
            ("ip", "dnat ip to 127.0.0.3:81"),
            ("ip", "dnat ip to 127.0.0.5"),
            (
                "ip",
                "dnat ip to tcp dport map { 80 : 127.0.0.2, 81 : 127.0.0.3, 443 : 127.0.0.5 }",
            ),
            ("ip", "meta l4proto tcp redirect to :443"),
            ("ip6", "dnat ip6 to [fd00::2]:8080"),
            ("ip6", "dnat ip6 to fd00::3"),
            ("ip6", "meta l4proto tcp redirect to :80"),
        ]);
        let condition = condition(random, "inet", version);
        writeln!(
            text,
            "    meta nfproto {}  tcp dport != 3000 {condition} {to}",
            if version == "ip" { "ipv4" } else { "ipv6" }
        )
        .unwrap();
    }
    text.push_str("}\n}\n");
}

struct Around<'t> {
    family: &'t str,
    /// Chains that a jump can lead to.
    below: Vec<usize>,
    /// `reject` is for input and output alone.
    rejects: bool,
}

fn table(text: &mut String, random: &mut Random, family: &str, number: usize) {
    writeln!(text, "table {family} t{number} {{").unwrap();
    let plain = 1 + random.below(5);
    sets(text, random, family, plain);
    for chain in 0..plain {
        let around = Around {
            family,
            below: (chain + 1..plain).collect(),
            rejects: true,
        };
        writeln!(text, "chain c{chain} {{").unwrap();
        rules(text, random, &around);
        writeln!(text, "}}").unwrap();
    }
    for chain in 0..1 + random.below(4) {
        let hook = random.one(&[
            "input",
            "output",
            "input",
            "output",
            "prerouting",
            "postrouting",
        ]);
        let local = matches!(hook, "input" | "output");
        let around = Around {
            family,
            below: if local {
                (0..plain).collect()
            } else {
                Vec::new()
            },
            rejects: local,
        };
        let priority = random.one(&[-300, -150, 0, 0, 10, 50]);
        let policy = random.one(&["accept", "accept", "accept", "drop"]);
        writeln!(
            text,
            "chain b{chain} {{ type filter hook {hook} priority {priority}; policy {policy};"
        )
        .unwrap();
        if priority == -300 && matches!(hook, "output" | "prerouting") && random.percent(20) {
            writeln!(text, "tcp dport {} notrack", random.one(&PORTS)).unwrap();
        }
        rules(text, random, &around);
        writeln!(text, "}}").unwrap();
    }
    writeln!(text, "}}").unwrap();
}

fn sets(text: &mut String, random: &mut Random, family: &str, chains: usize) {
    let ports = random.several(&["80", "81", "443", "3000", "8080"], 1, 4);
    writeln!(
        text,
        "set ports {{ type inet_service; elements = {{ {ports} }} }}"
    )
    .unwrap();
    let spans = random.several(
        &[
            "1-100",
            "400-500",
            "3000",
            "8000-9000",
            "20000-20500",
            "20700-40000",
        ],
        1,
        4,
    );
    writeln!(
        text,
        "set spans {{ type inet_service; flags interval; elements = {{ {spans} }} }}"
    )
    .unwrap();
    let marks = random.several(&["80 : 0x1", "81 : 0x5", "443 : 0x10", "8080 : 0x11"], 1, 4);
    writeln!(
        text,
        "map marks {{ type inet_service : mark; elements = {{ {marks} }} }}"
    )
    .unwrap();
    let (kind, nets, pairs) = addresses(family);
    let nets = random.several(nets, 1, 3);
    writeln!(
        text,
        "set nets {{ type {kind}; flags interval; elements = {{ {nets} }} }}"
    )
    .unwrap();
    let pairs = random.several(pairs, 1, 3);
    writeln!(
        text,
        "set pairs {{ type {kind} . inet_service; flags interval; elements = {{ {pairs} }} }}"
    )
    .unwrap();
    let verdicts = verdict_map(random, (0..chains).collect());
    // Its chains are declared here so that the map can lead to them.
    for chain in 0..chains {
        writeln!(text, "chain c{chain} {{ }}").unwrap();
    }
    writeln!(
        text,
        "map ways {{ type inet_service : verdict; flags interval; elements = {{ {verdicts} }} }}"
    )
    .unwrap();
}

fn addresses(
    family: &str,
) -> (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
) {
    if family == "ip6" {
        return (
            "ipv6_addr",
            &["::1", "fd00::2/127", "fd00::4-fd00::5", "2001:db8::/32"],
            &[
                "::1 . 80",
                "fd00::/64 . 80-500",
                "fd00::2 . 3000-9000",
                "::1 . 81-8080",
            ],
        );
    }
    (
        "ipv4_addr",
        &[
            "127.0.0.1",
            "127.0.0.2/31",
            "127.0.0.4-127.0.0.5",
            "10.0.0.0/8",
        ],
        &[
            "127.0.0.1 . 80",
            "127.0.0.0/8 . 80-90",
            "127.0.0.2-127.0.0.3 . 400-9000",
            "127.0.0.4 . 81-8080",
        ],
    )
}

fn verdict_map(random: &mut Random, chains: Vec<usize>) -> String {
    let mut elements = Vec::new();
    for key in ["80", "81-442", "443", "3000-8000", "8080"] {
        if random.percent(60) {
            elements.push(format!("{key} : {}", plain_verdict(random, &chains)));
        }
    }
    if elements.is_empty() || random.percent(30) {
        elements.push(format!("9000 : {}", plain_verdict(random, &chains)));
    }
    elements.join(", ")
}

fn plain_verdict(random: &mut Random, chains: &[usize]) -> String {
    let called = random
        .percent(50)
        .then(|| chains.first().map(|_| random.one(chains)));
    match called.flatten() {
        Some(chain) => format!("{} c{chain}", random.one(&["jump", "jump", "goto"])),
        None => random
            .one(&["accept", "drop", "return", "continue"])
            .to_owned(),
    }
}

fn rules(text: &mut String, random: &mut Random, around: &Around) {
    for _ in 0..1 + random.below(6) {
        let mut rule = String::new();
        // A rule of the family inet asks for one version of IP.
        let version = match around.family {
            "inet" => random.one(&["ip", "ip6"]),
            family => family,
        };
        for _ in 0..random.one(&[0, 1, 1, 2, 2, 3]) {
            write!(rule, "{} ", condition(random, around.family, version)).unwrap();
        }
        if random.percent(25) {
            write!(rule, "{} ", statement(random)).unwrap();
        }
        rule += &verdict(random, around);
        writeln!(text, "    {rule}").unwrap();
    }
}

fn statement(random: &mut Random) -> &'static str {
    random.one(&[
        "counter",
        "meta mark set 0x1",
        "meta mark set 0x5",
        "meta mark set meta mark | 0x10",
        "meta mark set meta mark & 0xfffffff0",
        "meta mark set tcp dport map @marks",
        "ct mark set 0x2",
        "ct mark set meta mark",
        "meta mark set ct mark",
    ])
}

fn verdict(random: &mut Random, around: &Around) -> String {
    match random.below(10) {
        0 | 1 => "drop".to_owned(),
        2 => "accept".to_owned(),
        3 => "return".to_owned(),
        4 if around.rejects => random.one(&["reject", "reject with tcp reset"]).to_owned(),
        5 if around.below.len() > 1 => {
            format!(
                "tcp dport vmap {{ {} }}",
                verdict_map(random, around.below.clone())
            )
        }
        6 if around.below.first() == Some(&0) => "tcp dport vmap @ways".to_owned(),
        7..=9 if !around.below.is_empty() => {
            format!(
                "{} c{}",
                random.one(&["jump", "jump", "goto"]),
                random.one(&around.below)
            )
        }
        _ => "counter".to_owned(),
    }
}

fn condition(random: &mut Random, family: &str, version: &str) -> String {
    // The sets of the family inet are for IPv4.
    let own: &[&str] = match (family, version) {
        ("ip6", _) => &[
            "ip6 daddr @nets",
            "ip6 saddr != @nets",
            "ip6 daddr . tcp dport @pairs",
        ],
        (_, "ip") => &[
            "ip daddr @nets",
            "ip saddr != @nets",
            "ip daddr . tcp dport @pairs",
        ],
        _ => &["tcp dport @spans"],
    };
    let pool: &[&str] = match random.below(10) {
        0..6 => GENERAL,
        6 => own,
        _ if version == "ip" => V4,
        _ => V6,
    };
    random.one(pool).to_owned()
}
