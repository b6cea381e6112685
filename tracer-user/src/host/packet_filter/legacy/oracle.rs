//! The kernel as oracle: random rules, real SYNs, and the rules that counted them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::tests::{chain, read, run};
use crate::case::{FilterFamily, Hook};
use crate::firewall::expression::Verdict;
use crate::firewall::ip_set::IpSets;
use crate::firewall::packet::{Conntrack, Owner, Side, State};
use crate::firewall::ruleset::{Rule, Table};
use crate::firewall::xt::{self, TargetEffect};
use crate::firewall::{Expression, Packet, Truth};
use crate::host::packet_filter::ipset;
use crate::host::testing::{Sandbox, root_or_skip};

const RULESETS: u64 = 30;
const PACKETS: u16 = 20;

/// Numbers that look random and are the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    fn not(&mut self) -> &'static str {
        self.of(&["", "", "! "])
    }
}

const CHAINS: u64 = 4;

/// Ports that packets and rules choose from, so that they meet often.
const PORTS: u64 = 6;

fn port(dice: &mut Dice) -> u16 {
    u16::try_from(7000 + dice.below(PORTS)).unwrap()
}

fn address(dice: &mut Dice, v6: bool) -> IpAddr {
    let last = u16::try_from(1 + dice.below(3)).unwrap();
    match v6 {
        true => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into(),
        false => Ipv4Addr::new(127, 0, 0, u8::try_from(last).unwrap()).into(),
    }
}

fn condition(dice: &mut Dice, v6: bool, output: bool) -> String {
    let not = dice.not();
    let (one, two) = (port(dice), port(dice));
    // multiport takes no range of one port.
    let (low, high) = (one.min(two), one.max(two) + 1);
    let addr = address(dice, v6);
    let prefix = if v6 {
        dice.of(&["128", "127", "126", "8"])
    } else {
        dice.of(&["32", "31", "30", "8"])
    };
    let end = dice.of(&["-s", "-d"]);
    match dice.below(if output { 17 } else { 16 }) {
        0 => format!("{not}{end} {addr}/{prefix}"),
        1 => {
            let side = if output { "-o" } else { "-i" };
            format!("{not}{side} {}", dice.of(&["lo", "l+", "eth0", "lo0"]))
        }
        2 => format!("-m tcp {not}--dport {low}:{high}"),
        3 => format!("-m tcp {not}--sport {low}:{high}"),
        4 => format!(
            "-m tcp {not}--tcp-flags {} {}",
            dice.of(&["SYN,ACK,FIN,RST", "SYN", "ACK", "ALL"]),
            dice.of(&["SYN", "ACK", "SYN,ACK"])
        ),
        5 => format!(
            "-m multiport {not}{} {one},{low}:{high}",
            dice.of(&["--dports", "--sports", "--ports"])
        ),
        6 => format!(
            "-m conntrack {not}--ctstate {}",
            dice.of(&[
                "NEW",
                "ESTABLISHED,RELATED",
                "INVALID",
                "NEW,UNTRACKED",
                "DNAT"
            ])
        ),
        7 => format!(
            "-m mark {not}--mark {}/{}",
            dice.below(4),
            1 + dice.below(3)
        ),
        8 => {
            let range = if v6 {
                "fd00::1-fd00::2"
            } else {
                "127.0.0.2-127.0.0.3"
            };
            format!(
                "-m iprange {not}{} {range}",
                dice.of(&["--src-range", "--dst-range"])
            )
        }
        9 => format!("-m comment --comment word{one}"),
        10 => format!(
            "-m addrtype {not}{} {}",
            dice.of(&["--dst-type", "--src-type"]),
            dice.of(&["LOCAL", "UNICAST", "MULTICAST"])
        ),
        11 if v6 => format!(
            "-m hl --hl-{} {}",
            dice.of(&["eq", "lt", "gt"]),
            63 + dice.below(3)
        ),
        11 => format!(
            "-m ttl --ttl-{} {}",
            dice.of(&["eq", "lt", "gt"]),
            63 + dice.below(3)
        ),
        12 => format!(
            "-m length {not}--length {}",
            dice.of(&["0:39", "200:300", "40:120"])
        ),
        13 => format!("-m comment --comment {}", dice.of(&["a", "b"])),
        14 => format!(
            "-m state {not}--state {}",
            dice.of(&["NEW", "ESTABLISHED", "INVALID,NEW"])
        ),
        15 => set(dice, not),
        _ => format!(
            "-m owner {not}--{}",
            dice.of(&[
                "uid-owner 0",
                "uid-owner 1-9",
                "gid-owner 0",
                "socket-exists"
            ])
        ),
    }
}

