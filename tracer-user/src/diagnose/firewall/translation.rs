//! The rule that sent the SYN elsewhere.

use std::net::SocketAddr;

use crate::case::{Action, Case, Fitting, Purpose};
use crate::diagnose::firewall::rule;
use crate::diagnose::{addresses, wording};

/// Which rule translated the destination, in words; null where none is known to have.
pub(in crate::diagnose) fn translator(case: &Case) -> Option<String> {
    let target = addresses::translated_to(case)?;
    if addresses::rewritten_at_connect(case) {
        return None;
    }
    let readings = || {
        case.host
            .filterings
            .iter()
            .filter(|filtering| filtering.purpose == Purpose::Translated)
    };
    let fitting: Vec<(&Fitting, u64)> = readings()
        .flat_map(|filtering| {
            let netns = filtering.netns;
            filtering
                .fitting
                .iter()
                .map(move |fitting| (fitting, netns))
        })
        .filter(|(fitting, _)| leads_to(&fitting.action, target))
        .collect();
    let exact = |fitting: &Fitting| matches!(fitting.action, Action::Translate { to: Some(_) });
    let best = fitting
        .iter()
        .filter(|(fitting, _)| !fitting.never_met)
        .max_by_key(|(fitting, _)| (fitting.counted > Some(0), exact(fitting), fitting.certain))
        .or(fitting.first())?;
    let (fitting_rule, netns) = *best;
    let place = if netns == case.worker.netns {
        String::new()
    } else {
        format!(" in {}", wording::namespace(case, netns))
    };
    let doubt = if fitting.len() > 1 {
        ", most likely"
    } else {
        ""
    };
    Some(format!(
        "{}{place} sent it to {target}{doubt}: it reads `{}`",
        rule::words(fitting_rule),
        fitting_rule.text
    ))
}

/// `redirect` and maps leave the address or the port to what they meet.
fn leads_to(action: &Action, target: SocketAddr) -> bool {
    let Action::Translate { to } = action else {
        return false;
    };
    to.is_none_or(|to| {
        let address = to.ip().is_unspecified() || to.ip() == target.ip();
        address && (to.port() == 0 || to.port() == target.port())
    })
}
