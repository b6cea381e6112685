//! `closed-by-backend`: the connection stood and ended with a FIN before a complete response.

use crate::case::{Case, Met, Phase};
use crate::diagnose::after;
use crate::diagnose::finding::Finding;
use crate::verdict::{Code, Confidence};

/// nginx says that the response is not complete; a FIN, which carries no error, says who closed.
pub(super) fn closed_by_backend(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    if complaint.met != Met::Closed {
        return None;
    }
    let before = match complaint.phase {
        Phase::ReadingResponse => "in the middle of its response",
        _ => "before the header of its response was complete",
    };
    let death = after::death(case);
    let summary = match &death {
        Some((who, death)) => {
            format!("{who} {} {before}", after::died(death))
        }
        None => format!("{} closed the connection {before}", after::backend(case)),
    };
    let (confidence, no_reset) = match after::fin_received(case) {
        Some(_) => (
            Confidence::Certain,
            "a FIN ended the connection, not a reset",
        ),
        None => (
            Confidence::Probable,
            "nginx read the end of what the backend sent, and no error",
        ),
    };
    let finding = Finding::new(Code::ClosedByBackend, confidence, summary)
        .rule_out(Code::ResetByBackend, no_reset)
        .fix(match death {
            Some(_) => "find out why the backend's process ended: its log, its service manager (`journalctl -u UNIT`), `dmesg`",
            None => "read the backend's log of that moment: its process closed the connection itself, by an error, a timeout of its own or a worker's restart",
        });
    Some(after::with_listener(
        case,
        after::with_traffic(case, finding),
    ))
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_fin_is_the_backends_and_its_death_says_why() {
        let mut case = after_connect(Phase::AwaitingResponse, Met::Closed, None);
        case.timeline = vec![observed(40_000, Fact::FinReceived)];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::ClosedByBackend, Confidence::Certain)
        );
        let mut died = peer_ended(PeerEnd::Closed, "");
        if let Fact::PeerEnded(ended) = &mut died {
            ended.death = Some(Death::OomKilled);
        }
        case.timeline.push(observed(39_990, died));
        let summary = diagnose(&case).verdict.summary;
        assert!(
            summary.contains("app[977] was killed by the OOM killer"),
            "{summary}"
        );
    }

    #[test]
    fn the_log_alone_is_not_certain() {
        let mut case = after_connect(Phase::ReadingResponse, Met::Closed, None);
        case.connection = None;
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::ClosedByBackend, Confidence::Probable)
        );
        assert!(!verdict.missing.is_empty());
    }
}
