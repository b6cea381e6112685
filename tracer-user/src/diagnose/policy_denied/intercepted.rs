//! A seccomp filter that answered in place of the call.

use crate::case::{Case, Fact};
use crate::diagnose::finding::Finding;
use crate::diagnose::policy_denied::{call, denied, unit};
use crate::verdict::{Code, Confidence};

/// `syscall_trace_enter` asks seccomp before it runs the tracepoint of the call's entry; the
/// tracepoint of its return is run in any case.
pub(super) fn intercepted(case: &Case, errno: i32) -> Option<Finding> {
    let skipped = case
        .timeline
        .iter()
        .any(|observed| matches!(observed.fact, Fact::CallIntercepted));
    // Where events were missed, that of the entry may be among them.
    let missed = case.coverage.lost_records;
    if !skipped || missed || case.host.seccomp_filter == Some(false) {
        return None;
    }
    let known = case.host.seccomp_filter == Some(true);
    let confidence = match known {
        true => Confidence::Certain,
        false => Confidence::Probable,
    };
    let unit = unit(case);
    Some(
        denied(case, call(case), errno, confidence)
            .policy("seccomp")
            .when(known, |finding| {
                finding.because("the worker runs under a seccomp filter (Seccomp: 2)")
            })
            .when(!known, |finding| {
                finding.missing("the worker's seccomp mode: the process was gone before it was read")
            })
            .rule_out(
                Code::RouteRefused,
                "the call was never entered, so routing was not asked",
            )
            .fix(format!(
                "systemctl show {unit} -p SystemCallFilter -p SystemCallErrorNumber -p RestrictAddressFamilies"
            ))
            .fix(format!(
                "systemctl edit {unit}: [Service] SystemCallFilter=connect allows this one call"
            ))
            .fix("in a container: allow connect in its seccomp profile"),
    )
}
