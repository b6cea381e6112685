//! The story that the timeline tells by itself, in plain words.

use crate::case::{Case, Ending, Fact, Observed};
use crate::diagnose::finding::Because;
use crate::diagnose::{addresses, after, evidence, icmp, neighbours, programs, surface, wording};
use crate::event::Surface;

/// A timeline can repeat itself hundreds of times; this many different sentences are enough.
const MOST_SENTENCES: usize = 40;

/// What the timeline and the findings of a cause say, in time order.
pub(super) fn because(case: &Case, added: &[Because]) -> Vec<String> {
    let mut story = vec![Because {
        at: Some(case.attempt.started),
        text: beginning(case),
    }];
    story.extend(timeline(case));
    story.push(Because {
        at: Some(case.attempt.ended),
        text: ending(case),
    });
    story.extend(added.iter().cloned());
    story.sort_by_key(|because| because.at.unwrap_or(u64::MAX));
    story.into_iter().map(|because| because.text).collect()
}

fn beginning(case: &Case) -> String {
    let worker = format!("nginx worker {}", case.worker.pid);
    match case.attempt.ending {
        Ending::SocketFailed { .. } => format!("{worker} asked for a socket"),
        Ending::BindFailed { .. } => match case.attempt.bound {
            Some(address) => format!("{worker} bound its socket to {address}"),
            None => format!("{worker} bound its socket"),
        },
        Ending::AfterConnect { .. } if case.connection.is_none() => {
            format!("{worker} had a connection to {}", wording::dialled(case))
        }
        Ending::Undialled { .. } => format!("{worker} was to pass a request on"),
        _ => format!("{worker} dialled {}", wording::dialled(case)),
    }
}

fn ending(case: &Case) -> String {
    let name = wording::errno_name;
    match case.attempt.ending {
        Ending::SocketFailed { errno } => format!("socket() returned {}", name(errno)),
        Ending::BindFailed { errno } => format!("bind() returned {}", name(errno)),
        Ending::ConnectFailed { errno, .. } => format!(
            "connect() itself returned {}; no packet left for it",
            name(errno)
        ),
        Ending::SocketError { errno } => format!(
            "the socket ended with {}, {}",
            name(errno),
            wording::relative(case, case.attempt.ended)
        ),
        Ending::GaveUp => giving_up(case),
        Ending::Established => "the connection was established".to_owned(),
        Ending::AfterConnect { .. } | Ending::Undialled { .. } => complaint(case),
    }
}

/// nginx's own words, without what it says of the request.
fn complaint(case: &Case) -> String {
    let said = case.log.as_ref().map(|line| {
        let message = line.message.as_deref().unwrap_or(&line.text);
        match &line.action {
            Some(action) => format!("{message} while {action}"),
            None => message.to_owned(),
        }
    });
    match said {
        Some(said) => format!("nginx wrote to its error log: {said}"),
        None => "nginx complained in its error log".to_owned(),
    }
}

fn giving_up(case: &Case) -> String {
    let when = wording::duration(evidence::duration(case));
    match (surface::surface(case), surface::errno(case)) {
        (_, Some(errno)) => format!(
            "nginx read {} from the socket and closed it, {when} after connect()",
            wording::errno_name(errno)
        ),
        (Surface::ClientAbort, None) => {
            format!("nginx closed the socket because its client had left, {when} after connect()")
        }
        (Surface::None, None) => format!(
            "nginx closed the socket long before its timeout and wrote nothing of it, {when} after connect()"
        ),
        (_, None) => {
            format!("nginx gave up waiting and closed the socket, {when} after connect()")
        }
    }
}

/// The facts in time order; equal ones that follow each other become one sentence.
fn timeline(case: &Case) -> Vec<Because> {
    let mut told: Vec<(Because, String, u32)> = Vec::new();
    for observed in &case.timeline {
        let Some(words) = fact(case, observed) else {
            continue;
        };
        if let Some((_, last, times)) = told.last_mut()
            && *last == words
        {
            *times += 1;
            continue;
        }
        if told.len() == MOST_SENTENCES {
            break;
        }
        let first = Because {
            at: Some(observed.at),
            text: format!("{words}, {}", wording::relative(case, observed.at)),
        };
        told.push((first, words, 1));
    }
    told.into_iter()
        .map(|(mut because, _, times)| {
            if times > 1 {
                because
                    .text
                    .push_str(&format!(", and again: {times} times in all"));
            }
            because
        })
        .collect()
}

