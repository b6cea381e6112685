//! What packets came to in the rules, as a case tells it.

use super::reading;
use crate::{
    case::{Action, Fitting, Icmp, Purpose},
    firewall::{Trial, trial::End},
};

/// What any of them came to.
pub fn united<'r>(trials: impl Iterator<Item = Trial<'r>>) -> Trial<'r> {
    trials
        .reduce(|mut all, trial| {
            for end in trial.ends {
                if !all.ends.iter().any(|known| is_same(known, &end)) {
                    all.ends.push(end);
                }
            }
            all.may_pass |= trial.may_pass;
            all.doubts.extend(trial.doubts);
            all
        })
        .unwrap_or_default()
}

fn is_same(one: &End<'_>, other: &End<'_>) -> bool {
    let rule = |end: &End<'_>| end.rule.map(std::ptr::from_ref);
    std::ptr::eq(one.chain, other.chain) && rule(one) == rule(other)
}

/// What is said of an end by its ruleset alone.
pub fn fitting(end: &End<'_>) -> Fitting {
    Fitting {
        backend: end.table.backend,
        family: end.table.family,
        table: end.table.name.clone(),
        chain: end.chain.name.clone(),
        base_chain: end.base_chain.name.clone(),
        handle: end.rule.and_then(|rule| rule.handle),
        position: end.rule.map(|rule| rule.position),
        action: end.action.clone(),
        text: String::new(),
        comment: end.rule.and_then(|rule| rule.comment.clone()),
        certain: end.certain,
        counted: None,
        never_met: false,
        leads_to: reading::leads_to(end),
    }
}

/// What the action was for a packet of that version: `reject with icmpx` is read as the ICMP
/// error for IPv4 (`nft_reject_icmp_code`, `nft_reject_icmpv6_code`).
pub fn as_sent(action: &Action, v6: bool) -> Action {
    match action {
        Action::RejectWithIcmp { icmp } if v6 && !icmp.v6 => Action::RejectWithIcmp {
            icmp: Icmp {
                kind: 1,
                code: match icmp.code {
                    1 => 3,
                    3 => 4,
                    13 => 1,
                    _ => 0,
                },
                v6,
            },
        },
        other => other.clone(),
    }
}

/// Whether the end is of the kind that is asked for.
pub fn ends_for(end: &End<'_>, purpose: Purpose) -> bool {
    match (&end.action, purpose) {
        (Action::Accept, _) => false,
        (Action::Translate { .. }, purpose) => purpose == Purpose::Translated,
        (_, purpose) => purpose == Purpose::Stopped,
    }
}
