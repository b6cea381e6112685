//! `protocol-mismatch`: TCP was fine, and the two ends speak different protocols.

use crate::case::{Case, Met, PeerEnd, Phase};
use crate::diagnose::finding::Finding;
use crate::diagnose::{after, reset_unaccepted, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn protocol_mismatch(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    let message = case
        .log
        .as_ref()
        .and_then(|line| line.message.as_deref())
        .unwrap_or_default();
    let finding = match (complaint.met, complaint.phase) {
        (Met::Tls, _) => tls(case, message),
        (Met::Malformed, _) => malformed(case, message),
        (_, Phase::Handshake) => no_tls_answer(case)?,
        _ => return None,
    };
    Some(after::with_listener(
        case,
        after::with_traffic(case, finding),
    ))
}

fn finding(case: &Case, confidence: Confidence, words: &str) -> Finding {
    Finding::new(
        Code::ProtocolMismatch,
        confidence,
        format!(
            "the connection to {} stood, but {words}",
            wording::dialled(case)
        ),
    )
    .rule_out(
        Code::NoListener,
        "the connection stood, so something listens there",
    )
}

fn tls(case: &Case, message: &str) -> Finding {
    if message.contains("wrong version number") || message.contains("http request") {
        return finding(
            case,
            Confidence::Probable,
            "the backend does not speak TLS: what it sent is no TLS record",
        )
        .fix("pass to it without TLS (`proxy_pass http://…`, `grpc_pass grpc://…`), or to the port on which it speaks TLS");
    }
    finding(case, Confidence::Probable, "the TLS handshake failed")
        .fix("compare protocols, ciphers and the name that nginx sends (`proxy_ssl_protocols`, `proxy_ssl_ciphers`, `proxy_ssl_server_name on`) with what the backend takes")
}

fn malformed(case: &Case, message: &str) -> Finding {
    let words = if message.contains("no valid HTTP") {
        "what the backend sent does not begin as an HTTP/1 response: it may speak TLS, HTTP/2 or something else"
    } else {
        "what the backend sent is no valid response of the protocol that nginx speaks to it"
    };
    finding(case, Confidence::Probable, words)
        .fix("compare the `*_pass` directive (http, https, fastcgi, uwsgi, scgi, grpc, memcached) with what the backend speaks on this port")
}

/// A backend that does not speak TLS reads the ClientHello and hangs up, or waits for the rest of
/// what it takes for a request. One that refuses in TLS says so by an alert.
fn no_tls_answer(case: &Case) -> Option<Finding> {
    if after::death(case).is_some() {
        return None;
    }
    let complaint = after::complaint(case)?;
    let nothing_came = case
        .connection
        .as_ref()
        .is_none_or(|connection| connection.bytes_received.unwrap_or(0) == 0);
    if !nothing_came {
        return None;
    }
    let words = if complaint.met == Met::Timeout {
        let waits = match &case.host.peer {
            Some(peer) => peer.accepted && peer.unread == 0 && peer.activity == Some('S'),
            None => after::closed_with_nginx(case),
        };
        waits.then_some("the backend read the beginning of the TLS handshake and waits for more: it may not speak TLS")?
    } else if complaint.met == Met::Closed || complaint.is_reset() {
        let given_up = after::peer_ended(case).is_some_and(|ended| {
            let reason = ended.reason.as_deref().unwrap_or_default();
            let unread = ended.how == PeerEnd::Reset
                && ["TCP_ABORT_ON_CLOSE", "TCP_STATE"].contains(&reason);
            unread || reset_unaccepted::never_accepted(ended)
        });
        (!given_up).then_some(
            "the backend hung up on the TLS handshake without a TLS alert: it may not speak TLS",
        )?
    } else {
        return None;
    };
    Some(
        finding(case, Confidence::Possible, words)
            .missing("what the backend made of the ClientHello")
            .fix("openssl s_client -connect ADDRESS: does it speak TLS there at all?"),
    )
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_handshake_that_ends_without_an_alert_is_perhaps_no_tls() {
        let mut case = after_connect(Phase::Handshake, Met::Closed, None);
        case.timeline = vec![observed(2_000, Fact::FinReceived)];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::ProtocolMismatch, Confidence::Possible)
        );
        if let Some(connection) = &mut case.connection {
            connection.bytes_received = Some(900);
        }
        assert_eq!(diagnose(&case).verdict.code, Code::ClosedByBackend);
    }

    #[test]
    fn a_backend_that_never_read_the_handshake_reset_it() {
        let reset = Some(libc::ECONNRESET);
        let mut case = after_connect(Phase::Handshake, Met::ReceiveError, reset);
        case.timeline = vec![
            observed(2_000, peer_ended(PeerEnd::Reset, "TCP_ABORT_ON_CLOSE")),
            observed(2_001, Fact::ResetReceived),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::ResetByBackend);
    }

    #[test]
    fn what_is_no_response_is_no_http() {
        let case = after_connect(Phase::AwaitingResponse, Met::Malformed, None);
        assert_eq!(diagnose(&case).verdict.code, Code::ProtocolMismatch);
        let case = after_connect(Phase::AwaitingResponse, Met::TooBig, None);
        assert_eq!(diagnose(&case).verdict.code, Code::NginxLimit);
    }
}
