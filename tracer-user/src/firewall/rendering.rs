//! A rule in words of nft, where its owner's tool cannot be asked.
//!
//! As far as it goes: what is not rendered stands by its name in brackets.

use std::collections::HashMap;

use crate::case::FilterFamily as Family;
use crate::firewall::expression::{Expression, Operator, PayloadBase, REGISTERS, Register};
use crate::firewall::ruleset::Rule;

mod endings;
mod values;

use values::Form;

/// What was loaded into a register, in words, and how values of it are written.
#[derive(Debug, Clone)]
struct Loaded {
    words: String,
    form: Form,
}

/// The text of `rule`, of a table of `family`, such as `tcp dport 9101 drop`.
pub fn rule(family: Family, rule: &Rule) -> String {
    let mut rendering = Rendering {
        family,
        transport: None,
        loaded: HashMap::new(),
        words: Vec::new(),
    };
    for expression in &rule.expressions {
        rendering.add(expression);
    }
    if let Some(comment) = &rule.comment {
        rendering.words.push(format!("comment \"{comment}\""));
    }
    rendering.words.join(" ")
}

struct Rendering {
    family: Family,
    /// `tcp` or `udp`, once the rule has asked for it.
    transport: Option<&'static str>,
    loaded: HashMap<u8, Loaded>,
    words: Vec<String>,
}

impl Rendering {
    fn add(&mut self, expression: &Expression) {
        match expression {
            Expression::Payload {
                base,
                offset,
                length,
                to,
            } => self.load(*to, self.payload(*base, *offset, *length)),
            Expression::Meta { key, to } => self.load(*to, values::meta(*key)),
            Expression::Conntrack { key, to, .. } => self.load(*to, values::conntrack(*key)),
            Expression::Fib { to, .. } => self.load(*to, named("fib")),
            Expression::Unknowable { name, to, .. } => self.load(*to, named(name)),
            Expression::Immediate { data, to } => {
                let words = Form::Bytes.write(data);
                let form = Form::Bytes;
                self.load(*to, Loaded { words, form });
            }
            Expression::Compare {
                operator,
                from,
                data,
            } => self.compare(*operator, *from, data),
            Expression::Range {
                negated,
                from,
                low,
                high,
            } => self.range(*negated, *from, low, high),
            Expression::Mask { from, to, mask, .. } => {
                let Loaded { words, form } = self.held(*from);
                self.load(*to, form.masked(&words, mask));
            }
            Expression::Shift { from, to, .. } | Expression::SwapBytes { from, to, .. } => {
                let held = self.held(*from);
                self.load(*to, held);
            }
            Expression::Lookup {
                set,
                from,
                to,
                verdict,
                negated,
            } => self.look_up(set, *from, *to, *verdict, *negated),
            other => self.words.push(self.ending(other)),
        }
    }

    fn load(&mut self, to: Register, loaded: Loaded) {
        if usize::from(to.0) < REGISTERS {
            self.loaded.insert(to.0, loaded);
        }
    }

    fn held(&self, from: Register) -> Loaded {
        let held = self.loaded.get(&from.0).cloned();
        held.unwrap_or_else(|| named("register"))
    }

    fn payload(&self, base: PayloadBase, offset: u32, length: u32) -> Loaded {
        let transport = self.transport.unwrap_or("th");
        let (words, form) = match (base, offset, length) {
            (PayloadBase::Network, 12, 4) => ("ip saddr".to_owned(), Form::Address),
            (PayloadBase::Network, 16, 4) => ("ip daddr".to_owned(), Form::Address),
            (PayloadBase::Network, 8, 16) => ("ip6 saddr".to_owned(), Form::Address),
            (PayloadBase::Network, 24, 16) => ("ip6 daddr".to_owned(), Form::Address),
            (PayloadBase::Network, 9, 1) => ("ip protocol".to_owned(), Form::Protocol),
            (PayloadBase::Network, 6, 1) if self.family == Family::Ip6 => {
                ("ip6 nexthdr".to_owned(), Form::Protocol)
            }
            (PayloadBase::Transport, 0, 2) => (format!("{transport} sport"), Form::Number),
            (PayloadBase::Transport, 2, 2) => (format!("{transport} dport"), Form::Number),
            (PayloadBase::Transport, 13, 1) => (format!("{transport} flags"), Form::Bytes),
            (base, offset, length) => {
                let base = match base {
                    PayloadBase::LinkLayer => "ll",
                    PayloadBase::Network => "nh",
                    PayloadBase::Transport => "th",
                    PayloadBase::Inner => "ih",
                };
                let (offset, length) = (u64::from(offset) * 8, u64::from(length) * 8);
                (format!("@{base},{offset},{length}"), Form::Bytes)
            }
        };
        Loaded { words, form }
    }

