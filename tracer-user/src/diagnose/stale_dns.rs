//! `stale-dns`: nginx dials an address that its configured name no longer has.
//!
//! It is told in place of what dialling that address met, where that can be the old address's own
//! doing. What this host did to the SYN on purpose, a rule or a limit, stays the verdict.

mod claim;

use std::net::{IpAddr, SocketAddr};

use crate::case::{
    Case, ConfiguredName, Ending, Listener, NameSource, Names, Resolution, Resolved,
};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, wording};
use crate::verdict::{Code, Diagnosis};

use claim::{Claim, Verdict};

/// So many listeners are named at most.
const MOST_CANDIDATES: usize = 5;
/// So many names are told of at most.
const MOST_NAMES: usize = 4;

/// Whether an address that is no longer the name's would explain the failure: then it is worth
/// asking what the names have now.
pub fn may_explain(case: &Case, diagnosis: &Diagnosis) -> bool {
    fits(case, diagnosis.verdict.code)
}

/// The same finding where no name is known to have moved; else what that makes of it.
pub(super) fn instead_of(found: Finding, case: &Case) -> Finding {
    let (Some(names), Some(dialled)) = (&case.host.names, addresses::dialled(case)) else {
        return found;
    };
    if !fits(case, found.code) {
        return found;
    }
    match claim::about(names, dialled) {
        Verdict::Stale(claim) if carries(case, found.code, &claim, dialled) => {
            told(found, case, &claim, dialled)
        }
        Verdict::Open(reasons) => reasons
            .into_iter()
            .take(MOST_NAMES)
            .fold(found, Finding::missing),
        Verdict::Stale(_) | Verdict::Fresh => found,
    }
}

fn fits(case: &Case, code: Code) -> bool {
    let dialling = matches!(
        case.attempt.ending,
        Ending::ConnectFailed { .. } | Ending::SocketError { .. } | Ending::GaveUp
    );
    // nginx dials others than upstreams as well, and does not call them so.
    let other = |line: &crate::case::LogLine| line.upstream.is_none() && !line.cut;
    let upstream = !case.log.as_ref().is_some_and(other);
    dialling && upstream && (is_of_the_address(code) || is_of_an_end(code))
}

/// What an address that is nobody's, or somebody else's by now, looks like.
fn is_of_the_address(code: Code) -> bool {
    matches!(
        code,
        Code::NoListener
            | Code::WrongPort
            | Code::WrongAddress
            | Code::OtherNetns
            | Code::BoundNotListening
            | Code::RemoteRefused
            | Code::NoAnswer
            | Code::NeighbourUnreachable
            | Code::IcmpUnreachable
            | Code::RouteRefused
            | Code::Undetermined
    )
}

fn is_of_an_end(code: Code) -> bool {
    matches!(
        code,
        Code::ListenerExited
            | Code::ListenerKilled
            | Code::ListenerOomKilled
            | Code::ListenerClosed
    )
}

/// That a listener ended at the old address is the better answer, unless its service is seen to
/// go on where the name is now.
fn carries(case: &Case, code: Code, claim: &Claim<'_>, dialled: SocketAddr) -> bool {
    is_of_the_address(code) || !meant(case, claim, dialled).is_empty()
}

fn told(found: Finding, case: &Case, claim: &Claim<'_>, dialled: SocketAddr) -> Finding {
    let (listener, ended) = if is_of_an_end(found.code) {
        (found.listener.clone(), found.ended.clone())
    } else {
        (None, None)
    };
    let mut finding = Finding::new(Code::StaleDns, claim.confidence, summary(claim, dialled));
    finding.because = found.because;
    finding.ruled_out = found.ruled_out;
    // That nothing of this host stopped the SYN is part of the argument.
    finding.relies_on = found.relies_on;
    finding.listener = listener;
    finding.ended = ended;
    let finding = finding.because(format!(
        "what the old address met is, by itself, {}: {}",
        found.code, found.summary
    ));
    let finding = claim
        .names
        .iter()
        .take(MOST_NAMES)
        .fold(finding, |finding, (name, resolved)| {
            evidence(finding, name, resolved, dialled)
        });
    let finding =
        configuration(finding, case.host.names.as_ref()).candidates(meant(case, claim, dialled));
    remedy(doubts(finding, claim), case, claim, dialled.port())
}