fn fact(case: &Case, observed: &Observed) -> Option<String> {
    Some(match &observed.fact {
        Fact::ResetReceived => "nginx's socket received a reset".to_owned(),
        Fact::ResetSent {
            netns,
            reason,
            segment,
        } => format!(
            "the kernel of {} answered the segment to {} with a reset ({})",
            wording::namespace(case, *netns),
            segment.to,
            reason.as_deref().unwrap_or("this kernel gives no reason")
        ),
        Fact::Dropped { .. } => dropped(case, &observed.fact)?,
        Fact::IcmpSent { icmp, .. } if icmp::is_redirect(*icmp) => return None,
        Fact::IcmpSent {
            netns, icmp, hook, ..
        } => {
            let place = match hook {
                Some(_) => format!("{} of ", wording::hook(*hook)),
                None => String::new(),
            };
            format!(
                "{place}{} sent an ICMP error: {}",
                wording::namespace(case, *netns),
                icmp::words(*icmp)
            )
        }
        Fact::IcmpReceived { from, icmp } => {
            format!("an ICMP error arrived from {from}: {}", icmp::words(*icmp))
        }
        Fact::NeighbourPacketDropped { .. } => neighbour_packet(case, &observed.fact)?,
        Fact::Retransmitted { error } => retransmitted(*error),
        Fact::ClientClosed {
            client: Some(client),
        } => {
            format!("nginx closed the connection of its client {client}, which had left")
        }
        Fact::CallIntercepted => "connect() returned without having been entered: a filter answered in its place (the tracepoint of its return was met, that of its entry was not)".to_owned(),
        Fact::SecurityDenied { errno } => format!(
            "the kernel's security modules answered this connect() with {}",
            wording::errno_name(*errno)
        ),
        Fact::Audited { denial } => format!("the kernel's audit log: {}", denial.text),
        Fact::FinReceived => "the peer's FIN arrived at nginx's socket".to_owned(),
        Fact::PeerEnded(ended) => after::peer_ended_words(case, ended),
        Fact::ClientClosed { client: None } => {
            "nginx closed the connection of a client that had left".to_owned()
        }
    })
}

fn dropped(case: &Case, fact: &Fact) -> Option<String> {
    let Fact::Dropped {
        netns,
        reason,
        location,
        hook,
        answer,
        segment,
        ..
    } = fact
    else {
        return None;
    };
    let packet = if *answer {
        "the answer to nginx".to_owned()
    } else {
        format!("the SYN to {}", segment.to)
    };
    let place = match (hook, location) {
        (Some(_), _) => format!(" in {}", wording::hook(*hook)),
        (None, Some(location)) => format!(" at {location}"),
        (None, None) => String::new(),
    };
    Some(format!(
        "the kernel freed {packet} in {}{place} ({reason})",
        wording::namespace(case, *netns)
    ))
}

fn neighbour_packet(case: &Case, fact: &Fact) -> Option<String> {
    let Fact::NeighbourPacketDropped {
        netns,
        hook,
        wanted,
        answer,
        ..
    } = fact
    else {
        return None;
    };
    Some(format!(
        "a packet filter freed {} in {} of {}",
        neighbours::packet(*wanted, *answer),
        wording::hook(*hook),
        wording::namespace(case, *netns)
    ))
}

fn retransmitted(error: Option<i32>) -> String {
    match error {
        None => "the SYN was sent again".to_owned(),
        Some(0) => "the SYN was sent again and left".to_owned(),
        Some(-1) => "the SYN was sent again and dropped on the way out".to_owned(),
        Some(1) => "the SYN was sent again and dropped by the egress queueing discipline".to_owned(),
        Some(error) if error == -libc::EBUSY => {
            "the SYN could not be sent again: the previous one still waits for the neighbour's address"
                .to_owned()
        }
        Some(error) => format!(
            "the SYN could not be sent again ({})",
            wording::errno_name(error.saturating_neg())
        ),
    }
}

/// Says that NAT or a cgroup program changed the destination, where one did.
pub(super) fn translation(case: &Case) -> Option<String> {
    let dialled = addresses::dialled(case)?;
    let target = addresses::translated_to(case)?;
    let who = if addresses::rewritten_at_connect(case) {
        format!("{} rewrote the destination", programs::rewriter(case))
    } else {
        "NAT on this host changed the destination".to_owned()
    };
    Some(format!("{who}: {dialled} became {target}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;

    #[test]
    fn evidence_is_told_in_time_order_and_repetition_once() {
        let mut case = silent("203.0.113.7:9101", 4000);
        case.timeline = (1..=3)
            .map(|second| observed(second * 1_000_000, Fact::Retransmitted { error: Some(0) }))
            .collect();
        let because = diagnose(&case).verdict.because;
        assert!(
            because[0].contains("dialled 203.0.113.7:9101"),
            "{because:?}"
        );
        assert_eq!(
            because[1],
            "the SYN was sent again and left, 1.00 s after connect(), and again: 3 times in all"
        );
        assert!(because[2].contains("gave up waiting"), "{because:?}");
    }

    #[test]
    fn a_redirect_is_not_told_as_an_error() {
        let mut case = refused("10.99.1.2:9101", OTHER);
        let told = diagnose(&case).verdict.because;
        case.timeline.insert(
            0,
            observed(1, icmp_sent("10.99.1.2:9101", OTHER, 5, 1, None)),
        );
        assert_eq!(diagnose(&case).verdict.because, told);
    }

    #[test]
    fn a_timeline_without_end_stays_readable() {
        let mut case = silent("203.0.113.7:9101", 4000);
        case.timeline = (0..5000)
            .map(|error| observed(1, Fact::Retransmitted { error: Some(error) }))
            .collect();
        assert!(diagnose(&case).verdict.because.len() < MOST_SENTENCES + 10);
    }
}
