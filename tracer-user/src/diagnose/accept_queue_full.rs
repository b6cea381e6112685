//! `accept-queue-full`: the listener's process does not accept, and its queue is full.

use crate::case::{Case, Fact, Listener, Netns, Queue};
use crate::diagnose::coverage::Observation;
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, after, copies, syn_queue_full, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn accept_queue_full(case: &Case) -> Option<Finding> {
    if !evidence::ended_in_silence(case) {
        return None;
    }
    let covering = covering(case, &addresses::homes(case));
    if overflow_dropped(case) {
        return Some(
            finding(case, covering.first().copied(), Confidence::Certain)
                .because("the kernel names the reason of the drop: TCP_LISTEN_OVERFLOW"),
        );
    }
    if syn_dropped(case) {
        return None;
    }
    let full: Vec<&Listener> = covering
        .iter()
        .copied()
        .filter(|listener| is_full(listener))
        .collect();
    let first = full.first().copied()?;
    let group = full.len() < covering.len();
    let left = evidence::retransmissions(case).all(|error| error == 0);
    let confidence = if group || !left || evidence::retransmission_count(case) == 0 {
        Confidence::Probable
    } else {
        Confidence::Certain
    };
    let found = finding(case, Some(first), confidence)
        .relies_on(&[Observation::PacketDrop])
        .because("a full accept queue drops the SYN without a drop reason (`sk_acceptq_is_full` in `tcp_conn_request`), and no other drop was seen")
        .when(group, |finding| {
            finding
                .because(format!(
                    "{} of {} listeners of that address are full; the kernel chooses one by hash",
                    full.len(),
                    covering.len()
                ))
                .missing("which of these listeners the SYN was given to")
        });
    Some(copies::set_aside(case, found))
}

/// The last ACK of the handshake found the queue full: nginx believes that it is connected, the
/// listener does not know of it. With `tcp_abort_on_overflow` it answers with a reset
/// (`tcp_check_req`).
pub(super) fn after_connect(case: &Case) -> Option<Finding> {
    let aborted = after::peer_ended(case)
        .is_some_and(|ended| ended.listening && ended.reason.as_deref() == Some("INVALID_SYN"));
    let half_open = case
        .host
        .peer
        .as_ref()
        .is_some_and(|peer| matches!(peer.state.as_str(), "SYN_RECV" | "NEW_SYN_RECV"));
    let (confidence, how) = match (aborted, half_open) {
        (true, _) => (
            Confidence::Certain,
            "the listener answered with a reset (net.ipv4.tcp_abort_on_overflow)",
        ),
        (_, true) => (
            Confidence::Probable,
            "for the listener the handshake is not complete: it drops the last ACK, and what nginx sends",
        ),
        _ => return None,
    };
    let finding = Finding::new(
        Code::AcceptQueueFull,
        confidence,
        format!(
            "the accept queue of the listener on {} was full as nginx completed the handshake: {how}",
            wording::dialled(case)
        ),
    )
    .rule_out(
        Code::ResetByBackend,
        "no process of the backend ever held the connection",
    )
    .fix("let the backend accept faster (more workers), or raise its backlog and net.core.somaxconn");
    Some(after::with_listener(
        case,
        after::with_traffic(case, finding),
    ))
}

/// The listener of a namespace that has the same address, by chance or not, is full.
pub(super) fn perhaps_full(case: &Case) -> Option<Finding> {
    if !evidence::ended_in_silence(case) || syn_dropped(case) {
        return None;
    }
    let full = covering(case, &addresses::namesakes(case))
        .into_iter()
        .find(|listener| is_full(listener))?;
    let mut finding = finding(case, Some(full), Confidence::Possible)
        .missing("whether the SYN was sent to that namespace: it has the dialled address, but nothing tells that the route leads there");
    // What stands in that namespace rules nothing out for the one that the SYN went to.
    finding.ruled_out.clear();
    finding
        .summary
        .push_str("; the SYN may have been sent there");
    Some(finding.candidates([full]))
}

fn finding(case: &Case, listener: Option<&Listener>, confidence: Confidence) -> Finding {
    let who = listener.map_or_else(
        || format!("the listener of {}", wording::dialled(case)),
        wording::listener,
    );
    let counts = listener.and_then(|listener| listener.queue);
    let words = counts.map_or_else(String::new, |queue| {
        format!(
            ": {} connections wait, the limit is {}",
            queue.length, queue.limit
        )
    });
    Finding::new(
        Code::AcceptQueueFull,
        confidence,
        format!("the accept queue of {who} is full{words}"),
    )
    .with(counts, |finding, queue| {
        finding.because(format!(
            "the accept queue held {} connections when the attempt failed; the limit is {}",
            queue.length, queue.limit
        ))
    })
    .with(listener, |finding, listener| in_front(case, listener, finding))
    .rule_out(Code::NoListener, "a socket listens there")
    .rule_out(
        Code::FirewallDrop,
        "netfilter was not seen to free a packet of this attempt on this host",
    )
    .with(listener.and_then(|listener| Some((listener, listener.owners.first()?))), |finding, (listener, owner)| {
        let watch = format!("ss -ltnp 'sport = :{}'", listener.address.port());
        finding
            .fix(format!("cat /proc/{pid}/status /proc/{pid}/wchan: is {} stopped, hung or busy?", wording::process(owner), pid = owner.pid))
            .fix(wording::in_namespace(case, listener.netns, &watch))
    })
    .fix("give the backend more workers, or a larger backlog in its listen() together with net.core.somaxconn")
    .listener(listener)
}

/// What waits there, and what bounds the queue.
fn in_front(case: &Case, listener: &Listener, finding: Finding) -> Finding {
    let Some(waiting) = syn_queue_full::in_front_of(case, listener) else {
        return finding;
    };
    let limit = listener.queue.map(|queue| queue.limit);
    finding
        .with(waiting.longest_ms, |finding, longest| {
            finding.because(format!(
                "{} connections stand that no process has accepted; the last data of the one that waits longest came {} before it was looked at",
                waiting.unaccepted,
                wording::duration(longest.saturating_mul(1_000_000))
            ))
        })
        .with(waiting.somaxconn.zip(limit), |finding, (somaxconn, limit)| {
            finding.because(if limit < somaxconn {
                format!("net.core.somaxconn is {somaxconn}, so the limit of {limit} is the backlog that the process asked for in listen()")
            } else {
                format!("net.core.somaxconn is {somaxconn}: the process may have asked for a larger backlog than that")
            })
        })
}

pub(super) fn covering<'a>(case: &'a Case, homes: &[Netns]) -> Vec<&'a Listener> {
    let Some(target) = addresses::target(case) else {
        return Vec::new();
    };
    case.host
        .listeners
        .iter()
        .filter(|listener| homes.contains(&listener.netns))
        .filter(|listener| addresses::covers(listener, target))
        .collect()
}

/// The kernel's own condition: `sk_acceptq_is_full` asks for more than the limit.
fn is_full(listener: &Listener) -> bool {
    matches!(listener.queue, Some(Queue { length, limit }) if length > limit)
}

fn overflow_dropped(case: &Case) -> bool {
    case.timeline.iter().any(|observed| {
        matches!(&observed.fact, Fact::Dropped { reason, .. } if reason == "TCP_LISTEN_OVERFLOW")
    })
}

pub(super) fn syn_dropped(case: &Case) -> bool {
    copies::drops_of_originals(case).next().is_some()
}

#[cfg(test)]
mod tests;
