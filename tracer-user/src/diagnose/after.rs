//! What the causes of failures on connections that stood have in common.

mod reuse;

use crate::case::{
    Case, Death, EndedListener, Ending, Fact, KernelTime, Listener, Met, PeerEnd, PeerEnded, Phase,
    Process,
};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, reset_unaccepted, wording};
use crate::verdict::{Code, Confidence};

pub(super) use reuse::reused;

/// A listener and the connections of its process end this close to each other.
const TOGETHER: u64 = 1_000_000_000;
/// Clocks of processors differ by less than this.
const SKEW: u64 = 1_000_000;

/// What nginx was doing, what it met, and the error number that it logged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Complaint {
    pub phase: Phase,
    pub met: Met,
    pub errno: Option<i32>,
}

pub(super) fn complaint(case: &Case) -> Option<Complaint> {
    match case.attempt.ending {
        Ending::AfterConnect { phase, met, errno } => Some(Complaint { phase, met, errno }),
        _ => None,
    }
}

impl Complaint {
    /// A reset, or what the kernel makes of one that follows a FIN (`tcp_reset`).
    pub fn is_reset(self) -> bool {
        matches!(self.errno, Some(libc::ECONNRESET | libc::EPIPE))
    }
}

/// When the peer's end of the connection showed: its FIN, or its reset.
pub(super) fn peer_left(case: &Case) -> Option<KernelTime> {
    case.timeline
        .iter()
        .find(|seen| matches!(seen.fact, Fact::FinReceived | Fact::ResetReceived))
        .map(|seen| seen.at)
}

pub(super) fn fin_received(case: &Case) -> Option<KernelTime> {
    case.timeline
        .iter()
        .find(|seen| matches!(seen.fact, Fact::FinReceived))
        .map(|seen| seen.at)
}

pub(super) fn reset_received(case: &Case) -> Option<KernelTime> {
    case.timeline
        .iter()
        .find(|seen| matches!(seen.fact, Fact::ResetReceived))
        .map(|seen| seen.at)
}

/// How the other end ended the connection, where it did on this host. What a process did of its
/// own accord goes before what the kernel answered once that was done; what it did once nginx had
/// complained came of that, or of nothing.
pub(super) fn peer_ended(case: &Case) -> Option<&PeerEnded> {
    let latest = case.attempt.ended.saturating_add(SKEW);
    let before = case.timeline.iter().filter(|seen| seen.at <= latest);
    let mut ends = before.filter_map(|seen| match &seen.fact {
        Fact::PeerEnded(ended) if !ended.how.is_filtered() => Some(ended),
        _ => None,
    });
    let first = ends.next()?;
    match first.how {
        PeerEnd::ResetInAnswer => ends
            .find(|end| end.how != PeerEnd::ResetInAnswer)
            .or(Some(first)),
        _ => Some(first),
    }
}

/// The listener that took the connection.
pub(super) fn listener(case: &Case) -> Option<&Listener> {
    let target = addresses::target(case)?;
    let homes = addresses::homes(case);
    let covering =
        case.host.listeners.iter().filter(|listener| {
            homes.contains(&listener.netns) && addresses::covers(listener, target)
        });
    let by = peer_ended(case).map(|ended| ended.pid);
    let held = case.host.peer.iter().flat_map(|peer| &peer.owners);
    let holders: Vec<u32> = by.into_iter().chain(held.map(|owner| owner.pid)).collect();
    holders
        .iter()
        .find_map(|pid| {
            let owned = |listener: &&Listener| listener.owners.iter().any(|own| own.pid == *pid);
            covering.clone().find(owned)
        })
        .or_else(|| covering.clone().next())
}

/// The listener that took the connection and ended with it.
pub(super) fn ended_listener(case: &Case) -> Option<&EndedListener> {
    let target = addresses::target(case)?;
    let homes = addresses::homes(case);
    let left = peer_left(case).unwrap_or(case.attempt.ended);
    case.host
        .ended
        .iter()
        .filter(|ended| homes.contains(&ended.listener.netns))
        .filter(|ended| addresses::covers(&ended.listener, target))
        .filter(|ended| ended.at.abs_diff(left) < TOGETHER)
        .max_by_key(|ended| ended.at)
}

/// Points at the listener that took the connection, be it alive or not.
pub(super) fn with_listener(case: &Case, finding: Finding) -> Finding {
    match ended_listener(case) {
        Some(ended) => {
            let mut finding = finding.listener(Some(&ended.listener));
            finding.ended = Some((ended.at, ended.death.clone()));
            finding
        }
        None => {
            let mut finding = finding.listener(listener(case));
            if let Some(listener) = &mut finding.listener
                && listener.owners.is_empty()
            {
                listener.owners = holders(case);
            }
            finding
        }
    }
}

/// Who held the other end: what holds a connection was given it by the listener, or is the
/// process that holds that.
fn holders(case: &Case) -> Vec<Process> {
    if let Some(peer) = &case.host.peer {
        return peer.owners.clone();
    }
    let ended = peer_ended(case).filter(|ended| ended.how != PeerEnd::ResetInAnswer);
    ended
        .map(|ended| Process {
            pid: ended.pid,
            comm: ended.comm.clone(),
            exe: None,
            unit: None,
            container: None,
            nginx: false,
        })
        .into_iter()
        .collect()
}

