//! Whether the rule that is named is the one.

use anyhow::{Context, Result, ensure};

use super::Scene;
use crate::contract::{Failure, Rule};
use crate::host;
use crate::namespace::Namespace;
use crate::ruleset::{Apart, Culprit, Ruleset, Which, without_counters};

/// A packet filter as it was before the tool began.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) namespace: Namespace,
    pub(super) before: Ruleset,
}

impl Watched {
    pub(super) fn new(namespace: &Namespace) -> Result<Self> {
        Ok(Self {
            namespace: namespace.clone(),
            before: Ruleset::read(namespace)?,
        })
    }

    /// Nobody has changed it since.
    pub(super) fn check(&self) -> Result<()> {
        let now = Ruleset::read(&self.namespace)?;
        ensure!(
            now == self.before,
            "the packet filter was changed: {:#?} became {now:#?}",
            self.before
        );
        Ok(())
    }
}

impl Scene {
    pub(super) fn check_rule(&self, culprit: Option<&Culprit>, failure: &Failure) -> Result<()> {
        let by_firewall = failure.verdict.code.starts_with("firewall-");
        let Some(culprit) = culprit else {
            ensure!(by_firewall || failure.rule.is_none(), "a rule is blamed");
            return Ok(());
        };
        let rule = failure.rule.as_ref().context("no rule is named")?;
        let others = rule.alternatives.len();
        // Which of several that fit stands first is the tool's choice.
        if rule
            .alternatives
            .iter()
            .all(|other| self.compare(culprit, other).is_err())
        {
            self.compare(culprit, rule)?;
        }
        let expected = self.left_open(culprit);
        ensure!(
            others == expected,
            "expected {expected} alternatives, got {others}"
        );
        let certain = failure.verdict.confidence == "certain";
        ensure!(
            certain == (others == 0 && !culprit.unsure),
            "{} with {others} alternatives",
            failure.verdict.confidence
        );
        ensure!(!failure.verdict.fix.is_empty(), "no fix is offered");
        Ok(())
    }

    /// How many other rules are left: none where the kernel itself is seen to evaluate the one.
    fn left_open(&self, culprit: &Culprit) -> usize {
        let told_by_kernel = match culprit.apart {
            Apart::ByPlace => true,
            Apart::ByOwner => host::rules_lead_to_their_chain(),
        };
        match self.tracer.sees_rules() && told_by_kernel {
            true => 0,
            false => culprit.alternatives,
        }
    }

    fn compare(&self, culprit: &Culprit, rule: &Rule) -> Result<()> {
        let netns = culprit.netns.unwrap_or(self.namespace.inode());
        let watched = self
            .watched
            .iter()
            .find(|watched| watched.namespace.inode() == netns)
            .context("the test does not watch that packet filter")?;
        let (which, text) = watched.before.find(culprit)?;
        let named = match rule {
            Rule { policy: true, .. } => Which::Policy,
            Rule {
                handle: Some(handle),
                ..
            } => Which::Handle(*handle),
            Rule {
                position: Some(position),
                ..
            } => Which::Position(*position),
            _ => anyhow::bail!("the rule has neither handle nor position, and is no policy"),
        };
        ensure!(
            named == which,
            "expected {which:?}: {text:?}, got {named:?}: {:?}",
            rule.text
        );
        for (what, expected, said) in [
            ("backend", culprit.backend, &rule.backend),
            ("family", &culprit.family, &rule.family),
            ("table", &culprit.table, &rule.table),
            ("chain", &culprit.chain, &rule.chain),
            ("hook", culprit.hook, &rule.hook),
        ] {
            ensure!(expected == said, "expected {what} {expected}, got {said}");
        }
        ensure!(
            rule.netns == netns,
            "the rule is of namespace {}",
            rule.netns
        );
        ensure!(!rule.action.is_empty(), "no action");
        if let Some(text) = text {
            let said = without_counters(&rule.text);
            ensure!(
                if culprit.reworded {
                    !said.is_empty()
                } else {
                    said == text
                },
                "expected the text {text:?}, got {said:?}"
            );
        }
        Ok(())
    }
}
