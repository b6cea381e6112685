//! What both firewall causes say: which rule did it, who listens behind it, what lets the flow
//! pass.

mod fix;
mod managers;
mod rule;
mod suspects;
mod translation;

use crate::case::{Case, Family, Fitting, Hook, KnownBy, Netns};
use crate::diagnose::finding::Finding;
use crate::diagnose::neighbours::{self, Starved};
use crate::diagnose::{addresses, wording};
use crate::verdict::{Code, Confidence};

use fix::{Flow, Packets};
pub(super) use suspects::{Did, Incident, Suspects};
pub(super) use translation::translator;

/// A firewall finding: `did` is what the rule did, such as `dropped the SYN`.
pub(super) fn finding(
    case: &Case,
    code: Code,
    incident: &Incident,
    suspects: &Suspects,
    did: &str,
) -> Finding {
    // At the other hooks the packet may still be on its way to another namespace.
    let arrived = (incident.hook == Some(Hook::Input)).then_some(incident.netns);
    let listener = addresses::covering_listener(case, arrived);
    let behind = listener.map_or_else(String::new, |listener| {
        format!("; {} is listening", wording::owner(&listener.owners))
    });
    let summary = format!(
        "{}{behind}",
        sentence(case, (incident.netns, incident.hook), suspects, did)
    );
    let finding = Finding::new(code, Confidence::Certain, summary)
        .with(listener, |finding, listener| {
            finding
                .because(format!(
                    "{} listens in {}",
                    wording::listener(listener),
                    wording::namespace(case, listener.netns)
                ))
                .rule_out(Code::NoListener, "a socket listens on the target address")
                .listener(Some(listener))
        })
        .when(
            incident.hook.is_none() && suspects.fitting.is_empty(),
            |finding| finding.missing("the netfilter hook: the kernel's stack did not tell it"),
        );
    let flow = Flow::of(incident.segment, incident.answer);
    let place = (incident.netns, incident.hook);
    named(case, place, suspects, &Packets::Flow(flow), finding)
}

/// The finding of a packet filter that ate a packet of ARP or neighbour discovery, with what came
/// of that.
pub(super) fn starved(
    case: &Case,
    starved: &Starved,
    confidence: Confidence,
    consequence: &str,
) -> Finding {
    let suspects = Suspects::of_neighbour(case, starved);
    let did = format!(
        "dropped {}",
        neighbours::packet(starved.wanted, starved.answer)
    );
    let place = (starved.netns, starved.hook);
    let summary = format!("{}: {consequence}", sentence(case, place, &suspects, &did));
    let packets = Packets::Neighbour {
        wanted: starved.wanted,
        answer: starved.answer,
    };
    let finding = Finding::new(Code::FirewallDrop, confidence, summary);
    named(case, place, &suspects, &packets, finding)
}

/// Who did what, and where.
fn sentence(
    case: &Case,
    (netns, hook): (Netns, Option<Hook>),
    suspects: &Suspects,
    did: &str,
) -> String {
    let namespace = wording::namespace(case, netns);
    let sure = |only: &&Fitting| !only.never_met && suspects.read_in_full();
    match (suspects.only().filter(sure), suspects.fitting.first()) {
        (Some(only), _) if netns == case.worker.netns => {
            format!("{} {did}", rule::words(only))
        }
        (Some(only), _) => format!("{} {did} in {namespace}", rule::words(only)),
        (None, best) => {
            let likeliest = best.map_or_else(String::new, |best| {
                format!(", most likely by {}", rule::words(best))
            });
            format!(
                "netfilter {did} in {} of {namespace}{likeliest}",
                wording::hook(hook)
            )
        }
    }
}