fn set(dice: &mut Dice, not: &str) -> String {
    let (name, ends) = match dice.below(6) {
        0 => ("ip", "src"),
        1 => ("net", "dst"),
        2 => ("ipport", "src,dst"),
        3 => ("netport", "dst,dst"),
        4 => ("port", "src"),
        _ => ("list", "dst,src"),
    };
    let nomatch = dice.of(&["", "", " --return-nomatch"]);
    format!("-m set {not}--match-set {name} {ends}{nomatch}")
}

/// Sets of every kind with a few of the addresses and ports, some of them by exception.
fn sets(dice: &mut Dice, v6: bool) -> String {
    let family = if v6 { "inet6" } else { "inet" };
    let mut text = format!(
        "create ip hash:ip family {family}\ncreate net hash:net family {family}\n\
         create ipport hash:ip,port family {family}\ncreate netport hash:net,port family {family}\n\
         create port bitmap:port range 7000-7010\ncreate list list:set\n"
    );
    for _ in 0..3 {
        let (addr, number) = (address(dice, v6), port(dice));
        let nomatch = dice.of(&["", " nomatch"]);
        let prefix = if v6 {
            dice.of(&["128", "126"])
        } else {
            dice.of(&["32", "30"])
        };
        text += &format!(
            "add ip {addr} -exist\nadd net {addr}/{prefix}{nomatch} -exist\n\
             add ipport {addr},tcp:{number} -exist\nadd ipport {addr},udp:{} -exist\n\
             add netport {addr}/{prefix},{number}{nomatch} -exist\nadd port {number} -exist\n",
            port(dice)
        );
    }
    text + "add list net\nadd list ipport\n"
}

fn ruleset(dice: &mut Dice, v6: bool) -> String {
    let mut text = String::from("*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    for number in 0..CHAINS {
        text += &format!(":in{number} - [0:0]\n:out{number} - [0:0]\n");
    }
    // Only the SYN is to meet the other rules.
    for base in ["INPUT", "OUTPUT"] {
        text += &format!("-A {base} ! -p tcp -j ACCEPT\n");
        text += &format!("-A {base} -p tcp -m tcp ! --tcp-flags SYN,ACK,RST SYN -j ACCEPT\n");
    }
    for (base, prefix) in [("INPUT", "in"), ("OUTPUT", "out")] {
        for number in 0..=CHAINS {
            let of = match number {
                0 => base.to_owned(),
                _ => format!("{prefix}{}", number - 1),
            };
            for _ in 0..dice.below(8) {
                let rule = rule(dice, v6, prefix, number);
                text += &format!("-A {of} {rule}\n");
            }
        }
    }
    text + "COMMIT\n"
}

/// iptables takes one protocol, one source and so on in a rule, and ports of TCP alone.
fn rule(dice: &mut Dice, v6: bool, prefix: &str, number: u64) -> String {
    let protocol = dice.of(&["", "-p tcp", "-p tcp", "! -p udp", "! -p tcp"]);
    let mut parts = vec![protocol.to_owned()];
    let word = |text: &str| {
        let mut words = text.trim_start_matches("! ").split(' ');
        match words.next().unwrap() {
            "-m" => words.next().unwrap().to_owned(),
            option => option.to_owned(),
        }
    };
    for _ in 0..dice.below(3) {
        let condition = condition(dice, v6, prefix == "out");
        let ports = ["tcp", "multiport"].contains(&word(&condition).as_str());
        let twice = parts.iter().any(|part| word(part) == word(&condition));
        if !twice && (protocol == "-p tcp" || !ports) {
            parts.push(condition);
        }
    }
    parts.push(action(dice, prefix, number, protocol == "-p tcp"));
    parts.join(" ")
}

