//! One expression of a rule.

use crate::case::Action;
use crate::firewall::expression::{Expression, Extension, Register, Verdict};
use crate::firewall::ruleset::Table;
use crate::firewall::truth::Truth;
use crate::firewall::xt::{self, TargetEffect};

use super::bits::{Bits, Word};
use super::carried::{Carried, Tracking};
use super::load::{Loaded, base_name};
use super::lookup::{Lookups, undecided};
use super::registers::Registers;
use super::scene::{Entry, Scene};
use super::translation::translation;
use super::{conntrack, fib, marks, meta, operations, payload};

/// What an expression comes to.
#[derive(Debug)]
pub enum Step<'r> {
    /// It holds, and the next one is due; where not, the rule ends here.
    Holds(Truth),
    /// One of these verdicts, if it holds.
    Decides {
        holds: Truth,
        verdicts: Vec<&'r Verdict>,
    },
    /// The rules end here; where not `surely`, the next expression can follow instead.
    Ends { action: Action, surely: bool },
}

/// A rule at work.
pub struct Execution<'r, 'w> {
    pub table: &'r Table,
    pub scene: &'w Scene<'r>,
    pub lookups: &'w mut Lookups<'r>,
    pub registers: &'w mut Registers<'r>,
    /// What the last expression that was not decided asks for.
    pub cause: &'r str,
}