    fn compare(&mut self, operator: Operator, from: Register, data: &[u8]) {
        let Loaded { words, form } = self.held(from);
        let value = form.write(data);
        let equal = operator == Operator::Equal;
        if form == Form::Bits && operator == Operator::NotEqual {
            return self.words.push(words);
        }
        if equal && form == Form::Protocol && !matches!(self.family, Family::Bridge) {
            self.transport = match data.first() {
                Some(6) => Some("tcp"),
                Some(17) => Some("udp"),
                _ => None,
            };
        }
        let operator = match operator {
            Operator::Equal => "",
            Operator::NotEqual => "!= ",
            Operator::Less => "< ",
            Operator::LessOrEqual => "<= ",
            Operator::Greater => "> ",
            Operator::GreaterOrEqual => ">= ",
        };
        // `tcp dport` says by itself what nft asks in front of it.
        let implied = self.transport.is_some()
            && words.starts_with(['t', 'u'])
            && self.words.last().is_some_and(|last| {
                last.strip_prefix("meta l4proto ")
                    .is_some_and(|protocol| words.starts_with(protocol))
            });
        if implied {
            self.words.pop();
        }
        self.words.push(format!("{words} {operator}{value}"));
    }

    fn range(&mut self, negated: bool, from: Register, low: &[u8], high: &[u8]) {
        let Loaded { words, form } = self.held(from);
        let not = if negated { "!= " } else { "" };
        let (low, high) = (form.write(low), form.write(high));
        self.words.push(format!("{words} {not}{low}-{high}"));
    }

    fn look_up(
        &mut self,
        set: &str,
        from: Register,
        to: Option<Register>,
        verdict: bool,
        negated: bool,
    ) {
        let words = self.held(from).words;
        match to {
            Some(to) => {
                let words = format!("{words} map @{set}");
                let form = Form::Bytes;
                self.load(to, Loaded { words, form });
            }
            None if verdict => self.words.push(format!("{words} vmap @{set}")),
            None if negated => self.words.push(format!("{words} != @{set}")),
            None => self.words.push(format!("{words} @{set}")),
        }
    }

    /// What puts nothing into a register.
    fn ending(&self, expression: &Expression) -> String {
        match expression {
            Expression::UpdateSet { set, .. } => format!("update @{set}"),
            Expression::SetMark { from } => format!("meta mark set {}", self.held(*from).words),
            Expression::SetConntrack { key, from } => {
                let key = values::conntrack(*key).words;
                format!("{key} set {}", self.held(*from).words)
            }
            Expression::Statement { name } => name.clone(),
            Expression::Verdict(verdict) => endings::verdict(verdict),
            Expression::Terminal(action) => endings::action(action),
            Expression::Nat {
                destination,
                redirect,
                address,
                port,
            } => {
                let words = match (destination, redirect) {
                    (_, true) => "redirect",
                    (true, false) => "dnat",
                    (false, false) => "snat",
                };
                self.translation(words, [*address, *port])
            }
            Expression::Header(header) => endings::header(header),
            Expression::Match(extension) => format!("-m {}", extension.name),
            Expression::Target(extension) => format!("-j {}", extension.name),
            Expression::Sometimes { name } | Expression::Unknown { name } => format!("[{name}]"),
            _ => "[?]".to_owned(),
        }
    }

    fn translation(&self, words: &str, to: [Option<Register>; 2]) -> String {
        to.into_iter()
            .flatten()
            .fold(words.to_owned(), |words, register| {
                format!("{words} to {}", self.held(register).words)
            })
    }
}

fn named(name: &str) -> Loaded {
    Loaded {
        words: format!("[{name}]"),
        form: Form::Bytes,
    }
}

#[cfg(test)]
mod tests;
