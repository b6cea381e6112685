//! `backend-silent`: the connection stands and no response came before nginx gave up.

use crate::case::{Case, Connection, Listener, Met, Peer, Phase};
use crate::diagnose::finding::Finding;
use crate::diagnose::{accept_queue_full, addresses, after, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn backend_silent(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    let kernel_gave_up = complaint.errno == Some(libc::ETIMEDOUT);
    if complaint.met != Met::Timeout && !kernel_gave_up {
        return None;
    }
    let (confidence, state) = state(case);
    let waited = match complaint.phase {
        Phase::ReadingResponse => "for the rest of its response",
        Phase::Handshake => "for its part of the TLS handshake",
        Phase::Sending => "for it to take the request",
        _ => "for its response",
    };
    let finding = Finding::new(
        Code::BackendSilent,
        confidence,
        format!("nginx waited in vain {waited}: {state}",),
    );
    let finding = after::with_listener(case, after::with_traffic(case, finding));
    Some(advise(case, with_delivery(case, finding)))
}

/// What is known of the other end.
fn state(case: &Case) -> (Confidence, String) {
    let dialled = wording::dialled(case);
    let undelivered = undelivered(case);
    let untouched = |peer: &&Peer| undelivered.is_none() || !peer.accepted || peer.unread > 0;
    let Some(peer) = case.host.peer.as_ref().filter(untouched) else {
        return match undelivered {
            Some(bytes) => (
                Confidence::Possible,
                format!("{dialled} never acknowledged {bytes} bytes that nginx sent"),
            ),
            None if after::closed_with_nginx(case) => (
                Confidence::Probable,
                format!(
                    "{} had read it, sent nothing, and closed its end as soon as nginx gave up",
                    after::backend(case)
                ),
            ),
            None => (Confidence::Probable, format!("{dialled} sent nothing")),
        };
    };
    let who = wording::owner(&peer.owners);
    if !peer.accepted {
        let queue = after::listener(case).and_then(|listener: &Listener| listener.queue);
        let length = queue.map_or_else(String::new, |queue| {
            format!(" ({} of {} places taken)", queue.length, queue.limit)
        });
        let confidence = match several_hold(case) {
            true => Confidence::Probable,
            false => Confidence::Certain,
        };
        return (
            confidence,
            format!(
                "the connection waits in the accept queue of {who}{length}, which {}",
                activity(peer)
            ),
        );
    }
    let unread = match peer.unread {
        0 => "has read everything that nginx sent and does not answer".to_owned(),
        bytes => format!("has not read {bytes} bytes that nginx sent"),
    };
    (
        Confidence::Certain,
        format!(
            "{who} holds the connection, {unread}, and {}",
            activity(peer)
        ),
    )
}

/// Several listeners of that address (SO_REUSEPORT) have connections in their queues.
fn several_hold(case: &Case) -> bool {
    let homes = addresses::homes(case);
    let holds = |listener: &&Listener| listener.queue.is_some_and(|queue| queue.length > 0);
    let covering = accept_queue_full::covering(case, &homes);
    covering.into_iter().filter(holds).count() > 1
}

fn activity(peer: &Peer) -> String {
    match peer.activity {
        Some('T' | 't') => "is stopped (by SIGSTOP or a debugger)".to_owned(),
        Some('D') => "is in an uninterruptible wait (storage, NFS?)".to_owned(),
        Some('R') => "is busy on a processor".to_owned(),
        Some('S') => "sleeps".to_owned(),
        Some('Z') => "is dead and not waited for".to_owned(),
        Some(other) => format!("is in state {other}"),
        None => "cannot be looked at".to_owned(),
    }
}

/// Bytes of the request that the other end's kernel never acknowledged. Those that this host's own
/// output path refused count as never sent: `tcp_write_xmit` goes on behind what was sent only.
pub(super) fn undelivered(case: &Case) -> Option<u32> {
    let connection: &Connection = case.connection.as_ref()?;
    let bytes = connection
        .unacknowledged?
        .saturating_add(connection.unsent.unwrap_or(0));
    (bytes > 0).then_some(bytes)
}

fn with_delivery(case: &Case, finding: Finding) -> Finding {
    match (undelivered(case), &case.connection) {
        (Some(bytes), Some(connection)) => finding
            .because(format!(
                "{bytes} bytes were sent and never acknowledged, after {} repetitions",
                connection.retransmissions.unwrap_or(0)
            ))
            .missing(
                "what swallowed the segments: the way to the backend, or a backend that is gone",
            ),
        (None, Some(connection)) if connection.unacknowledged == Some(0) => {
            finding.because("the backend's kernel acknowledged everything that nginx sent")
        }
        _ => finding,
    }
}

fn advise(case: &Case, finding: Finding) -> Finding {
    let Some(peer) = &case.host.peer else {
        return finding
            .when(!after::closed_with_nginx(case), |finding| {
                finding.missing("what the backend's process was doing: its end of the connection is not on this host, or gone")
            })
            .fix("look at what the backend does with this request; where it is slow by design, raise `proxy_read_timeout`");
    };
    let pid = peer.owners.first().map(|owner| owner.pid);
    let looked = |command: &str| pid.map(|pid| command.replace("PID", &pid.to_string()));
    match (peer.activity, peer.accepted) {
        (Some('T' | 't'), _) => finding.with(looked("kill -CONT PID"), Finding::fix),
        (_, false) => finding
            .with(looked("cat /proc/PID/wchan /proc/PID/stack  # what keeps it from accepting"), Finding::fix)
            .fix("give the backend more workers or threads: it does not get round to accepting"),
        (Some('D'), _) => finding.with(looked("cat /proc/PID/stack  # what it waits for"), Finding::fix),
        _ => finding
            .with(looked("cat /proc/PID/wchan; ss -tnp | grep pid=PID  # what it waits for: a database, another service, a lock"), Finding::fix)
            .fix("where the backend is slow by design, raise `proxy_read_timeout`"),
    }
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    fn waited(peer: Option<Peer>) -> Case {
        let mut case = after_connect(Phase::AwaitingResponse, Met::Timeout, None);
        case.host.peer = peer;
        case
    }

    fn peer(accepted: bool, unread: u32, activity: char) -> Peer {
        Peer {
            netns: OWN,
            state: "CLOSE_WAIT".to_owned(),
            accepted,
            unread,
            owners: vec![process(977, "app")],
            activity: Some(activity),
        }
    }

    #[test]
    fn what_the_process_does_is_told() {
        for (peer, words) in [
            (peer(true, 0, 'S'), "has read everything"),
            (peer(true, 80, 'D'), "uninterruptible"),
            (peer(false, 80, 'T'), "is stopped"),
            (peer(false, 80, 'S'), "accept queue"),
        ] {
            let verdict = diagnose(&waited(Some(peer))).verdict;
            assert_eq!(verdict.code, Code::BackendSilent);
            assert!(verdict.summary.contains(words), "{}", verdict.summary);
        }
    }

    #[test]
    fn the_member_of_a_group_that_holds_the_connection_is_named() {
        let mut case = waited(Some(peer(false, 80, 'S')));
        let queue = |length| Some(Queue { length, limit: 128 });
        let mut stuck = listener("127.0.0.1:9101", OWN, "stuck");
        stuck.owners = vec![process(977, "app")];
        let mut idle = stuck.clone();
        idle.owners = vec![process(978, "app")];
        (stuck.queue, idle.queue) = (queue(1), queue(0));
        case.host.listeners = vec![idle, stuck];
        let diagnosis = diagnose(&case);
        assert_eq!(diagnosis.verdict.confidence, Confidence::Certain);
        assert!(diagnosis.verdict.summary.contains("(1 of 128"));
        case.host.listeners[0].queue = queue(1);
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Probable);
    }

    #[test]
    fn a_half_open_peer_is_a_full_queue() {
        let half = Peer {
            state: "SYN_RECV".to_owned(),
            ..peer(false, 0, 'S')
        };
        assert_eq!(
            diagnose(&waited(Some(half))).verdict.code,
            Code::AcceptQueueFull
        );
    }

    #[test]
    fn what_was_never_acknowledged_is_hardly_the_backends_silence() {
        for unsent in [0, 80] {
            for peer in [None, Some(peer(true, 0, 'S'))] {
                let mut case = waited(peer);
                if let Some(connection) = &mut case.connection {
                    connection.unacknowledged = Some(80 - unsent);
                    connection.unsent = Some(unsent);
                }
                let verdict = diagnose(&case).verdict;
                assert_eq!(
                    (verdict.code, verdict.confidence),
                    (Code::BackendSilent, Confidence::Possible)
                );
            }
        }
    }
}