impl<'r> Execution<'r, '_> {
    pub fn step(&mut self, expression: &'r Expression, carried: &mut Carried) -> Step<'r> {
        match expression {
            Expression::Payload { .. }
            | Expression::Meta { .. }
            | Expression::Conntrack { .. }
            | Expression::Fib { .. }
            | Expression::Unknowable { .. }
            | Expression::Immediate { .. } => Step::Holds(self.load(expression, carried)),
            Expression::Lookup { .. } => self.lookup(expression),
            Expression::Verdict(verdict) => Step::Decides {
                holds: Truth::Yes,
                verdicts: vec![verdict],
            },
            Expression::Terminal(action) => Step::Ends {
                action: action.clone(),
                surely: true,
            },
            Expression::Nat { .. } => Step::Ends {
                action: translation(self.scene, self.registers, expression),
                surely: true,
            },
            Expression::Target(target) => self.target(target, carried),
            _ => Step::Holds(self.condition(expression, carried)),
        }
    }

    fn load(&mut self, expression: &'r Expression, carried: &Carried) -> Truth {
        let scene = self.scene;
        let (loaded, to, origin) = match expression {
            Expression::Payload {
                base,
                offset,
                length,
                to,
            } => {
                let loaded = payload::payload(scene, *base, *offset, *length);
                (loaded, *to, base_name(*base))
            }
            Expression::Meta { key, to } => {
                (meta::meta(scene, carried, *key), *to, meta::key_name(*key))
            }
            Expression::Conntrack { key, direction, to } => {
                let loaded = conntrack::conntrack(scene, carried, *key, *direction);
                (loaded, *to, conntrack::key_name(*key))
            }
            Expression::Fib { result, flags, to } => {
                (fib::fib(scene, *result, *flags), *to, "a routing table")
            }
            Expression::Unknowable { name, to, length } => (
                Loaded::perhaps((*length as usize).min(64)),
                *to,
                name.as_str(),
            ),
            Expression::Immediate { data, to } => (Loaded::value(data), *to, "a constant"),
            _ => return Truth::Unknown,
        };
        self.registers.load(to, &loaded.bytes, origin);
        self.note(loaded.succeeds, origin)
    }

    /// Keeps the cause of what is not known.
    fn note(&mut self, truth: Truth, cause: &'r str) -> Truth {
        if truth == Truth::Unknown {
            self.cause = cause;
        }
        truth
    }

    fn condition(&mut self, expression: &'r Expression, carried: &mut Carried) -> Truth {
        match expression {
            Expression::Compare { .. } | Expression::Range { .. } => self.compare(expression),
            Expression::Mask { .. } | Expression::Shift { .. } | Expression::SwapBytes { .. } => {
                self.operate(expression);
                Truth::Yes
            }
            Expression::Header(header) => {
                let holds = xt::header(header, &self.scene.packet);
                self.note(holds, "the interface")
            }
            Expression::Match(extension) => {
                let scene = self.scene;
                let packet = scene.packet(carried);
                let (holds, _) =
                    xt::matches(extension, &packet, scene.family, scene.hook, scene.ip_sets);
                self.note(holds, &extension.name)
            }
            Expression::Sometimes { name } | Expression::Unknown { name } => {
                self.note(Truth::Unknown, name)
            }
            Expression::UpdateSet { statements, .. } => {
                match statements.iter().find_map(undecided) {
                    Some(name) => self.note(Truth::Unknown, name),
                    None => Truth::Yes,
                }
            }
            _ => {
                self.change(expression, carried);
                Truth::Yes
            }
        }
    }

    fn compare(&mut self, expression: &Expression) -> Truth {
        let registers = &*self.registers;
        let (holds, from, length) = match expression {
            Expression::Compare {
                operator,
                from,
                data,
            } => {
                let holds = operations::compares(registers, *operator, *from, data);
                (holds, *from, data.len())
            }
            Expression::Range {
                negated,
                from,
                low,
                high,
            } => {
                let holds = operations::in_range(registers, *negated, *from, low, high);
                (holds, *from, low.len())
            }
            _ => return Truth::Unknown,
        };
        let origin = registers.unknown_origin(from, length);
        self.note(holds, origin)
    }

    fn operate(&mut self, expression: &Expression) {
        let registers = &mut *self.registers;
        match expression {
            Expression::Mask {
                from,
                to,
                mask,
                xor,
            } => operations::mask(registers, *from, *to, mask, xor),
            Expression::Shift {
                from,
                to,
                length,
                left,
                bits,
            } => operations::shift(registers, *from, *to, *length, *left, *bits),
            Expression::SwapBytes {
                from,
                to,
                length,
                size,
            } => operations::swap_bytes(registers, *from, *to, *length, *size),
            _ => {}
        }
    }

    /// Statements that change what later rules look at.
    fn change(&mut self, expression: &Expression, carried: &mut Carried) {
        match expression {
            Expression::SetMark { from } => carried.mark = self.word(*from),
            Expression::SetConntrack { key, from } if *key == conntrack::MARK => {
                let value = self.word(*from);
                marks::mark_connection(carried, self.scene.entry(carried), value);
            }
            // `nft_notrack_eval` leaves a packet alone that has its entry.
            Expression::Statement { name } if name == "notrack" => {
                self.untrack(carried);
            }
            _ => {}
        }
    }

    fn untrack(&self, carried: &mut Carried) {
        match self.scene.entry(carried) {
            Entry::Is(_) => {}
            Entry::Absent { .. } => carried.tracking = Tracking::Untracked,
            Entry::Unknown => carried.tracking = Tracking::Unknown,
        }
    }

    fn word(&self, from: Register) -> Word {
        let bytes = self.registers.read(from, 4);
        Word(bytes.try_into().unwrap_or([Bits::UNKNOWN; 4]))
    }

    fn lookup(&mut self, expression: &'r Expression) -> Step<'r> {
        let Expression::Lookup {
            set,
            from,
            to,
            verdict,
            negated,
        } = expression
        else {
            return Step::Holds(Truth::Unknown);
        };
        let Some(set) = self.table.sets.get(set) else {
            return Step::Holds(self.note(Truth::Unknown, "a set that was not read"));
        };
        let key = self
            .registers
            .unknown_origin(*from, set.key_length as usize);
        let cause = if set.changes {
            "a set that changes"
        } else {
            key
        };
        let registers = &*self.registers;
        let found = self
            .lookups
            .find(set, |length| registers.read(*from, length).to_vec());
        let mut holds = self.note(found.contained, cause);
        if *negated {
            return Step::Holds(holds.not());
        }
        if let Some(name) = found.undecided_statement() {
            holds = self.note(holds.and(Truth::Unknown), name);
        }
        if let Some(to) = to {
            self.registers.load(*to, &found.data(), "a map's value");
        }
        if !verdict {
            return Step::Holds(holds);
        }
        let verdicts = found.verdicts();
        if verdicts.len() > 1 {
            self.cause = key;
        }
        Step::Decides { holds, verdicts }
    }

    fn target(&mut self, target: &'r Extension, carried: &mut Carried) -> Step<'r> {
        let scene = self.scene;
        let effect = xt::target(target, &scene.packet(carried), scene.family, scene.hook);
        match effect {
            TargetEffect::Ends(action) => {
                return Step::Ends {
                    action,
                    surely: true,
                };
            }
            TargetEffect::Unknown => {
                self.cause = &target.name;
                carried.mark = Word::UNKNOWN;
                carried.connection_mark = Word::UNKNOWN;
                return Step::Ends {
                    action: Action::Other {
                        name: target.name.clone(),
                    },
                    surely: false,
                };
            }
            TargetEffect::Untracks => self.untrack(carried),
            TargetEffect::Continues => {}
            _ => marks::apply(&effect, carried, scene.entry(carried)),
        }
        Step::Holds(Truth::Yes)
    }
}