fn summary(claim: &Claim<'_>, dialled: SocketAddr) -> String {
    match claim.names[..] {
        [(name, resolved)] => format!(
            "nginx dials {dialled}, an address that its configured name {} no longer has: the name has {} now, and nginx resolved it when it read its configuration",
            name.host,
            list(&resolved.addresses)
        ),
        ref several => format!(
            "nginx dials {dialled}, an address that none of the names has that may have led there: {}; nginx resolved them when it read its configuration",
            several
                .iter()
                .take(MOST_NAMES)
                .map(|(name, resolved)| format!("{} has {}", name.host, list(&resolved.addresses)))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

fn evidence(
    finding: Finding,
    name: &ConfiguredName,
    resolved: &Resolved,
    dialled: SocketAddr,
) -> Finding {
    let (host, now) = (&name.host, list(&resolved.addresses));
    let finding = finding.because(format!(
        "the configuration names {host}:{} at {}, and {} nowhere",
        dialled.port(),
        name.places.join(", "),
        dialled
    ));
    let finding = match resolved.source {
        NameSource::Hosts { changed } => finding
            .because(format!(
                "/etc/hosts, as this nginx sees it, gives {host} {now}"
            ))
            .when(changed == Some(true), |finding| {
                finding.because("/etc/hosts changed after this worker had started")
            }),
        NameSource::Dns { server, .. } => finding.because(format!(
            "the DNS server {server}, asked from nginx's network namespace, gives {host} {now}"
        )),
    };
    finding.when(name.had_it, |finding| {
        finding.because(format!(
            "/etc/hosts gave {host} {} when this trace read the configuration",
            dialled.ip()
        ))
    })
}

fn configuration(finding: Finding, names: Option<&Names>) -> Finding {
    let changed = names.and_then(|names| names.configuration_changed);
    match changed {
        Some(false) => finding.because("no file of the configuration changed since this worker started"),
        Some(true) => finding.missing(
            "the configuration that nginx works by: its files changed after this worker had started",
        ),
        None => finding,
    }
}

fn doubts(finding: Finding, claim: &Claim<'_>) -> Finding {
    let dns = |(_, resolved): &&(_, &Resolved)| matches!(resolved.source, NameSource::Dns { .. });
    let by_dns = claim.names.iter().any(|name| dns(&name));
    let passed_over: Vec<&str> = claim
        .names
        .iter()
        .flat_map(|(_, resolved)| &resolved.passed_over)
        .map(String::as_str)
        .collect();
    finding
        .when(by_dns, |finding| {
            finding.missing("what the name had when nginx started, and whether its DNS server gives others different addresses")
        })
        .when(claim.names.len() > 1, |finding| {
            finding.missing("which of these names led to the address")
        })
        .when(claim.others, |finding| {
            finding.missing("whether another directive, whose address is known at work alone, led there")
        })
        .with(passed_over.first(), |finding, source| {
            finding.missing(format!(
                "what the source `{source}` says, which nsswitch.conf asks first"
            ))
        })
}

fn remedy(finding: Finding, case: &Case, claim: &Claim<'_>, port: u16) -> Finding {
    let master = case.worker.master_pid.unwrap_or(case.worker.pid);
    let finding = finding.fix(format!(
        "kill -HUP {master}  # reloads this nginx, which resolves every name again"
    ));
    let Some((name, resolved)) = claim.names.first() else {
        return finding;
    };
    let host = wording::shell_word(&name.host);
    match resolved.source {
        NameSource::Hosts { .. } => finding.fix(
            "reload nginx after every change of /etc/hosts: its own `resolver` does not read that file",
        ),
        NameSource::Dns { .. } => finding
            .fix(format!(
                "to follow the name: `resolver ADDRESS;`, and in the upstream block `zone NAME 64k;` and `server {}:{port} resolve;` (open source nginx since 1.27.3)",
                name.host
            ))
            .fix(format!(
                "with an older nginx: `resolver ADDRESS; set $backend {}:{port}; proxy_pass http://$backend;`",
                name.host
            )),
    }
    .fix(format!("getent ahosts {host}"))
}

/// Listeners of this host where the names are now.
fn meant<'a>(case: &'a Case, claim: &Claim<'_>, dialled: SocketAddr) -> Vec<&'a Listener> {
    let now: Vec<SocketAddr> = claim
        .names
        .iter()
        .flat_map(|(_, resolved)| &resolved.addresses)
        .map(|ip| SocketAddr::new(*ip, dialled.port()))
        .collect();
    let listeners = case.host.listeners.iter();
    listeners
        // A wildcard listener takes the old address as well: it says nothing of the new one.
        .filter(|listener| !listener.address.ip().is_unspecified())
        .filter(|listener| now.iter().any(|at| addresses::covers(listener, *at)))
        .take(MOST_CANDIDATES)
        .collect()
}

fn list(addresses: &[IpAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    words.join(", ")
}

fn resolved(name: &ConfiguredName) -> Option<&Resolved> {
    match &name.now {
        Resolution::Resolved(resolved) => Some(resolved),
        Resolution::Unresolved(_) => None,
    }
}

#[cfg(test)]
mod tests;
