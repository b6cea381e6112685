//! From entries to chains and rules.
//!
//! A base chain lies from its hook's first entry to the hook's underflow, which is its policy. A
//! user's chain follows an entry with the target `ERROR` that carries its name, and ends with a
//! `RETURN` that nobody wrote. One more `ERROR` ends the table.

use std::collections::{HashMap, HashSet};

use super::LegacyError;
use super::blob::{self, Entry};
use super::conditions::conditions;
use super::layout::{Layout, place};
use super::sockopt::Info;
use crate::case::{Action, Backend, Hook};
use crate::firewall::Expression;
use crate::firewall::expression::Verdict;
use crate::firewall::fields::Fields;
use crate::firewall::ruleset::{Base, Chain, Policy, Rule, Table};

/// `-NF_ACCEPT - 1` and its likes, as a standard target holds them.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const QUEUE: i32 = -4;
/// `XT_RETURN`.
const RETURN: i32 = -5;

/// Decodes the table `name`.
pub fn table(layout: &Layout, name: &str, info: &Info, blob: &[u8]) -> Result<Table, LegacyError> {
    let entries = blob::entries(layout, blob)?;
    if entries.last().and_then(Entry::chain_name).is_none() {
        let what = "a table without its end";
        return Err(LegacyError::Malformed { at: 0, what });
    }
    let bases = bases(layout, name, info)?;
    let names = chain_names(&entries, &bases);
    let chains = chains(layout, &entries, &bases, &names)?;
    Ok(Table {
        backend: Backend::IptablesLegacy,
        family: layout.family,
        name: name.to_owned(),
        dormant: false,
        chains,
        sets: HashMap::new(),
    })
}

/// A hook's chain, before its policy is known.
struct Hooked {
    name: &'static str,
    hook: Hook,
    first: usize,
    underflow: usize,
    base: Base,
}

fn bases(layout: &Layout, table: &str, info: &Info) -> Result<Vec<Hooked>, LegacyError> {
    let mut bases = Vec::new();
    for ((hook, name), place_of) in layout.hooks.iter().zip(&info.hooks) {
        let Some((first, underflow)) = place_of else {
            continue;
        };
        let (priority, kind) = place(table, *hook).ok_or(LegacyError::Unplaced)?;
        bases.push(Hooked {
            name,
            hook: *hook,
            first: *first as usize,
            underflow: *underflow as usize,
            base: Base {
                hook: *hook,
                priority,
                kind,
                devices: Vec::new(),
                policy: Policy::Accept,
                policy_packets: None,
            },
        });
    }
    Ok(bases)
}

/// Names of chains by the offset of their first entry.
fn chain_names(entries: &[Entry], bases: &[Hooked]) -> HashMap<usize, String> {
    // The last one ends the table.
    let user = entries.iter().rev().skip(1);
    user.filter_map(|entry| Some((entry.next, entry.chain_name()?)))
        .chain(bases.iter().map(|base| (base.first, base.name.to_owned())))
        .collect()
}

fn chains(
    layout: &Layout,
    entries: &[Entry],
    bases: &[Hooked],
    names: &HashMap<usize, String>,
) -> Result<Vec<Chain>, LegacyError> {
    let mut chains: Vec<Chain> = Vec::new();
    // The base chain that is being read, null within a user's chain.
    let mut open: Option<&Hooked> = None;
    let mut hooked = HashSet::new();
    for entry in entries {
        if let Some(base) = bases.iter().find(|base| base.first == entry.offset) {
            open = Some(base);
            hooked.insert(base.hook);
            chains.push(chain(base.name.to_owned(), None));
        } else if let Some(name) = entry.chain_name() {
            open = None;
            chains.push(chain(name, None));
            continue;
        }
        let Some(last) = chains.last_mut() else {
            let what = "a rule outside every chain";
            return Err(LegacyError::Malformed {
                at: entry.offset,
                what,
            });
        };
        match open {
            Some(base) if base.underflow == entry.offset => {
                last.base = Some(with_policy(base, entry)?);
            }
            _ => last
                .rules
                .push(rule(layout, entry, names, last.rules.len())),
        }
    }
    chains.pop();
    if hooked.len() != bases.len() || hooked.len() != based(&chains) {
        let what = "a hook without a chain or a policy of its own";
        return Err(LegacyError::Malformed { at: 0, what });
    }
    chains.iter_mut().for_each(drop_the_end);
    Ok(chains)
}

fn chain(name: String, base: Option<Base>) -> Chain {
    Chain {
        name,
        base,
        rules: Vec::new(),
    }
}

fn based(chains: &[Chain]) -> usize {
    chains.iter().filter(|chain| chain.base.is_some()).count()
}

fn with_policy(hooked: &Hooked, entry: &Entry) -> Result<Base, LegacyError> {
    let policy = match entry.verdict() {
        Some(ACCEPT) => Policy::Accept,
        Some(DROP) => Policy::Drop,
        _ => {
            let what = "a policy that is neither ACCEPT nor DROP";
            return Err(LegacyError::Malformed {
                at: entry.offset,
                what,
            });
        }
    };
    Ok(Base {
        policy,
        policy_packets: Some(entry.packets),
        ..hooked.base.clone()
    })
}

/// Takes away the `RETURN` that ends a user's chain.
fn drop_the_end(chain: &mut Chain) {
    let end = [Expression::Verdict(Verdict::Return)];
    if chain.base.is_none()
        && chain
            .rules
            .last()
            .is_some_and(|rule| rule.expressions == end)
    {
        chain.rules.pop();
    }
}

fn rule(layout: &Layout, entry: &Entry, names: &HashMap<usize, String>, before: usize) -> Rule {
    let mut expressions = conditions(layout, entry.fixed);
    expressions.extend(entry.matches.iter().cloned().map(Expression::Match));
    expressions.extend(target(entry, names));
    Rule {
        handle: None,
        position: u32::try_from(before + 1).unwrap_or(u32::MAX),
        comment: comment(entry),
        packets: Some(entry.packets),
        expressions,
    }
}

/// What the rule does; nothing where it only counts: it then leads to the next entry.
fn target(entry: &Entry, names: &HashMap<usize, String>) -> Option<Expression> {
    let Some(verdict) = entry.verdict() else {
        return Some(Expression::Target(entry.target.clone()));
    };
    let verdict = match verdict {
        ACCEPT => Verdict::Accept,
        DROP => Verdict::Drop,
        RETURN => Verdict::Return,
        QUEUE => {
            return Some(Expression::Terminal(Action::Queue {
                number: 0,
                bypass: false,
            }));
        }
        other => match usize::try_from(other) {
            Ok(offset) if offset == entry.next => return None,
            Ok(offset) => match (names.get(&offset), entry.goto) {
                (Some(name), false) => Verdict::Jump(name.clone()),
                (Some(name), true) => Verdict::Goto(name.clone()),
                (None, _) => return Some(unknown("a jump into a chain")),
            },
            Err(_) => return Some(unknown("a verdict without a name")),
        },
    };
    Some(Expression::Verdict(verdict))
}

fn unknown(name: &str) -> Expression {
    Expression::Unknown {
        name: name.to_owned(),
    }
}

fn comment(entry: &Entry) -> Option<String> {
    entry
        .matches
        .iter()
        .find(|extension| extension.name == "comment")
        .and_then(|extension| Fields(&extension.data).text(0, extension.data.len()))
}
