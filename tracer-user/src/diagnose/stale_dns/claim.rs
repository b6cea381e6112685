//! Whether the dialled address is one that a name had, and how sure that is.

use std::net::{IpAddr, SocketAddr};

use crate::case::{ConfiguredName, NameSource, Names, Resolution, Resolved};
use crate::diagnose::stale_dns::resolved;
use crate::verdict::Confidence;

/// Ports that everybody serves: an address with one of them can come from anywhere.
const COMMON: [u16; 2] = [80, 443];

/// What the names say of an address.
pub(super) enum Verdict<'a> {
    /// None of them has it any more.
    Stale(Claim<'a>),
    /// One of them has it, or none of them led there.
    Fresh,
    /// It cannot be said, and why.
    Open(Vec<String>),
}

/// The names that led to the address, or may have, with what they have now.
pub(super) struct Claim<'a> {
    pub names: Vec<(&'a ConfiguredName, &'a Resolved)>,
    pub confidence: Confidence,
    /// Something else in the configuration may have led there.
    pub others: bool,
}

pub(super) fn about(names: &Names, dialled: SocketAddr) -> Verdict<'_> {
    let ip = dialled.ip().to_canonical();
    let now: Vec<_> = names
        .at_start
        .iter()
        .filter_map(|name| Some((name, resolved(name)?)))
        .collect();
    if now.iter().any(|(_, resolved)| has(resolved, ip)) {
        return Verdict::Fresh;
    }
    let open: Vec<String> = names
        .at_start
        .iter()
        .filter_map(|name| unknown(name, ip))
        .collect();
    let witnessed: Vec<_> = now
        .iter()
        .copied()
        .filter(|(name, _)| name.had_it)
        .collect();
    if !witnessed.is_empty() {
        let certain =
            open.is_empty() && witnessed.len() == 1 && is_in_the_hosts_file(witnessed[0].1);
        return Verdict::Stale(Claim {
            names: witnessed,
            confidence: if certain {
                Confidence::Certain
            } else {
                Confidence::Probable
            },
            others: !open.is_empty(),
        });
    }
    if !open.is_empty() || now.is_empty() {
        return Verdict::Open(open);
    }
    if !names.at_work.is_empty() {
        return Verdict::Open(vec![format!(
            "whether {ip} is an old address of {} or one that nginx resolved at work for {}",
            now[0].0.host, names.at_work[0]
        )]);
    }
    unwitnessed(names, now, dialled)
}

/// Nobody saw a name with that address: it is what is left.
fn unwitnessed<'a>(
    names: &Names,
    now: Vec<(&'a ConfiguredName, &'a Resolved)>,
    dialled: SocketAddr,
) -> Verdict<'a> {
    let edited = names.configuration_changed;
    let kept = |resolved: &Resolved| {
        matches!(
            resolved.source,
            NameSource::Hosts {
                changed: Some(false)
            }
        )
    };
    // The names had the same when nginx read a configuration that is not the present one: that
    // may have had the address itself.
    if edited == Some(true) && now.iter().all(|(_, resolved)| kept(resolved)) {
        return Verdict::Fresh;
    }
    if names.open_ended && COMMON.contains(&dialled.port()) {
        return Verdict::Fresh;
    }
    let moved = |resolved: &Resolved| {
        is_in_the_hosts_file(resolved)
            && resolved.source
                == NameSource::Hosts {
                    changed: Some(true),
                }
    };
    let confidence = if names.open_ended || edited == Some(true) {
        Confidence::Possible
    } else if now.len() == 1 && moved(now[0].1) && edited == Some(false) {
        Confidence::Certain
    } else {
        Confidence::Probable
    };
    Verdict::Stale(Claim {
        names: now,
        confidence,
        others: names.open_ended,
    })
}

/// Why it is not known whether a name still has the address; null where it is.
fn unknown(name: &ConfiguredName, ip: IpAddr) -> Option<String> {
    let why = match &name.now {
        Resolution::Unresolved(why) => why.as_str(),
        Resolution::Resolved(Resolved {
            source: NameSource::Dns { steady: false, .. },
            ..
        }) => "its DNS server answers with other addresses each time",
        Resolution::Resolved(_) => return None,
    };
    Some(format!("whether {} still has {ip}: {why}", name.host))
}

fn has(resolved: &Resolved, ip: IpAddr) -> bool {
    resolved
        .addresses
        .iter()
        .any(|one| one.to_canonical() == ip)
}

/// The file says it, and nothing else was to be asked before.
fn is_in_the_hosts_file(resolved: &Resolved) -> bool {
    matches!(resolved.source, NameSource::Hosts { .. }) && resolved.passed_over.is_empty()
}
