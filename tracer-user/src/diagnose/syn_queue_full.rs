//! `syn-queue-full`: too many half-open connections wait for their last ACK, and no cookies are
//! sent instead.

use crate::case::{Case, Listener, Waiting};
use crate::diagnose::coverage::Observation;
use crate::diagnose::finding::Finding;
use crate::diagnose::{accept_queue_full, addresses, copies, evidence, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn syn_queue_full(case: &Case) -> Option<Finding> {
    if !evidence::ended_in_silence(case) || accept_queue_full::syn_dropped(case) {
        return None;
    }
    let homes = addresses::homes(case);
    let covering = accept_queue_full::covering(case, &homes);
    let (listener, waiting, limit) = covering.iter().find_map(|listener| {
        let waiting = in_front_of(case, listener)?;
        Some((*listener, waiting, limit_reached(listener, waiting)?))
    })?;
    let left = evidence::retransmissions(case).all(|error| error == 0);
    let again = evidence::retransmission_count(case) > 0;
    // Half-open connections are counted for the port, not for each listener of a group.
    let alone = covering.len() == 1;
    let confidence = match left && again && alone {
        true => Confidence::Certain,
        false => Confidence::Probable,
    };
    let port = listener.address.port();
    let own = |command: &str| wording::in_namespace(case, listener.netns, command);
    let found = Finding::new(
            Code::SynQueueFull,
            confidence,
            format!(
                "the SYN queue of {} is full: {} half-open connections, the limit is {limit}, and SYN cookies are off",
                wording::listener(listener),
                waiting.half_open
            ),
        )
        .relies_on(&[Observation::PacketDrop])
        .because(format!(
            "{} connections to port {port} were half open (SYN_RECV) when the attempt failed; net.ipv4.tcp_syncookies is 0",
            waiting.half_open
        ))
        .because("a full SYN queue drops the SYN without a drop reason (`tcp_conn_request`), and no other drop was seen")
        .when(!alone, |finding| {
            finding.missing("which of the listeners of that address the SYN was given to")
        })
        .rule_out(Code::NoListener, "a socket listens there")
        .rule_out(
            Code::AcceptQueueFull,
            "the accept queue has room: what waits has not completed its handshake",
        )
        .rule_out(
            Code::FirewallDrop,
            "netfilter was not seen to free a packet of this attempt on this host",
        )
        .fix(own(&format!("ss -tan state syn-recv 'sport = :{port}'")))
        .fix(own("sysctl -w net.ipv4.tcp_syncookies=1"))
        .fix(own("sysctl -w net.ipv4.tcp_max_syn_backlog=4096"))
        .fix("a larger backlog in the listen() of the backend, together with net.core.somaxconn")
        .listener(Some(listener));
    Some(copies::set_aside(case, found))
}

/// What waits on the listener's port.
pub(super) fn in_front_of<'a>(case: &'a Case, listener: &Listener) -> Option<&'a Waiting> {
    case.host
        .waiting
        .iter()
        .find(|waiting| waiting.netns == listener.netns && waiting.port == listener.address.port())
}

/// `tcp_conn_request` drops where no cookies are to be sent: at the listener's backlog
/// (`inet_csk_reqsk_queue_is_full`), and for peers that it does not know at three quarters of
/// `tcp_max_syn_backlog`.
fn limit_reached(listener: &Listener, waiting: &Waiting) -> Option<u32> {
    if waiting.syncookies != Some(0) {
        return None;
    }
    let backlog = listener.queue.map(|queue| queue.limit);
    let strangers = waiting.max_syn_backlog.map(|most| most - (most >> 2));
    [backlog, strangers]
        .into_iter()
        .flatten()
        .filter(|limit| waiting.half_open >= *limit && waiting.half_open > 0)
        .min()
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    fn half_open(half_open: u32) -> Case {
        let mut case = silent("127.0.0.1:9101", 2000);
        case.timeline = vec![observed(1_000_000, Fact::Retransmitted { error: Some(0) })];
        let mut stuck = listener("127.0.0.1:9101", OWN, "python3");
        stuck.queue = Some(Queue {
            length: 0,
            limit: 16,
        });
        case.host.listeners = vec![stuck];
        case.host.waiting = vec![Waiting {
            netns: OWN,
            port: 9101,
            half_open,
            unaccepted: 0,
            longest_ms: None,
            somaxconn: Some(4096),
            max_syn_backlog: Some(512),
            syncookies: Some(0),
            abort_on_overflow: Some(false),
        }];
        case
    }

    #[test]
    fn a_full_syn_queue_is_told_from_one_with_room() {
        let verdict = diagnose(&half_open(16)).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::SynQueueFull, Confidence::Certain)
        );
        assert_ne!(diagnose(&half_open(15)).verdict.code, Code::SynQueueFull);
    }

    #[test]
    fn cookies_have_no_queue_that_fills() {
        let mut case = half_open(500);
        assert_eq!(diagnose(&case).verdict.code, Code::SynQueueFull);
        case.host.waiting[0].syncookies = Some(1);
        assert_ne!(diagnose(&case).verdict.code, Code::SynQueueFull);
    }

    #[test]
    fn a_full_accept_queue_comes_first() {
        let mut case = half_open(16);
        case.host.listeners[0].queue = Some(Queue {
            length: 17,
            limit: 16,
        });
        assert_eq!(diagnose(&case).verdict.code, Code::AcceptQueueFull);
    }
}
