//! What is noted of the way through one base chain.

use std::collections::HashSet;
use std::ptr;

use crate::case::Action;
use crate::firewall::expression::Expression;
use crate::firewall::ruleset::{Chain, Rule, Table};
use crate::firewall::trial::{End, Trial};

/// Doubts that are kept.
const DOUBTS: usize = 32;

/// What is asked of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Which rules end the packet's way.
    Ends,
    /// Which rules translate its destination; a translation ends the way through chains of the
    /// kind nat.
    Translations,
    /// Nothing but what becomes of its marks.
    Effects,
}

pub struct Account<'r, 'w> {
    pub table: &'r Table,
    pub base: &'r Chain,
    pub question: Question,
    trial: &'w mut Trial<'r>,
    recorded: HashSet<(*const Rule, Action)>,
}

impl<'r, 'w> Account<'r, 'w> {
    pub fn new(
        table: &'r Table,
        base: &'r Chain,
        question: Question,
        trial: &'w mut Trial<'r>,
    ) -> Self {
        Self {
            table,
            base,
            question,
            trial,
            recorded: HashSet::new(),
        }
    }

    /// A rule, or the policy, that can have ended the way; each is noted once.
    pub fn record(&mut self, chain: &'r Chain, rule: Option<&'r Rule>, action: Action) {
        let key = (rule.map_or(ptr::null(), ptr::from_ref), action.clone());
        if self.question == Question::Effects || !self.recorded.insert(key) {
            return;
        }
        self.trial.ends.push(End {
            table: self.table,
            base_chain: self.base,
            chain,
            rule,
            action,
            certain: false,
        });
    }

    pub fn doubt_rule(&mut self, chain: &Chain, rule: &Rule, cause: &str) {
        if self.is_full() || !rule.expressions.iter().any(matters) {
            return;
        }
        let which = match rule.handle {
            Some(handle) => format!("handle {handle}"),
            None => format!("{}", rule.position),
        };
        let place = format!("{} {}", self.table.name, chain.name);
        self.doubt(format!(
            "rule {which} of chain {place} depends on {cause}, which is not known"
        ));
    }

    pub fn doubt(&mut self, doubt: String) {
        if self.question != Question::Effects && !self.is_full() {
            self.trial.doubts.insert(doubt);
        }
    }

    fn is_full(&self) -> bool {
        self.trial.doubts.len() >= DOUBTS
    }
}

/// Whether it makes a difference that the expression is reached.
fn matters(expression: &Expression) -> bool {
    matches!(
        expression,
        Expression::Verdict(_)
            | Expression::Terminal(_)
            | Expression::Nat { .. }
            | Expression::Lookup { verdict: true, .. }
            | Expression::Target(_)
            | Expression::SetMark { .. }
            | Expression::SetConntrack { .. }
    )
}
