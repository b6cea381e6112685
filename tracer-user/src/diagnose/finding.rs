//! What one cause says about a case.

use crate::case::{Death, KernelTime, Listener, UnixSocket};
use crate::diagnose::coverage::Observation;
use crate::event::Rule;
use crate::verdict::{Code, Confidence, RuledOut};

/// A cause that fits, with everything that it has to say.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub code: Code,
    pub confidence: Confidence,
    pub summary: String,
    /// What the cause adds to the story that the timeline tells by itself.
    pub because: Vec<Because>,
    pub ruled_out: Vec<RuledOut>,
    pub missing: Vec<String>,
    pub fix: Vec<String>,
    /// Observations whose silence is part of the argument: where one of them could not be made,
    /// the finding is not certain.
    pub relies_on: Vec<Observation>,
    /// The argument holds only where no socket is bound there without listening, and none was
    /// that listened and ended unnoticed.
    pub relies_on_nobody_bound: bool,
    pub listener: Option<Listener>,
    pub ended: Option<(KernelTime, Death)>,
    pub candidates: Vec<Listener>,
    /// Which security policy denied the call.
    pub policy: Option<String>,
    pub rule: Option<Rule>,
    pub unix_listener: Option<UnixSocket>,
    pub unix_candidates: Vec<UnixSocket>,
}

/// A sentence of evidence with its place in time.
#[derive(Debug, Clone)]
pub(super) struct Because {
    /// Null for what was read from the host once the attempt had failed.
    pub at: Option<KernelTime>,
    pub text: String,
}

impl Finding {
    pub fn new(code: Code, confidence: Confidence, summary: impl Into<String>) -> Self {
        Self {
            code,
            confidence,
            summary: summary.into(),
            because: Vec::new(),
            ruled_out: Vec::new(),
            missing: Vec::new(),
            fix: Vec::new(),
            relies_on: Vec::new(),
            relies_on_nobody_bound: false,
            listener: None,
            ended: None,
            candidates: Vec::new(),
            policy: None,
            rule: None,
            unix_listener: None,
            unix_candidates: Vec::new(),
        }
    }

    /// Adds something that was read from the host after the failure.
    pub fn because(mut self, text: impl Into<String>) -> Self {
        self.because.push(Because {
            at: None,
            text: text.into(),
        });
        self
    }

    /// Adds something that happened at a known time.
    pub fn because_at(mut self, at: KernelTime, text: impl Into<String>) -> Self {
        self.because.push(Because {
            at: Some(at),
            text: text.into(),
        });
        self
    }

    pub fn rule_out(mut self, code: Code, why: impl Into<String>) -> Self {
        self.ruled_out.push(RuledOut {
            code,
            why: why.into(),
        });
        self
    }

    pub fn missing(mut self, what: impl Into<String>) -> Self {
        self.missing.push(what.into());
        self
    }

    pub fn fix(mut self, step: impl Into<String>) -> Self {
        self.fix.push(step.into());
        self
    }

    pub fn relies_on(mut self, observations: &[Observation]) -> Self {
        self.relies_on.extend_from_slice(observations);
        self
    }

    pub fn relies_on_nobody_bound(mut self) -> Self {
        self.relies_on_nobody_bound = true;
        self
    }

    pub fn policy(mut self, policy: &str) -> Self {
        self.policy = Some(policy.to_owned());
        self
    }

    pub fn listener(mut self, listener: Option<&Listener>) -> Self {
        self.listener = listener.cloned();
        self
    }

    pub fn candidates<'a>(mut self, candidates: impl IntoIterator<Item = &'a Listener>) -> Self {
        self.candidates = candidates.into_iter().cloned().collect();
        self
    }

    /// Lets a closure add what only some cases have.
    pub fn when(self, condition: bool, add: impl FnOnce(Self) -> Self) -> Self {
        if condition { add(self) } else { self }
    }

    /// Lets a closure add what depends on a value that only some cases have.
    pub fn with<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }
}