/// How a process ended, as the end of a sentence about it.
pub(super) fn died(death: &Death) -> String {
    match death {
        Death::Closed => "closed its socket".to_owned(),
        Death::Exited { status } => format!("exited with status {status}"),
        Death::Killed {
            signal,
            core,
            sender,
        } => {
            let mut words = format!("was killed by {}", wording::signal_name(*signal));
            if let Some(sender) = sender {
                words.push_str(&format!(" from {}[{}]", sender.comm, sender.pid));
            }
            if *core {
                words.push_str(" and dumped core");
            }
            words
        }
        Death::OomKilled => "was killed by the OOM killer".to_owned(),
    }
}

/// The death that ended the connection: of the process that held it, or that its listener shows.
pub(super) fn death(case: &Case) -> Option<(String, &Death)> {
    if let Some(ended) = peer_ended(case)
        && let Some(death) = &ended.death
    {
        return Some((format!("{}[{}]", ended.comm, ended.pid), death));
    }
    let ended = ended_listener(case)?;
    let died = !matches!(ended.death, Death::Closed);
    died.then(|| (wording::owner(&ended.listener.owners), &ended.death))
}

/// Who is at the other end, for the beginning of a sentence.
pub(super) fn backend(case: &Case) -> String {
    if let Some(ended) = peer_ended(case)
        && ended.how != PeerEnd::ResetInAnswer
    {
        return format!("{}[{}]", ended.comm, ended.pid);
    }
    match listener(case).and_then(|listener| listener.owners.first()) {
        Some(owner) => wording::process(owner),
        None => format!("the backend {}", wording::dialled(case)),
    }
}

/// The other end on this host is gone although nothing but nginx's own FIN can have ended it: its
/// process had accepted the connection, is alive, and waited for nginx to say more. A process that
/// has not accepted or read, or is stopped, leaves its end as it is.
pub(super) fn closed_with_nginx(case: &Case) -> bool {
    let looked = case.host.unread.is_empty() && case.attempt.local.is_some();
    let delivered = case.connection.as_ref().is_some_and(|connection| {
        connection.unacknowledged == Some(0) && connection.unsent.unwrap_or(0) == 0
    });
    looked && delivered && case.host.peer.is_none() && listener(case).is_some()
}

/// What had passed over the connection, where the kernel keeps count.
pub(super) fn with_traffic(case: &Case, finding: Finding) -> Finding {
    let Some(connection) = &case.connection else {
        return finding.missing("the connection's own record: it was made before the trace, or nginx did not close it with its complaint");
    };
    let finding = match (connection.bytes_sent, connection.bytes_received) {
        (Some(sent), Some(received)) => finding.because(format!(
            "over this connection nginx had sent {sent} bytes and received {received}"
        )),
        _ => finding,
    };
    match (reused(case, connection), connection.last_sent, connection.last_received) {
        (true, Some(sent), Some(received)) if received < sent => finding.because(format!(
            "nginx had kept the connection from an earlier request: nothing had passed for {} when it sent the last one",
            wording::duration(sent.saturating_sub(received))
        )),
        _ => finding,
    }
}

/// How the other end ended the connection, in words for the story.
pub(super) fn peer_ended_words(case: &Case, ended: &PeerEnded) -> String {
    let place = wording::namespace(case, ended.netns);
    let who = format!("{}[{}] in {place}", ended.comm, ended.pid);
    let reason = ended.reason.as_deref().unwrap_or("no reason given");
    let dying = ended.death.as_ref().map(died);
    match (ended.how, ended.accepted) {
        (PeerEnd::RequestFiltered, _) => {
            format!("netfilter of {place} freed a segment of nginx, last then")
        }
        (PeerEnd::ResponseFiltered, _) => {
            format!("netfilter of {place} freed a segment for nginx, last then")
        }
        (PeerEnd::ResetInAnswer, _) if ended.listening => format!(
            "the listener in {place} answered a segment of the connection with a reset ({reason})"
        ),
        (PeerEnd::ResetInAnswer, _) => format!(
            "the kernel of {place} answered a segment of the connection with a reset ({reason})"
        ),
        (PeerEnd::Reset, false) if !reset_unaccepted::never_accepted(ended) => format!(
            "the kernel of {place} reset the connection, which its process had closed ({reason})"
        ),
        (PeerEnd::Reset, false) => format!(
            "{who} ended the listener in whose accept queue the connection waited, and its kernel reset it ({reason})"
        ),
        (PeerEnd::Reset, true) => match dying {
            Some(dying) => format!("{who} {dying}, and its kernel reset the connection ({reason})"),
            None => format!("{who} gave up the connection with a reset ({reason})"),
        },
        (PeerEnd::Closed, _) => match dying {
            Some(dying) => format!("{who} {dying}, and its kernel closed the connection"),
            None => format!("{who} closed the connection"),
        },
    }
}

/// What is said where no cause fits.
pub(super) fn unexplained(case: &Case) -> Finding {
    let words = match complaint(case).and_then(|complaint| complaint.errno) {
        Some(errno) => format!(
            "the connection to {} stood and failed with {}",
            wording::dialled(case),
            wording::errno_name(errno)
        ),
        None => format!(
            "the connection to {} stood and failed",
            wording::dialled(case)
        ),
    };
    let finding = Finding::new(Code::Undetermined, Confidence::Possible, words)
        .missing("what ended the connection");
    with_traffic(case, finding)
}