fn action(dice: &mut Dice, prefix: &str, number: u64, tcp: bool) -> String {
    let deeper = number + dice.below(CHAINS);
    match dice.below(12) {
        0..=5 if deeper < CHAINS => format!("{} {prefix}{deeper}", dice.of(&["-j", "-j", "-g"])),
        6 => "-j RETURN".to_owned(),
        7 => "-j DROP".to_owned(),
        8 => "-j ACCEPT".to_owned(),
        9 if tcp => "-j REJECT --reject-with tcp-reset".to_owned(),
        10 => "-j LOG".to_owned(),
        _ => String::new(),
    }
}

/// Sends a SYN and leaves it at that.
fn send(sandbox: &Sandbox, from: SocketAddr, to: SocketAddr, mark: u32) {
    sandbox.run(move || {
        let family = if to.is_ipv6() {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
        setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
        setsockopt(&socket, sockopt::Mark, &mark).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        bind(fd, &SockaddrStorage::from(from)).unwrap();
        // Whether it is refused is not asked here.
        let _ = connect(fd, &SockaddrStorage::from(to));
    });
}

/// The rules that the packet meets and fits, from the base chain on.
struct Walk<'t> {
    table: &'t Table,
    packet: Packet,
    hook: Hook,
    sets: &'t IpSets,
    counted: Vec<(String, u32)>,
}

enum Way {
    Ended,
    Returned,
}

impl Walk<'_> {
    fn fits(&self, rule: &Rule) -> bool {
        rule.expressions.iter().all(|expression| {
            let (truth, doubt) = match expression {
                Expression::Header(header) => (xt::header(header, &self.packet), None),
                Expression::Match(extension) => xt::matches(
                    extension,
                    &self.packet,
                    self.table.family,
                    self.hook,
                    self.sets,
                ),
                _ => (Truth::Yes, None),
            };
            assert_ne!(truth, Truth::Unknown, "{doubt:?} {expression:?}");
            truth == Truth::Yes
        })
    }

    fn chain(&mut self, name: &str) -> Way {
        let rules = self
            .table
            .chains
            .iter()
            .find(|chain| chain.name == name)
            .unwrap()
            .rules
            .clone();
        for rule in rules {
            if !self.fits(&rule) {
                continue;
            }
            self.counted.push((name.to_owned(), rule.position));
            match rule.expressions.last() {
                Some(Expression::Verdict(Verdict::Accept | Verdict::Drop)) => return Way::Ended,
                Some(Expression::Verdict(Verdict::Return)) => return Way::Returned,
                Some(Expression::Verdict(Verdict::Goto(chain))) => return self.chain(chain),
                Some(Expression::Verdict(Verdict::Jump(chain))) => {
                    if matches!(self.chain(chain), Way::Ended) {
                        return Way::Ended;
                    }
                }
                Some(Expression::Target(target)) => {
                    match xt::target(target, &self.packet, self.table.family, self.hook) {
                        TargetEffect::Ends(_) => return Way::Ended,
                        TargetEffect::Continues => {}
                        other => panic!("{other:?}"),
                    }
                }
                _ => {}
            }
        }
        Way::Returned
    }
}

fn at_hook(hook: Hook, from: SocketAddr, to: SocketAddr, mark: u32) -> Packet {
    let lo = Side::Device {
        index: 1,
        name: "lo".to_owned(),
    };
    let out = hook == Hook::Output;
    Packet {
        from,
        to,
        from_local: Some(true),
        to_local: Some(true),
        flags: 0x02,
        sequence: 0,
        ttl: Some(64),
        // The mark belongs to the packet, also after the loopback interface.
        mark: Some(mark),
        input: if out { Side::Absent } else { lo.clone() },
        output: if out { lo } else { Side::Absent },
        owner: if out {
            Owner::User {
                uid: 0,
                gid: Some(0),
            }
        } else {
            Owner::Unknown
        },
        conntrack: Conntrack {
            state: Some(State::New),
            original: Some(true),
            mark: Some(0),
            destination_translated: Some(false),
            dialled: Some(to),
        },
    }
}

