//! `keepalive-race`: the backend ended an idle connection as nginx reused it.

use crate::case::{Case, Connection, KernelTime, Met, PeerEnd, PeerEnded, Phase};
use crate::diagnose::after::{self, Complaint};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

/// Longer than a segment and its answer take beside the round trip: an end that comes later was
/// an answer to the request.
const CROSSING: u64 = 3_000_000;
/// How long a backend that is busy leaves a request unread before it ends the connection for having
/// been idle.
const LEFT_UNREAD: u64 = 250_000_000;

pub(super) fn keepalive_race(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    let connection = case.connection.as_ref()?;
    let early = matches!(
        complaint.phase,
        Phase::Connecting | Phase::Sending | Phase::AwaitingResponse
    );
    let ended = complaint.met == Met::Closed || complaint.is_reset();
    if !early || !ended || !after::reused(case, connection) {
        return None;
    }
    let (confidence, why) = crossed(case, complaint, connection)?;
    let dialled = wording::dialled(case);
    let idle = idle_when_ended(case, connection);
    let finding = Finding::new(
        Code::KeepaliveRace,
        confidence,
        format!(
            "{} ended a kept connection to {dialled}{} just as nginx sent another request over it",
            after::backend(case),
            idle.map_or_else(String::new, |idle| format!(
                ", idle for {},",
                wording::duration(idle)
            ))
        ),
    )
    .because(why)
    .rule_out(
        Code::ResetByBackend,
        "the connection was ended for being idle, not because of this request",
    )
    .with(idle, |finding, idle| finding.fix(fix(idle)))
    .fix("where requests are not idempotent nginx does not try again by itself: see `proxy_next_upstream non_idempotent`");
    Some(after::with_listener(
        case,
        after::with_traffic(case, finding),
    ))
}

/// Whether the end of the connection and nginx's request crossed, and how that is known.
fn crossed(
    case: &Case,
    complaint: Complaint,
    connection: &Connection,
) -> Option<(Confidence, &'static str)> {
    if complaint.phase == Phase::Connecting {
        return Some((
            Confidence::Certain,
            "the backend had ended the connection before nginx sent anything of its request",
        ));
    }
    let crossing = Crossing::of(case, connection)?;
    match after::fin_received(case) {
        Some(fin) => crossing.of_fin(fin),
        None => crossing.of_reset(after::reset_received(case)?, after::peer_ended(case)),
    }
}

/// When the request was on its way, in what time.
struct Crossing {
    /// As exact as the tick.
    sent: KernelTime,
    tick: u64,
    /// What ends the connection later was an answer to the request.
    latest: KernelTime,
    /// The backend died.
    died: bool,
}

impl Crossing {
    fn of(case: &Case, connection: &Connection) -> Option<Self> {
        let sent = connection.last_sent?;
        let round_trip = u64::from(connection.round_trip_us.unwrap_or(0)) * 1000;
        let travelling = connection.tick.saturating_add(round_trip).saturating_mul(2);
        Some(Self {
            sent,
            tick: connection.tick,
            latest: sent.saturating_add(travelling).saturating_add(CROSSING),
            died: after::death(case).is_some(),
        })
    }

    fn is_before_request(&self, at: KernelTime) -> bool {
        at.saturating_add(self.tick) < self.sent
    }

    fn of_fin(&self, fin: KernelTime) -> Option<(Confidence, &'static str)> {
        if self.is_before_request(fin) {
            return Some((
                Confidence::Certain,
                "the backend's FIN had arrived when nginx sent its request",
            ));
        }
        (fin <= self.latest && !self.died).then_some((
            Confidence::Probable,
            "the backend's FIN and the request crossed on the way",
        ))
    }

    fn of_reset(
        &self,
        reset: KernelTime,
        ended: Option<&PeerEnded>,
    ) -> Option<(Confidence, &'static str)> {
        let reason = ended.and_then(|ended| ended.reason.as_deref());
        let unread = reason == Some("TCP_ABORT_ON_CLOSE");
        let latest = match unread {
            true => self.latest.max(self.sent.saturating_add(LEFT_UNREAD)),
            false => self.latest,
        };
        if self.died || reset > latest {
            return None;
        }
        Some(match ended {
            Some(ended) if ended.how == PeerEnd::ResetInAnswer => (
                Confidence::Certain,
                "the backend's end was closed when the request arrived: its kernel answered with a reset",
            ),
            Some(_) if self.is_before_request(reset) => (
                Confidence::Certain,
                "the backend's reset had arrived when nginx sent its request",
            ),
            Some(_) if unread => (
                Confidence::Probable,
                "the backend closed the connection with the request that had just arrived unread",
            ),
            Some(_) => (
                Confidence::Probable,
                "the backend gave up the connection with a reset as the request came",
            ),
            None => (
                Confidence::Probable,
                "the reset came as fast as a segment and its answer travel: nothing looked at the request",
            ),
        })
    }
}

/// How long nothing had passed when the backend ended the connection.
fn idle_when_ended(case: &Case, connection: &Connection) -> Option<u64> {
    let left: KernelTime = after::peer_left(case)?;
    connection
        .last_received
        .map(|received| left.saturating_sub(received))
}

fn fix(idle: u64) -> String {
    let seconds = idle / 1_000_000_000;
    if seconds >= 2 {
        format!(
            "the backend ends connections that are idle for {}: set `keepalive_timeout {}s;` in the upstream block, below that",
            wording::duration(idle),
            seconds - 1
        )
    } else if seconds == 0 {
        "the backend ends connections that it kept for a moment: keep `keepalive_requests` of the upstream block below the number of requests that it takes over one, and `keepalive_time` below the time that it keeps one".to_owned()
    } else {
        format!(
            "the backend ends connections that are idle for {}: raise its keep-alive timeout above the `keepalive_timeout` of the upstream block (60 s by default)",
            wording::duration(idle)
        )
    }
}

#[cfg(test)]
mod tests;
