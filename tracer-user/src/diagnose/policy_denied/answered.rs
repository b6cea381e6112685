//! What the kernel's security modules answered, where that was observed.

use crate::case::{Case, Ending, Fact, Family};
use crate::diagnose::coverage::{self, Observation};
use crate::diagnose::finding::Finding;
use crate::diagnose::policy_denied::suspect::{Suspect, suspects};
use crate::diagnose::policy_denied::{call, denied};
use crate::verdict::{Code, Confidence};

/// The answer of all security modules together to `connect()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Denied,
    /// They let it through: something else refused.
    Allowed,
    Unknown,
}

pub(super) fn answer(case: &Case) -> Answer {
    let told = |fact: &Fact| matches!(fact, Fact::SecurityDenied { .. });
    if case.timeline.iter().any(|observed| told(&observed.fact)) {
        return Answer::Denied;
    }
    // The path to a Unix socket is judged apart from that (`path_permission` in `unix_find_bsd`).
    let observed = matches!(case.attempt.ending, Ending::ConnectFailed { .. })
        && case.attempt.family != Family::Unix
        && coverage::silence_proves(&case.coverage, &[Observation::SecurityAnswer]);
    match observed {
        true => Answer::Allowed,
        false => Answer::Unknown,
    }
}

/// A security module denied the call; which one is told by what the host runs.
pub(super) fn answered(case: &Case, errno: i32) -> Option<Finding> {
    if answer(case) != Answer::Denied {
        return None;
    }
    let finding = denied(case, call(case), errno, Confidence::Certain).rule_out(
        Code::RouteRefused,
        "a security module denied the call before routing was asked",
    );
    let suspects = suspects(case, errno);
    Some(match suspects.as_slice() {
        [] => finding
            .missing("which security module it was: none that gives this error was found")
            .fix("journalctl -k | grep -i -e denied -e audit"),
        [only] => only.name_in(case, finding),
        several => {
            let names: Vec<&str> = several.iter().map(Suspect::name).collect();
            several
                .iter()
                .fold(finding, |finding, suspect| suspect.remedy(case, finding))
                .missing(format!(
                    "which security module it was: {}",
                    names.join(", ")
                ))
        }
    })
}
