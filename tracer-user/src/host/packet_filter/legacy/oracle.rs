//! The kernel as oracle: random rules, real SYNs, and the rules that counted them.

use std::net::SocketAddr;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::tests::{chain, read, run};
use crate::case::{FilterFamily, Hook};
use crate::firewall::expression::Verdict;
use crate::firewall::ip_set::IpSets;
use crate::firewall::packet::{Conntrack, Kind, Owner, Side, State};
use crate::firewall::ruleset::{Rule, Table};
use crate::firewall::xt::{self, TargetEffect};
use crate::firewall::{Expression, Packet, Truth};
use crate::host::packet_filter::ipset;
use crate::host::testing::{Sandbox, root_or_skip};

mod rules;

use rules::{Dice, address, ruleset, sets};

const RULESETS: u64 = 30;
const PACKETS: u16 = 20;

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

/// A SYN of root's over the loopback interface.
pub fn at_hook(hook: Hook, from: SocketAddr, to: SocketAddr, mark: u32) -> Packet {
    let lo = Side::Device {
        index: 1,
        name: "lo".to_owned(),
    };
    let out = hook == Hook::Output;
    Packet {
        kind: Kind::Segment,
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
    let mut met = 0;
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
            met += seen.len();
            assert_eq!(
                expected, seen,
                "seed {seed}, {from} to {to} mark {mark}\n{rules}{sets:?}"
            );
        }
    }
    assert!(met > 1000, "the packets met {met} rules");
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
