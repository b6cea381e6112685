//! The rule that the kernel was seen to evaluate, among those that the evaluation of the ruleset
//! leads to.

use super::Question;
use crate::{
    case::{KnownBy, Purpose, RuleMet},
    firewall::{Ruleset, met, trial::End},
    host::packet_filter::legacy::Image,
};

/// What is left of the rules and policies that can have stopped a packet.
#[derive(Debug)]
pub struct Narrowed<'r> {
    pub ends: Vec<End<'r>>,
    pub known_by: KnownBy,
    /// See `Filtering::disagreement`.
    pub disagreement: Option<String>,
}

/// Narrows `ends` by what the kernel was seen to evaluate for the packet; `images` reads the
/// tables of legacy iptables as bytes.
pub fn narrowed<'r>(
    ruleset: &'r Ruleset,
    question: &Question,
    images: impl FnOnce() -> Vec<Image>,
    ends: Vec<End<'r>>,
) -> Narrowed<'r> {
    match question.rule {
        _ if question.purpose != Purpose::Stopped => evaluated(ends),
        Some(rule) => by_rule(candidates(ruleset, question, rule, images), ends),
        None if question.met_none => by_silence(ends),
        None => evaluated(ends),
    }
}

fn evaluated(ends: Vec<End<'_>>) -> Narrowed<'_> {
    Narrowed {
        ends,
        known_by: KnownBy::Evaluation,
        disagreement: None,
    }
}

/// Where the ruleset has more than one rule that it can be, the evaluation decides between them;
/// where it has none, nothing was learned.
fn by_rule<'r>(candidates: Vec<End<'r>>, ends: Vec<End<'r>>) -> Narrowed<'r> {
    let (expected, unexpected): (Vec<End>, Vec<End>) = candidates
        .into_iter()
        .partition(|end| ends.iter().any(|known| is_same(known, end)));
    let known: Vec<End> = ends
        .iter()
        .filter(|end| expected.iter().any(|known| is_same(known, end)))
        .cloned()
        .collect();
    match (one_rule(&known), one_rule(&unexpected)) {
        (Some(only), _) => by_kernel(only, None),
        (None, Some(only)) if known.is_empty() => {
            let disagreement = disagreement(&only, ends.len());
            by_kernel(only, Some(disagreement))
        }
        (None, _) if known.is_empty() => evaluated(ends),
        (None, _) => evaluated(known),
    }
}

/// The rules of nftables that it can be or, where there are none, those of legacy iptables.
fn candidates<'r>(
    ruleset: &'r Ruleset,
    question: &Question,
    rule: &RuleMet,
    images: impl FnOnce() -> Vec<Image>,
) -> Vec<End<'r>> {
    let Some(packet) = question.packets.iter().flatten().next() else {
        return Vec::new();
    };
    let found = met::candidates(ruleset, rule, packet, question.hook, question.bridged);
    match &rule.around {
        Some(memory) if found.is_empty() => {
            let places = images().into_iter().flat_map(|image| {
                let places = image.places(memory).into_iter().cloned();
                let places: Vec<_> = places.collect();
                places.into_iter().map(move |place| met::Place {
                    family: image.family,
                    table: image.table.clone(),
                    chain: place.chain,
                    position: place.position,
                })
            });
            let places: Vec<met::Place> = places.collect();
            met::at_places(ruleset, &places, packet, question.hook)
        }
        _ => found,
    }
}

fn by_kernel(end: End<'_>, disagreement: Option<String>) -> Narrowed<'_> {
    let certain = true;
    Narrowed {
        ends: vec![End { certain, ..end }],
        known_by: KnownBy::Kernel,
        disagreement,
    }
}

/// The same rule may be reached from several base chains.
fn one_rule<'r>(ends: &[End<'r>]) -> Option<End<'r>> {
    let (first, others) = ends.split_first()?;
    let mut others = others.iter();
    others.all(|end| is_same(end, first)).then(|| first.clone())
}

fn disagreement(end: &End<'_>, others: usize) -> String {
    let handle = end.rule.and_then(|rule| rule.handle);
    let position = end.rule.map(|rule| u64::from(rule.position));
    let number = handle.or(position).unwrap_or_default();
    format!(
        "the kernel evaluated the rule {number} of chain {} {}, to which the evaluation of the ruleset does not lead; it leads to {others} others",
        end.table.name, end.chain.name
    )
}

/// None of nftables' rules that drop was evaluated to its end: something else stopped the packet.
/// Where nothing else is known that can have, the silence says nothing.
fn by_silence(ends: Vec<End<'_>>) -> Narrowed<'_> {
    let is_silent = |end: &End| end.rule.is_some_and(met::drops_visibly);
    let left: Vec<End> = ends.iter().filter(|end| !is_silent(end)).cloned().collect();
    if left.is_empty() || left.len() == ends.len() {
        return evaluated(ends);
    }
    Narrowed {
        ends: left,
        known_by: KnownBy::Silence,
        disagreement: None,
    }
}

fn is_same(one: &End<'_>, other: &End<'_>) -> bool {
    let rule = |end: &End<'_>| end.rule.map(std::ptr::from_ref);
    std::ptr::eq(one.chain, other.chain) && rule(one) == rule(other)
}

#[cfg(test)]
mod tests;
