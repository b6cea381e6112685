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
        fresh: Vec::new(),
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
    /// Registers that were loaded since the last condition: those of a concatenation.
    fresh: Vec<u8>,
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
                let form = match data.len() {
                    2 => Form::Number,
                    4 | 16 => Form::Address,
                    _ => Form::Bytes,
                };
                let words = form.write(data);
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
            self.fresh.retain(|register| *register != to.0);
            self.fresh.push(to.0);
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
            (PayloadBase::Network, offset, length) if self.family == Family::Arp => {
                values::arp(offset, length)
            }
            (PayloadBase::Network, 12, 4) => ("ip saddr".to_owned(), Form::Address),
            (PayloadBase::Network, 16, 4) => ("ip daddr".to_owned(), Form::Address),
            (PayloadBase::Network, 8, 16) => ("ip6 saddr".to_owned(), Form::Address),
            (PayloadBase::Network, 24, 16) => ("ip6 daddr".to_owned(), Form::Address),
            (PayloadBase::Network, 12, 1..4) => ("ip saddr".to_owned(), Form::Leading(4)),
            (PayloadBase::Network, 16, 1..4) => ("ip daddr".to_owned(), Form::Leading(4)),
            (PayloadBase::Network, 8, 5..16) => ("ip6 saddr".to_owned(), Form::Leading(16)),
            (PayloadBase::Network, 24, 1..16) => ("ip6 daddr".to_owned(), Form::Leading(16)),
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
        self.condition(format!("{words} {operator}{value}"));
    }

    /// Appends a condition. `tcp dport` and `ip saddr` say by themselves what nft asks in front
    /// of them.
    fn condition(&mut self, words: String) {
        let implied = |last: &String| match last.as_str() {
            "meta l4proto tcp" => words.contains("tcp "),
            "meta l4proto udp" => words.contains("udp "),
            "meta nfproto ipv4" => words.starts_with("ip "),
            "meta nfproto ipv6" => words.starts_with("ip6 "),
            _ => false,
        };
        while self.words.last().is_some_and(implied) {
            self.words.pop();
        }
        self.words.push(words);
        self.fresh.clear();
    }

    fn range(&mut self, negated: bool, from: Register, low: &[u8], high: &[u8]) {
        let Loaded { words, form } = self.held(from);
        let not = if negated { "!= " } else { "" };
        let (low, high) = (form.write(low), form.write(high));
        self.condition(format!("{words} {not}{low}-{high}"));
    }

    fn look_up(
        &mut self,
        set: &str,
        from: Register,
        to: Option<Register>,
        verdict: bool,
        negated: bool,
    ) {
        let words = if self.fresh.first() == Some(&from.0) {
            let fields = self.fresh.iter().map(|field| self.held(Register(*field)));
            let fields: Vec<String> = fields.map(|field| field.words).collect();
            fields.join(" . ")
        } else {
            self.held(from).words
        };
        match to {
            Some(to) => {
                let words = format!("{words} map @{set}");
                let form = Form::Bytes;
                self.fresh.clear();
                self.load(to, Loaded { words, form });
            }
            None if verdict => self.condition(format!("{words} vmap @{set}")),
            None if negated => self.condition(format!("{words} != @{set}")),
            None => self.condition(format!("{words} @{set}")),
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
            .map(|register| self.held(register).words)
            .reduce(|address, port| format!("{address}:{port}"))
            .map_or(words.to_owned(), |to| format!("{words} to {to}"))
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