/// The rules of which the counters rose.
fn risen(before: &[Table], after: &[Table], family: FilterFamily) -> Vec<(String, u32)> {
    let counted = |tables: &[Table]| -> Vec<((String, u32), u64)> {
        let table = tables.iter().find(|table| table.family == family).unwrap();
        let rules = table.chains.iter().flat_map(|chain| {
            chain
                .rules
                .iter()
                .map(|rule| ((chain.name.clone(), rule.position), rule.packets.unwrap()))
        });
        // The rules before all others let the answers through.
        rules
            .filter(|((chain, position), _)| {
                *position > 2 || !["INPUT", "OUTPUT"].contains(&chain.as_str())
            })
            .collect()
    };
    let (before, after) = (counted(before), counted(after));
    before
        .into_iter()
        .zip(after)
        .flat_map(|((rule, old), (_, new))| (old..new).map(move |_| rule.clone()))
        .collect()
}

fn agree(family: FilterFamily) {
    if !root_or_skip() {
        return;
    }
    let v6 = family == FilterFamily::Ip6;
    let tool = if v6 { "ip6tables" } else { "iptables" };
    for seed in 0..RULESETS {
        let mut dice = Dice(seed);
        let sandbox = Sandbox::new();
        if v6 {
            (1..4).for_each(|last| {
                drop(sandbox.ip(&format!("addr add fd00::{last}/128 dev lo nodad")))
            });
        }
        run(
            &sandbox,
            &format!("ipset restore <<'EOF'\n{}EOF", sets(&mut dice, v6)),
        );
        let rules = ruleset(&mut dice, v6);
        run(
            &sandbox,
            &format!("{tool}-legacy-restore -w <<'EOF'\n{rules}EOF"),
        );
        let (sets, unread) = ipset::sets(&sandbox.namespace(), &read(&sandbox));
        assert_eq!(unread, Vec::<String>::new());
        for number in 0..PACKETS {
            // A pair of ports is used once, as conntrack would remember it.
            let from = SocketAddr::new(address(&mut dice, v6), 7000 + number % 6);
            let to = SocketAddr::new(address(&mut dice, v6), 7000 + (number / 6 + number) % 6);
            let mark = u32::try_from(dice.below(4)).unwrap();
            let before = read(&sandbox);
            send(&sandbox, from, to, mark);
            let after = read(&sandbox);
            let mut expected = Vec::new();
            for (hook, base) in [(Hook::Output, "OUTPUT"), (Hook::Input, "INPUT")] {
                let table = before.iter().find(|table| table.family == family).unwrap();
                let mut walk = Walk {
                    table,
                    packet: at_hook(hook, from, to, mark),
                    hook,
                    sets: &sets,
                    counted: Vec::new(),
                };
                walk.chain(base);
                let counted = walk.counted.iter();
                let passed = !stopped(
                    chain(&before, family, "filter", base),
                    &before,
                    &walk.counted,
                    family,
                );
                expected.extend(counted.cloned());
                if !passed {
                    break;
                }
            }
            expected.sort();
            let mut seen = risen(&before, &after, family);
            seen.sort();
            assert_eq!(
                expected, seen,
                "seed {seed}, {from} to {to} mark {mark}\n{rules}"
            );
        }
    }
}

/// Whether the last rule that the packet met stops it.
fn stopped(
    _: &crate::firewall::ruleset::Chain,
    tables: &[Table],
    counted: &[(String, u32)],
    family: FilterFamily,
) -> bool {
    let Some((name, position)) = counted.last() else {
        return false;
    };
    let rules = &chain(tables, family, "filter", name).rules;
    match rules[usize::try_from(position - 1).unwrap()]
        .expressions
        .last()
    {
        Some(Expression::Verdict(Verdict::Drop)) => true,
        Some(Expression::Target(target)) => target.name == "REJECT",
        _ => false,
    }
}

#[test]
fn ipv4_packets_count_where_the_evaluation_says() {
    agree(FilterFamily::Ip);
}

#[test]
fn ipv6_packets_count_where_the_evaluation_says() {
    agree(FilterFamily::Ip6);
}
