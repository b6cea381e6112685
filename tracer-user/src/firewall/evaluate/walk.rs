//! The packet's way through one base chain (`nft_do_chain`, `ipt_do_table`).

use std::collections::HashMap;
use std::ptr;

use crate::case::Action;
use crate::firewall::expression::Verdict;
use crate::firewall::ruleset::{Chain, ChainKind, Policy, Rule, Table};
use crate::firewall::trial::Trial;
use crate::firewall::truth::Truth;

use super::account::{Account, Question};
use super::carried::{Carried, add};
use super::lookup::Lookups;
use super::registers::Registers;
use super::rule::{Execution, Step};
use super::scene::Scene;

/// Jumps and gotos deep. The kernel refuses more than 16 in nftables (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 64;

/// States in which one chain is walked through before all others count as one of which nothing
/// is known: it bounds the work by the size of the ruleset.
const STATES_PER_CHAIN: usize = 16;

/// Chains of a table by name.
pub type Chains<'r> = HashMap<&'r str, &'r Chain>;

pub struct Walk<'r, 'w> {
    kind: ChainKind,
    scene: &'w Scene<'r>,
    chains: &'w Chains<'r>,
    lookups: &'w mut Lookups<'r>,
    account: Account<'r, 'w>,
    memory: Memory,
}

#[derive(Default)]
struct Memory {
    outcomes: HashMap<(*const Chain, Carried), Ways>,
    states: HashMap<*const Chain, usize>,
    depth: usize,
}

/// In which states the packet can leave a rule or a chain; null where it cannot leave that way.
#[derive(Debug, Clone, Copy, Default)]
struct Ways {
    /// To the next rule, or out of the chain to its caller.
    on: Option<Carried>,
    /// Out of the chain to its caller, by `return` or after a `goto`.
    back: Option<Carried>,
    /// Out of the base chain.
    accepted: Option<Carried>,
}

impl<'r, 'w> Walk<'r, 'w> {
    pub fn new(
        (table, base, kind): (&'r Table, &'r Chain, ChainKind),
        question: Question,
        scene: &'w Scene<'r>,
        chains: &'w Chains<'r>,
        lookups: &'w mut Lookups<'r>,
        trial: &'w mut Trial<'r>,
    ) -> Self {
        Self {
            kind,
            scene,
            chains,
            lookups,
            account: Account::new(table, base, question, trial),
            memory: Memory::default(),
        }
    }

    /// The state in which the packet can go on to the next base chain, null where it cannot.
    pub fn run(mut self, carried: Carried, policy: Policy) -> Option<Carried> {
        let ways = self.chain(self.account.base, carried);
        let mut passed = ways.accepted;
        if let Some(carried) = ways.on {
            match policy {
                Policy::Accept => add(&mut passed, carried),
                Policy::Drop => self.account.record(self.account.base, None, Action::Drop),
            }
        }
        passed
    }

    /// Its `on` is the way back to the caller.
    fn chain(&mut self, chain: &'r Chain, carried: Carried) -> Ways {
        let carried = self.widened(chain, carried);
        let key = (ptr::from_ref(chain), carried);
        if let Some(ways) = self.memory.outcomes.get(&key) {
            return *ways;
        }
        let anyhow = Ways {
            on: Some(carried.anything()),
            ..Ways::default()
        };
        if self.memory.depth == DEEPEST {
            self.account
                .doubt(format!("chains are nested too deep at {}", chain.name));
            return anyhow;
        }
        // The answer for a chain that leads back to itself, which the kernel refuses.
        self.memory.outcomes.insert(key, anyhow);
        self.memory.depth += 1;
        let ways = self.rules(chain, carried);
        self.memory.depth -= 1;
        self.memory.outcomes.insert(key, ways);
        ways
    }

    fn widened(&mut self, chain: &'r Chain, carried: Carried) -> Carried {
        let key = ptr::from_ref(chain);
        if self.memory.outcomes.contains_key(&(key, carried)) {
            return carried;
        }
        let states = self.memory.states.entry(key).or_default();
        *states += 1;
        if *states > STATES_PER_CHAIN {
            carried.anything()
        } else {
            carried
        }
    }

    fn rules(&mut self, chain: &'r Chain, carried: Carried) -> Ways {
        let mut out = Ways {
            on: Some(carried),
            ..Ways::default()
        };
        for rule in &chain.rules {
            let Some(carried) = out.on else {
                break;
            };
            let ways = self.rule(chain, rule, carried);
            out.on = ways.on;
            merge(&mut out.back, ways.back);
            merge(&mut out.accepted, ways.accepted);
        }
        merge(&mut out.on, out.back.take());
        out
    }

