//! `no-live-upstreams`: nginx tried nobody.

use crate::case::{Case, Ending, Undialled};
use crate::diagnose::finding::Finding;
use crate::verdict::{Code, Confidence};

pub(super) fn no_live_upstreams(case: &Case) -> Option<Finding> {
    let Ending::Undialled {
        cause: Undialled::NoLiveUpstreams,
    } = case.attempt.ending
    else {
        return None;
    };
    let name = case.attempt.upstream_name.as_deref().unwrap_or("(unnamed)");
    let codes: Vec<String> = case
        .earlier
        .iter()
        .filter_map(|earlier| {
            Some(format!(
                "{} ({})",
                earlier.server.as_deref()?,
                earlier.code.as_deref()?
            ))
        })
        .collect();
    let led = match codes.is_empty() {
        true => String::new(),
        false => format!("; it failed before: {}", codes.join(", ")),
    };
    let finding = Finding::new(
        Code::NoLiveUpstreams,
        Confidence::Certain,
        format!("nginx tried no server of upstream {name}: it holds every one for unusable{led}"),
    );
    let finding = case.earlier.iter().fold(finding, |finding, earlier| {
        finding.because_at(
            earlier.at,
            format!(
                "before that {} failed: {} ({})",
                earlier.server.as_deref().unwrap_or("a server"),
                earlier.summary,
                earlier.code.as_deref().unwrap_or("?")
            ),
        )
    });
    Some(
        finding
            .when(case.earlier.is_empty(), |finding| {
                finding.missing("the failures that led there: none of these servers was seen to fail; they may be marked `down`, at their `max_conns`, or have failed before the trace")
            })
            .when(!case.earlier.is_empty(), |finding| {
                finding.fix("repair the servers that failed: their verdicts say how (`whyrefused explain CODE`)")
            })
            .fix(format!("look at the servers of `upstream {name}`: `down`, `max_conns`, `max_fails` and `fail_timeout` (10 s by default) decide when nginx tries one again")),
    )
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn the_failures_that_led_there_are_named_or_missed() {
        let cause = Undialled::NoLiveUpstreams;
        let mut case = case("127.0.0.1:9101", Ending::Undialled { cause });
        case.attempt.dialled = None;
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoLiveUpstreams, Confidence::Certain)
        );
        assert_eq!(verdict.missing.len(), 1);
        case.earlier = vec![Earlier {
            at: START - SECOND,
            server: Some("127.0.0.1:9101".to_owned()),
            code: Some("no-listener".to_owned()),
            summary: "nothing listens".to_owned(),
        }];
        let verdict = diagnose(&case).verdict;
        assert!(verdict.missing.is_empty());
        assert!(verdict.summary.contains("127.0.0.1:9101 (no-listener)"));
        assert!(
            verdict.because[0].contains("nothing listens"),
            "{verdict:?}"
        );
    }
}
