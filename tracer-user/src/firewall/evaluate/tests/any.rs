//! Any ruleset and any packet.

use std::ptr;

use proptest::prelude::*;

use super::example::*;
use crate::case::Hook;
use crate::firewall::evaluate::evaluate;
use crate::firewall::expression::{Expression, Operator, PayloadBase, Register, Verdict};
use crate::firewall::packet::{Owner, Packet, Side, State};
use crate::firewall::ruleset::{Chain, ChainKind, Element, Policy, Rule, Ruleset, Set, Value};

const CHAINS: usize = 5;

fn register() -> impl Strategy<Value = Register> {
    prop_oneof![9 => 0..4_u8, 1 => any::<u8>()].prop_map(Register)
}

/// Small values, that something matches.
fn data() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop_oneof![
            Just(0),
            Just(1),
            Just(2),
            Just(8),
            Just(10),
            Just(80),
            any::<u8>()
        ],
        1..6,
    )
}

fn load() -> impl Strategy<Value = Expression> {
    let base = prop_oneof![
        Just(PayloadBase::Network),
        Just(PayloadBase::Transport),
        Just(PayloadBase::LinkLayer)
    ];
    prop_oneof![
        (0..38_u32, register()).prop_map(|(key, to)| Expression::Meta { key, to }),
        (0..25_u32, prop::option::of(0..2_u8), register())
            .prop_map(|(key, direction, to)| Expression::Conntrack { key, direction, to }),
        (base, 0..50_u32, 1..20_u32, register()).prop_map(|(base, offset, length, to)| {
            Expression::Payload {
                base,
                offset,
                length,
                to,
            }
        }),
        (0..4_u32, 0..8_u32, register()).prop_map(|(result, flags, to)| Expression::Fib {
            result,
            flags,
            to
        }),
        (data(), register()).prop_map(|(data, to)| Expression::Immediate { data, to }),
    ]
}

fn operation() -> impl Strategy<Value = Expression> {
    prop_oneof![
        (register(), register(), data(), data()).prop_map(|(from, to, mask, xor)| {
            Expression::Mask {
                from,
                to,
                mask,
                xor,
            }
        }),
        (register(), register(), 0..20_u32, any::<bool>(), 0..40_u32).prop_map(
            |(from, to, length, left, bits)| Expression::Shift {
                from,
                to,
                length,
                left,
                bits
            }
        ),
        (register(), register(), 0..20_u32, 0..9_u32).prop_map(|(from, to, length, size)| {
            Expression::SwapBytes {
                from,
                to,
                length,
                size,
            }
        }),
        register().prop_map(|from| Expression::SetMark { from }),
        register().prop_map(|from| Expression::SetConntrack { key: 3, from }),
        Just(Expression::Statement {
            name: "notrack".to_owned()
        }),
    ]
}

fn condition() -> impl Strategy<Value = Expression> {
    let operator = prop_oneof![
        Just(Operator::Equal),
        Just(Operator::NotEqual),
        Just(Operator::Less),
        Just(Operator::GreaterOrEqual)
    ];
    prop_oneof![
        4 => (operator, register(), data())
            .prop_map(|(operator, from, data)| Expression::Compare { operator, from, data }),
        2 => (any::<bool>(), register(), data(), data()).prop_map(|(negated, from, low, high)| {
            Expression::Range { negated, from, low, high }
        }),
        2 => (register(), prop::option::of(register()), any::<bool>()).prop_map(|(from, to, negated)| {
            Expression::Lookup { set: "s".to_owned(), from, to, verdict: false, negated }
        }),
        1 => register().prop_map(|from| Expression::Lookup {
            set: "v".to_owned(), from, to: None, verdict: true, negated: false
        }),
        1 => Just(Expression::Sometimes { name: "limit".to_owned() }),
    ]
}

/// Jumps lead to chains from `next` on.
fn decision(next: usize) -> BoxedStrategy<Expression> {
    let plain = prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        Just(Verdict::Continue)
    ];
    if next >= CHAINS {
        return plain.prop_map(Expression::Verdict).boxed();
    }
    let called = (next..CHAINS, any::<bool>()).prop_map(|(number, jump)| {
        let name = format!("c{number}");
        if jump {
            Verdict::Jump(name)
        } else {
            Verdict::Goto(name)
        }
    });
    prop_oneof![plain, called]
        .prop_map(Expression::Verdict)
        .boxed()
}

fn any_rule(next: usize) -> impl Strategy<Value = Rule> {
    let part = prop_oneof![3 => load(), 1 => operation(), 3 => condition()];
    (prop::collection::vec(part, 0..5), decision(next)).prop_map(|(mut expressions, last)| {
        expressions.push(last);
        rule(expressions)
    })
}

fn any_chain(number: usize, next: usize) -> impl Strategy<Value = Chain> {
    prop::collection::vec(any_rule(next), 0..5)
        .prop_map(move |rules| chain(&format!("c{number}"), rules))
}

fn set(values: bool) -> impl Strategy<Value = Set> {
    let verdict = prop_oneof![
        Just(Verdict::Drop),
        Just(Verdict::Accept),
        Just(Verdict::Jump("c4".to_owned()))
    ];
    let value = move |(data, verdict)| {
        if values {
            Value::Data(data)
        } else {
            Value::Verdict(verdict)
        }
    };
    let key = prop::option::of((0..100_u8, 0..100_u8));
    let element = (key, (data(), verdict).prop_map(value)).prop_map(|(range, value)| Element {
        range: range.map(|(low, more)| (vec![0, low], vec![0, low.saturating_add(more)])),
        value: Some(value),
        expressions: Vec::new(),
    });
    (prop::collection::vec(element, 0..4), any::<bool>()).prop_map(|(elements, changes)| Set {
        key_length: 2,
        fields: Vec::new(),
        is_map: true,
        intervals: true,
        elements,
        changes,
    })
}