    fn rule(&mut self, chain: &'r Chain, rule: &'r Rule, mut carried: Carried) -> Ways {
        let mut ways = Ways::default();
        let mut registers = Registers::new();
        for expression in &rule.expressions {
            let before = carried;
            let mut execution = Execution {
                table: self.account.table,
                scene: self.scene,
                lookups: self.lookups,
                registers: &mut registers,
                cause: "a condition",
            };
            let step = execution.step(expression, &mut carried);
            let cause = execution.cause;
            let goes_on = match step {
                Step::Holds(holds) => {
                    self.unless(holds, before, &mut ways, (chain, rule, cause));
                    holds != Truth::No
                }
                Step::Decides { holds, verdicts } => {
                    self.unless(holds, before, &mut ways, (chain, rule, cause));
                    if verdicts.len() > 1 {
                        self.account.doubt_rule(chain, rule, cause);
                    }
                    holds != Truth::No && self.verdicts(chain, rule, &verdicts, carried, &mut ways)
                }
                Step::Ends { action, surely } => {
                    self.end(chain, rule, action, carried, &mut ways);
                    if !surely {
                        self.account.doubt_rule(chain, rule, cause);
                    }
                    !surely
                }
            };
            if !goes_on {
                return ways;
            }
        }
        add(&mut ways.on, carried);
        ways
    }

    /// Where a condition need not hold, the next rule can be due.
    fn unless(
        &mut self,
        holds: Truth,
        before: Carried,
        ways: &mut Ways,
        (chain, rule, cause): (&'r Chain, &'r Rule, &'r str),
    ) {
        if holds != Truth::Yes {
            add(&mut ways.on, before);
        }
        if holds == Truth::Unknown {
            self.account.doubt_rule(chain, rule, cause);
        }
    }

    /// Whether the rule can go on behind one of the verdicts.
    fn verdicts(
        &mut self,
        chain: &'r Chain,
        rule: &'r Rule,
        verdicts: &[&'r Verdict],
        carried: Carried,
        ways: &mut Ways,
    ) -> bool {
        let mut goes_on = false;
        for verdict in verdicts {
            match verdict {
                Verdict::Accept => add(&mut ways.accepted, carried),
                Verdict::Drop => self.end(chain, rule, Action::Drop, carried, ways),
                Verdict::Continue => goes_on = true,
                Verdict::Return => add(&mut ways.back, carried),
                Verdict::Jump(name) => {
                    let inner = self.called(name, carried);
                    merge(&mut ways.on, inner.on);
                    merge(&mut ways.accepted, inner.accepted);
                }
                Verdict::Goto(name) => {
                    let inner = self.called(name, carried);
                    merge(&mut ways.back, inner.on);
                    merge(&mut ways.accepted, inner.accepted);
                }
            }
        }
        goes_on
    }

    fn called(&mut self, name: &str, carried: Carried) -> Ways {
        match self.chains.get(name) {
            Some(chain) => self.chain(chain, carried),
            None => {
                self.account.doubt(format!("chain {name} was not read"));
                Ways {
                    on: Some(carried.anything()),
                    accepted: Some(carried.anything()),
                    ..Ways::default()
                }
            }
        }
    }

    fn end(
        &mut self,
        chain: &'r Chain,
        rule: &'r Rule,
        action: Action,
        carried: Carried,
        ways: &mut Ways,
    ) {
        match action {
            Action::Accept => add(&mut ways.accepted, carried),
            Action::Translate { .. } if self.account.question != Question::Translations => {
                add(&mut ways.accepted, carried);
            }
            // What ends the rules of a nat chain without a word of a destination translates a
            // source, and the packet goes on.
            Action::Other { .. } if self.kind == ChainKind::Nat => {
                add(&mut ways.accepted, carried);
            }
            Action::Queue { .. } => {
                self.account.record(chain, Some(rule), action);
                let queued = true;
                add(&mut ways.accepted, Carried { queued, ..carried });
            }
            _ => self.account.record(chain, Some(rule), action),
        }
    }
}

fn merge(place: &mut Option<Carried>, way: Option<Carried>) {
    if let Some(way) = way {
        add(place, way);
    }
}
