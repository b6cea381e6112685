//! `neighbour-unreachable`: the next hop or the host does not answer ARP or ND.

use crate::case::{Case, Netns};
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, copies, icmp, programs, wording};
use crate::verdict::{Code, Confidence};

/// The kernel waits this long for an answer before it asks again (`retrans_time_ms`).
const ONE_PROBE_NS: u64 = 1_000_000_000;

pub(super) fn neighbour_unreachable(case: &Case) -> Option<Finding> {
    let errno = evidence::answered_errno(case);
    let waited = evidence::ended_in_silence(case) || errno == Some(libc::EHOSTUNREACH);
    if !waited {
        return None;
    }
    let (netns, confidence) = proof(case)?;
    let unresolved = unresolved(case);
    let hop = hop(case);
    let asked = if hop.contains(':') {
        "neighbour discovery"
    } else {
        "ARP"
    };
    let device =
        unresolved.map_or_else(String::new, |neighbour| format!(" on {}", neighbour.device));
    let possible = confidence == Confidence::Possible;
    let finding = Finding::new(
        Code::NeighbourUnreachable,
        confidence,
        format!(
            "{hop} {} {asked}{device}: the SYN to {} {} {}",
            if possible {
                "had not answered yet"
            } else {
                "does not answer"
            },
            wording::dialled(case),
            if possible {
                "may not have left"
            } else {
                "never left"
            },
            wording::namespace(case, netns)
        ),
    )
    .with(unresolved, |finding, neighbour| {
        finding.because(format!(
            "the neighbour table holds {} on {} as {}",
            neighbour.address, neighbour.device, neighbour.state
        ))
    })
    .when(errno.is_some(), |finding| {
        finding
            .because("the kernel asks three times, a second apart, and then fails the connection")
    });
    let finding = if possible {
        finding.missing("time: nginx gave up before the neighbour had to answer, and an entry is incomplete for a moment whenever a neighbour is asked for the first time")
    } else {
        finding.rule_out(
            Code::NoAnswer,
            "the SYN waited for the neighbour's address and did not leave",
        )
    };
    let finding = doubted(case, netns, asked, finding);
    Some(finished(case, netns, &hop, finding))
}

/// A program on the device sees what asks for the neighbour and what answers as well, and may
/// have eaten either: no record tells.
fn doubted(case: &Case, netns: Netns, asked: &str, mut finding: Finding) -> Finding {
    let mut programs = programs::of_traffic_control(case, netns, false);
    programs.extend(programs::of_traffic_control(case, netns, true));
    programs.extend(programs::of_xdp(case, netns, |_| true));
    let device = unresolved(case).map(|neighbour| neighbour.device.as_str());
    programs.retain(|program| device.is_none_or(|name| programs::device(program) == Some(name)));
    let Some(program) = programs.first() else {
        return finding;
    };
    finding.confidence = finding.confidence.min(Confidence::Probable);
    let others = match programs.len() {
        1 => String::new(),
        several => format!(" or one of {} more", several - 1),
    };
    finding
        .missing(format!(
            "whether {}{others} ate the question or its answer: it sees {asked} as well",
            programs::words(program)
        ))
        .fix(programs::command(case, program))
}

/// Whether the SYN waited, or may have waited, for the link-layer address of its next hop.
pub(super) fn is_unresolved(case: &Case) -> bool {
    let unanswered = evidence::ended_in_silence(case)
        || evidence::answered_errno(case) == Some(libc::EHOSTUNREACH);
    unanswered && proof(case).is_some()
}

/// The address that was asked for: the next hop where it is known, else the target.
fn hop(case: &Case) -> String {
    match (unresolved(case), addresses::target(case)) {
        (Some(neighbour), _) => neighbour.address.to_string(),
        (None, Some(target)) => target.ip().to_string(),
        (None, None) => wording::dialled(case),
    }
}

fn finished(case: &Case, netns: Netns, hop: &str, finding: Finding) -> Finding {
    let route = case.host.route.as_ref();
    let device = route.and_then(|route| route.device.as_deref());
    finding
        .with(
            route.filter(|route| route.link_up == Some(false)),
            |finding, _| finding.because("the link of the device is down"),
        )
        .with(route.and_then(|route| route.gateway), |finding, gateway| {
            finding.because(format!("the way there is by the gateway {gateway}"))
        })
        .rule_out(
            Code::IcmpUnreachable,
            "no router said so: this host found it out itself",
        )
        .fix(wording::in_namespace(
            case,
            netns,
            &format!("ip neigh show {hop}"),
        ))
        .with(device, |finding, device| {
            let device = wording::shell_word(device);
            finding
                .fix(wording::in_namespace(
                    case,
                    netns,
                    &format!("arping -c 3 -I {device} {hop}"),
                ))
                .fix(wording::in_namespace(
                    case,
                    netns,
                    &format!("ip -s link show {device}"),
                ))
        })
        .fix("is the host up, on this network segment, and does it still have this address?")
}

/// The namespace that could not resolve the neighbour, and how sure that is.
fn proof(case: &Case) -> Option<(Netns, Confidence)> {
    let own = case.worker.netns;
    let heard = evidence::icmp_sent(case).next().is_some();
    if let Some((netns, _)) = evidence::neighbour_drop(case)
        && (netns == own || !heard)
    {
        return Some((netns, Confidence::Certain));
    }
    // What was sent later left, so the neighbour has answered since.
    let waiting = evidence::retransmissions(case).last() == Some(-libc::EBUSY);
    let unresolved = unresolved(case).is_some();
    let own_icmp = evidence::icmp_sent(case).any(|sent| {
        sent.netns == own && sent.hook.is_none() && icmp::is_host_unreachable(sent.icmp)
    });
    let left = evidence::retransmissions(case).any(|error| error == 0);
    match (unresolved, waiting || own_icmp) {
        (true, true) => Some((own, Confidence::Certain)),
        (false, true) if own_icmp || !is_known_to_need_none(case) => {
            Some((own, Confidence::Probable))
        }
        // An entry is incomplete for a moment whenever a neighbour is asked for the first time.
        (true, false) if !left && !dropped(case) => Some((
            own,
            if evidence::duration(case) < ONE_PROBE_NS {
                Confidence::Possible
            } else {
                Confidence::Probable
            },
        )),
        _ => None,
    }
}

/// The SYN waits for something else, such as a program that reads an NFQUEUE: it goes to this host
/// itself, its next hop has answered, or nobody was asked.
fn is_known_to_need_none(case: &Case) -> bool {
    let host = &case.host;
    let device = host.route.as_ref().and_then(|route| route.device.as_ref());
    match &host.neighbour {
        _ if addresses::stays(case) => true,
        Some(neighbour) => neighbour.state != "none",
        None => device.is_some() && host.unread.is_empty(),
    }
}

fn unresolved(case: &Case) -> Option<&crate::case::Neighbour> {
    case.host
        .neighbour
        .as_ref()
        .filter(|neighbour| matches!(neighbour.state.as_str(), "incomplete" | "failed"))
}

fn dropped(case: &Case) -> bool {
    copies::drops_of_originals(case).next().is_some()
}

#[cfg(test)]
mod tests;
