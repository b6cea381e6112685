//! A response that the backend ended within its protocol: by a record of FastCGI or a frame of
//! HTTP/2. What became of the connection is another matter.

use crate::case::{Case, Met, Phase};
use crate::diagnose::finding::Finding;
use crate::diagnose::{after, wording};
use crate::verdict::{Code, Confidence};

/// RFC 9113, section 7; the number is the place.
const HTTP_2_ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    HTTP_1_1_REQUIRED,
];
const HTTP_1_1_REQUIRED: &str = "HTTP_1_1_REQUIRED";

/// Both ends speak the protocol: `closed-by-backend`, unless the backend says that it wants another.
pub(super) fn ended_in_protocol(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    if complaint.met != Met::EndedInProtocol {
        return None;
    }
    let message = case.log.as_ref().and_then(|line| line.message.as_deref());
    let message = message.unwrap_or_default();
    let finding = if http_2_error(message) == Some(HTTP_1_1_REQUIRED) {
        wants_http_1(case)
    } else {
        ended(case, message, complaint.phase)
    };
    Some(after::with_listener(
        case,
        after::with_traffic(case, finding),
    ))
}

fn ended(case: &Case, message: &str, phase: Phase) -> Finding {
    let before = match phase {
        Phase::ReadingResponse => "in the middle of its response",
        _ => "before the header of its response was complete",
    };
    Finding::new(
        Code::ClosedByBackend,
        Confidence::Probable,
        format!(
            "{} {} {before}",
            after::backend(case),
            by_what(message)
        ),
    )
    .rule_out(
        Code::ProtocolMismatch,
        "the backend ended the response by the protocol that nginx speaks to it",
    )
    .rule_out(
        Code::ResetByBackend,
        "nginx read how the response ended; no error ended the connection before that",
    )
    .missing("why the backend ended it: that is in its own log")
    .fix("read the backend's log of that moment: its application gave up this request, by an error, a limit or a restart")
}

fn by_what(message: &str) -> String {
    match (http_2_error(message), http_2_number(message)) {
        (Some(name), Some(number)) if message.contains("goaway") => {
            format!("said GOAWAY over HTTP/2, with error {number} ({name}),")
        }
        (Some(name), Some(number)) => {
            format!("reset the HTTP/2 stream of the request, with error {number} ({name}),")
        }
        (None, Some(number)) => format!("ended the request over HTTP/2, with error {number},"),
        _ if message.contains("FastCGI") => "ended the FastCGI request".to_owned(),
        _ => "ended the HTTP/2 stream of the request".to_owned(),
    }
}

fn wants_http_1(case: &Case) -> Finding {
    Finding::new(
        Code::ProtocolMismatch,
        Confidence::Certain,
        format!(
            "{} refused the request over HTTP/2 with error 13 ({HTTP_1_1_REQUIRED}): it wants HTTP/1.1",
            wording::dialled(case)
        ),
    )
    .rule_out(
        Code::NoListener,
        "the connection stood, so something listens there",
    )
    .fix("pass to it with `proxy_pass` and `proxy_http_version 1.1`")
}

fn http_2_error(message: &str) -> Option<&'static str> {
    let number = usize::try_from(http_2_number(message)?).ok()?;
    HTTP_2_ERRORS.get(number).copied()
}

/// The number in `upstream rejected request with error 7`.
fn http_2_number(message: &str) -> Option<u64> {
    let (_, number) = message.split_once(" with error ")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence, Verdict};

    fn of(message: &str) -> Verdict {
        let case = complained(Phase::AwaitingResponse, Met::EndedInProtocol, message);
        diagnose(&case).verdict
    }

    #[test]
    fn an_error_of_http_2_is_told_with_its_number_and_name() {
        for (message, words) in [
            (
                "upstream rejected request with error 7",
                "error 7 (REFUSED_STREAM)",
            ),
            (
                "upstream sent goaway with error 11",
                "error 11 (ENHANCE_YOUR_CALM)",
            ),
            ("upstream rejected request with error 4711", "error 4711"),
            (
                "upstream prematurely closed stream",
                "ended the HTTP/2 stream",
            ),
            (
                "upstream prematurely closed FastCGI stdout",
                "ended the FastCGI request",
            ),
        ] {
            let verdict = of(message);
            assert_eq!(
                (verdict.code, verdict.confidence),
                (Code::ClosedByBackend, Confidence::Probable),
                "{message}"
            );
            assert!(verdict.summary.contains(words), "{}", verdict.summary);
        }
    }

    #[test]
    fn a_backend_that_wants_http_1_speaks_another_protocol() {
        let verdict = of("upstream rejected request with error 13");
        assert_eq!(verdict.code, Code::ProtocolMismatch);
        assert!(verdict.summary.contains("HTTP/1.1"), "{}", verdict.summary);
    }
}
