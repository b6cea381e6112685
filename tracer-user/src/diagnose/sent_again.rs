//! What belongs to one SYN and what to another: it is sent again after a second, and what became of
//! the first one need not be what became of the second.

use crate::case::{Case, Fact, KernelTime};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::Confidence;

/// What the kernel answers as it drops comes with the drop; another namespace hears it once its
/// processor gets round to it.
const AT_ONCE: KernelTime = 100_000_000;

/// Whether one of two events can have come of the other: they are near, and no SYN was sent
/// between them.
pub(super) fn belong_together(case: &Case, one: KernelTime, other: KernelTime) -> bool {
    one.abs_diff(other) <= AT_ONCE && !sent_between(case, one, other)
}

/// Whether the SYN was sent again between two events.
pub(super) fn sent_between(case: &Case, one: KernelTime, other: KernelTime) -> bool {
    let between = one.min(other)..one.max(other);
    case.timeline.iter().any(|observed| {
        matches!(observed.fact, Fact::Retransmitted { .. }) && between.contains(&observed.at)
    })
}

/// Takes certainty from a finding that blames a drop at `dropped` where a later SYN was not seen
/// to be dropped: it met something else.
pub(super) fn sent_on_since(case: &Case, dropped: KernelTime, mut finding: Finding) -> Finding {
    let later = case.timeline.iter().rev().find(|observed| {
        matches!(
            observed.fact,
            Fact::Retransmitted {
                error: None | Some(0)
            }
        ) && observed.at > dropped.saturating_add(AT_ONCE)
    });
    if let Some(later) = later {
        finding.confidence = finding.confidence.min(Confidence::Probable);
        finding = finding.missing(format!(
            "what became of the SYN that was sent again {}: it was not seen to be dropped",
            wording::relative(case, later.at)
        ));
    }
    finding
}