fn hook() -> impl Strategy<Value = Hook> {
    prop_oneof![
        Just(Hook::Prerouting),
        Just(Hook::Input),
        Just(Hook::Forward),
        Just(Hook::Output),
        Just(Hook::Postrouting)
    ]
}

/// `next` gives the first chain that a chain's jumps can lead to.
fn any_ruleset(next: fn(usize) -> usize) -> impl Strategy<Value = (Ruleset, Hook)> {
    let chains: Vec<_> = (0..CHAINS)
        .map(|number| any_chain(number, next(number)).boxed())
        .collect();
    let priorities =
        [(); 2].map(|()| prop_oneof![Just(-300), Just(-200), Just(-150), Just(0), Just(0)]);
    let policy = prop_oneof![Just(Policy::Accept), Just(Policy::Drop)];
    let nat = prop::bool::weighted(0.2);
    (
        chains,
        priorities,
        policy,
        nat,
        set(true),
        set(false),
        hook(),
    )
        .prop_map(
            |(mut chains, priorities, policy, nat, data, verdicts, hook)| {
                for (chain, priority) in chains.iter_mut().zip(priorities) {
                    let mut base = base(hook, priority, policy);
                    if nat {
                        base.kind = ChainKind::Nat;
                    }
                    chain.base = Some(base);
                }
                let mut ruleset = ruleset(chains);
                let sets = &mut ruleset.tables[0].sets;
                sets.insert("s".to_owned(), data);
                sets.insert("v".to_owned(), verdicts);
                (ruleset, hook)
            },
        )
}

fn side() -> impl Strategy<Value = Side> {
    let device = |index, name: &str| Side::Device {
        index,
        name: name.to_owned(),
    };
    prop_oneof![
        Just(Side::Absent),
        Just(device(1, "lo")),
        Just(device(2, "eth0"))
    ]
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let state = prop_oneof![
        Just(State::New),
        Just(State::Established),
        Just(State::Invalid),
        Just(State::Untracked)
    ];
    let owner = prop_oneof![
        Just(Owner::Absent),
        (0..3_u32).prop_map(|uid| Owner::User {
            uid,
            gid: Some(uid)
        })
    ];
    (side(), side(), state, owner, any::<[bool; 3]>(), 0..3_u32).prop_map(
        |(input, output, state, owner, [original, translated, local], mark)| {
            let mut packet = Packet {
                input,
                output,
                owner,
                mark: Some(mark),
                from_local: Some(local),
                to_local: Some(!local),
                ..packet()
            };
            packet.conntrack.state = Some(state);
            packet.conntrack.original = Some(original);
            packet.conntrack.mark = Some(mark);
            packet.conntrack.destination_translated = Some(translated);
            packet
        },
    )
}

/// The same packet, less known.
fn forgetting(packet: &Packet, what: u16) -> Packet {
    let mut packet = packet.clone();
    let forgets = |bit: u16| what & 1 << bit != 0;
    packet.ttl = packet.ttl.filter(|_| !forgets(0));
    packet.mark = packet.mark.filter(|_| !forgets(1));
    packet.from_local = packet.from_local.filter(|_| !forgets(2));
    packet.to_local = packet.to_local.filter(|_| !forgets(3));
    if forgets(4) {
        packet.input = Side::Unknown;
    }
    if forgets(5) {
        packet.output = Side::Unknown;
    }
    if forgets(6) {
        packet.owner = Owner::Unknown;
    }
    if let (Owner::User { uid, .. }, true) = (packet.owner, forgets(7)) {
        packet.owner = Owner::User { uid, gid: None };
    }
    let conntrack = &mut packet.conntrack;
    conntrack.state = conntrack.state.filter(|_| !forgets(8));
    conntrack.original = conntrack.original.filter(|_| !forgets(9));
    conntrack.mark = conntrack.mark.filter(|_| !forgets(10));
    let translated = &mut conntrack.destination_translated;
    *translated = translated.filter(|_| !forgets(11));
    packet
}

fn kinds() -> impl Strategy<Value = &'static [ChainKind]> {
    prop_oneof![
        Just(STOPS),
        Just(&[ChainKind::Nat] as &[_]),
        Just(&[ChainKind::Filter, ChainKind::Route, ChainKind::Nat] as &[_])
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn forgetting_something_loses_no_possible_end(
        (ruleset, hook) in any_ruleset(|number| number + 1),
        packet in any_packet(),
        what in any::<u16>(),
        kinds in kinds(),
    ) {
        let known = evaluate(&ruleset, &packet, hook, kinds);
        let less = forgetting(&packet, what);
        let guessed = evaluate(&ruleset, &less, hook, kinds);
        for end in &known.ends {
            let again = guessed.ends.iter().any(|other| {
                ptr::eq(end.base_chain, other.base_chain)
                    && end.rule.map(ptr::from_ref) == other.rule.map(ptr::from_ref)
            });
            prop_assert!(again, "{:?} is lost with {:?}", end, less);
        }
        prop_assert!(guessed.may_pass || !known.may_pass);
    }

    /// Chains that call each other in circles as well, which the kernel refuses.
    #[test]
    fn any_ruleset_comes_to_an_end(
        (ruleset, hook) in any_ruleset(|_| 0),
        packet in any_packet(),
        what in any::<u16>(),
    ) {
        let trial = evaluate(&ruleset, &forgetting(&packet, what), hook, STOPS);
        let certain = trial.ends.iter().filter(|end| end.certain).count();
        prop_assert!(certain == 0 || trial.ends.len() == 1);
        prop_assert!(trial.may_pass || !trial.ends.is_empty());
    }
}
