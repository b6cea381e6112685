//! `firewall-reject` and `firewall-drop` on a connection that stood: netfilter of this host freed
//! its segments.

use crate::case::{Case, Connection, Fact, KernelTime, Met, PeerEnd, PeerEnded};
use crate::diagnose::finding::Finding;
use crate::diagnose::{after, backend_silent, firewall, wording};
use crate::verdict::{Code, Confidence};

/// A rule's reset is sent in the hook that frees the segment (`nf_send_reset`); another namespace
/// hears it once its processor gets round to it.
const AT_ONCE: KernelTime = 100_000_000;

/// What nginx met fits what netfilter freed, and for a reset no TCP of this host sent one.
pub(super) fn after_connect(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    if complaint.is_reset() {
        return rejected(case);
    }
    let gave_up = complaint.met == Met::Timeout || complaint.errno == Some(libc::ETIMEDOUT);
    gave_up.then(|| dropped(case)).flatten()
}

fn rejected(case: &Case) -> Option<Finding> {
    if after::peer_ended(case).is_some() {
        return None;
    }
    let (at, filtered) = freed(case, PeerEnd::RequestFiltered)?;
    let reset = after::reset_received(case)?;
    if reset.abs_diff(at) > AT_ONCE {
        return None;
    }
    let finding = Finding::new(
        Code::FirewallReject,
        Confidence::Probable,
        format!(
            "netfilter in {} rejected what nginx sent over its connection to {} with a TCP reset",
            wording::namespace(case, filtered.netns),
            wording::dialled(case)
        ),
    )
    .because("a reset came as netfilter freed the segment, and no TCP of this host sent one")
    .rule_out(
        Code::ResetByBackend,
        "netfilter freed the segment before the backend could answer it",
    );
    Some(told(case, filtered, finding))
}

fn dropped(case: &Case) -> Option<Finding> {
    let connection = case.connection.as_ref()?;
    let request = freed(case, PeerEnd::RequestFiltered)
        .filter(|_| backend_silent::undelivered(case).is_some())
        .map(|(_, filtered)| (filtered, "what nginx sent"));
    let response = || {
        freed(case, PeerEnd::ResponseFiltered)
            .filter(|(at, _)| nothing_came_since(connection, *at))
            .map(|(_, filtered)| (filtered, "what the backend sent"))
    };
    let (filtered, what) = request.or_else(response)?;
    let finding = Finding::new(
        Code::FirewallDrop,
        Confidence::Probable,
        format!(
            "netfilter in {} dropped {what} over nginx's connection to {}",
            wording::namespace(case, filtered.netns),
            wording::dialled(case)
        ),
    )
    .because("netfilter freed the segments, and nothing came through until nginx gave up")
    .missing("whether an ICMP error was sent for them: TCP does not end a connection for one")
    .rule_out(
        Code::BackendSilent,
        "request and response did not both get through",
    );
    Some(told(case, filtered, finding))
}

/// Netfilter freed such a segment: when it did last.
fn freed(case: &Case, how: PeerEnd) -> Option<(KernelTime, &PeerEnded)> {
    case.timeline
        .iter()
        .rev()
        .find_map(|seen| match &seen.fact {
            Fact::PeerEnded(ended) if ended.how == how => Some((seen.at, ended)),
            _ => None,
        })
}

fn nothing_came_since(connection: &Connection, at: KernelTime) -> bool {
    connection
        .last_received
        .is_none_or(|received| received <= at.saturating_add(connection.tick))
}

fn told(case: &Case, filtered: &PeerEnded, finding: Finding) -> Finding {
    let finding = finding.missing("which rule or policy it was");
    let finding = firewall::with_rules_to_read(case, filtered.netns, finding);
    after::with_listener(case, after::with_traffic(case, finding))
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::Code;

    const MS: u64 = 1_000;

    fn code(case: &Case) -> Code {
        diagnose(case).verdict.code
    }

    #[test]
    fn a_reset_that_no_tcp_sent_is_a_rules() {
        let reset = Some(libc::ECONNRESET);
        let mut case = after_connect(Phase::AwaitingResponse, Met::ReceiveError, reset);
        case.timeline = vec![
            observed(10 * MS, Fact::ResetReceived),
            observed(10 * MS, peer_ended(PeerEnd::RequestFiltered, "")),
        ];
        assert_eq!(code(&case), Code::FirewallReject);
        let sent = observed(10 * MS, peer_ended(PeerEnd::Reset, "TCP_STATE"));
        case.timeline.push(sent);
        assert_eq!(code(&case), Code::ResetByBackend);
        case.timeline.remove(2);
        case.timeline[0] = observed(500 * MS, Fact::ResetReceived);
        assert_eq!(code(&case), Code::ResetByBackend);
    }

    #[test]
    fn a_request_that_is_dropped_is_not_the_backends_silence() {
        let mut case = after_connect(Phase::AwaitingResponse, Met::Timeout, None);
        case.timeline = vec![observed(10 * MS, peer_ended(PeerEnd::RequestFiltered, ""))];
        // What was sent again got through.
        assert_eq!(code(&case), Code::BackendSilent);
        if let Some(connection) = &mut case.connection {
            connection.unsent = Some(80);
        }
        assert_eq!(code(&case), Code::FirewallDrop);
    }

    #[test]
    fn a_response_that_is_dropped_is_not_the_backends_silence() {
        let mut case = after_connect(Phase::AwaitingResponse, Met::Timeout, None);
        case.timeline = vec![observed(10 * MS, peer_ended(PeerEnd::ResponseFiltered, ""))];
        assert_eq!(code(&case), Code::FirewallDrop);
        if let Some(connection) = &mut case.connection {
            connection.last_received = Some(connection.established + 40_000_000);
        }
        assert_eq!(code(&case), Code::BackendSilent);
    }
}