/// Names the rule, as far as the suspects allow.
fn named(
    case: &Case,
    (netns, seen_at): (Netns, Option<Hook>),
    suspects: &Suspects,
    packets: &Packets,
    finding: Finding,
) -> Finding {
    let Some((best, others)) = suspects.fitting.split_first() else {
        let finding = unnamed(suspects, finding);
        return packets.with_rules_to_read(case, netns, finding);
    };
    let mut finding = finding;
    if !others.is_empty() || best.never_met || !suspects.read_in_full() {
        finding.confidence = finding.confidence.min(Confidence::Probable);
    }
    finding.rule = rule::rule(suspects, netns);
    let hook = suspects.hook_of(best).or(seen_at).unwrap_or(Hook::Input);
    let finding = finding
        .because(reading_of(best))
        .with(seen(suspects.known_by(best)), Finding::because)
        .with(managers::of(best), |finding, manager| {
            finding.because(format!(
                "that rule is {}'s, which puts it back {}",
                manager.name, manager.puts_back
            ))
        })
        .with(best.counted.filter(|packets| *packets > 0), |finding, packets| {
            finding.because(format!(
                "its counter rose by {packets} between the reading before the packet and the one after it"
            ))
        })
        .when(!others.is_empty(), |finding| {
            undecided(suspects, finding)
        })
        .when(best.never_met, |finding| {
            finding.missing("a rule that fits and has counted a packet: this one's counter stood at zero after the packet, so others may have stood there then")
        });
    let steps = fix::steps(case, best, packets, hook, netns);
    let finding = gaps(suspects, finding);
    let finding = steps.into_iter().fold(finding, Finding::fix);
    if others.is_empty() {
        finding
    } else {
        packets.with_rules_to_read(case, netns, finding)
    }
}

/// What the kernel was seen to do, apart from how the rules read.
fn seen(known_by: KnownBy) -> Option<&'static str> {
    match known_by {
        KnownBy::Evaluation => None,
        KnownBy::Kernel => Some("the kernel evaluated this very rule for that packet"),
        KnownBy::Silence => Some(
            "the rules of nftables that drop were watched, and the kernel evaluated none of them to its end for that packet",
        ),
    }
}

fn reading_of(fitting: &Fitting) -> String {
    let way = if fitting.base_chain == fitting.chain {
        String::new()
    } else {
        format!(", to which chain {} leads", fitting.base_chain)
    };
    format!("{} reads `{}`{way}", rule::words(fitting), fitting.text)
}

/// Says why several rules are left.
fn undecided(suspects: &Suspects, finding: Finding) -> Finding {
    let fitting = &suspects.fitting;
    let finding = finding.missing(format!(
        "which of {} rules it was: each of them fits what was seen",
        fitting.len()
    ));
    let finding = suspects
        .readings
        .iter()
        .flat_map(|reading| &reading.doubts)
        .fold(finding, |finding, doubt| {
            finding.missing(format!("undecided: {doubt}"))
        });
    finding.when(
        fitting.iter().any(|fitting| fitting.counted.is_none()),
        |finding| finding.missing("counters in these rules, read before and after, would tell"),
    )
}

/// Says why no rule is left although the kernel saw one act.
fn unnamed(suspects: &Suspects, finding: Finding) -> Finding {
    let finding = finding
        .missing("which rule or policy it was: the evidence names the hook, not the rule")
        .when(
            !suspects.readings.is_empty() && suspects.read_in_full(),
            |finding| {
                finding.missing(
                    "a rule that fits: the rules as they stand now explain nothing of the kind (a BPF program at the hook needs none: `bpftool net list`)",
                )
            },
        );
    let finding = suspects
        .readings
        .iter()
        .flat_map(|reading| &reading.doubts)
        .fold(finding, |finding, doubt| {
            finding.missing(format!("undecided: {doubt}"))
        });
    gaps(suspects, finding)
}

/// Says what could not be read as it stood.
fn gaps(suspects: &Suspects, finding: Finding) -> Finding {
    let changed = suspects.readings.iter().any(|reading| reading.changed);
    let finding = finding.when(changed, |finding| {
        finding.missing("the rules as they stood then: they were changed before they could be read")
    });
    suspects
        .readings
        .iter()
        .flat_map(|reading| &reading.unread)
        .fold(finding, |finding, what| {
            finding.missing(format!("unread: {what}"))
        })
}

/// How to list the rules of all hooks and tables with their counters. `nft` and the usual
/// `iptables` do not show those that the legacy variant made.
pub(super) fn with_rules_to_read(case: &Case, netns: Netns, finding: Finding) -> Finding {
    let commands = match case.attempt.family {
        Family::Ipv6 => ["ip6tables-save -c", "ip6tables-legacy-save -c"],
        Family::Ipv4 | Family::Unix => ["iptables-save -c", "iptables-legacy-save -c"],
    };
    std::iter::once("nft -a list ruleset")
        .chain(commands)
        .fold(finding, |finding, command| {
            finding.fix(wording::in_namespace(case, netns, command))
        })
}

#[cfg(test)]
mod tests;
