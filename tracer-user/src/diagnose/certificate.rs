//! A certificate that was not accepted: both ends speak TLS, and which of them is wrong only their
//! owner knows.

use crate::case::{Case, Met};
use crate::diagnose::finding::Finding;
use crate::diagnose::{after, wording};
use crate::verdict::{Code, Confidence};

/// `undetermined`, with nginx's complaint (`ngx_http_upstream_ssl_handshake`,
/// `ngx_stream_proxy_ssl_handshake`), or that of the backend in a TLS alert.
pub(super) fn certificate(case: &Case) -> Option<Finding> {
    let complaint = after::complaint(case)?;
    let message = case.log.as_ref()?.message.as_deref()?;
    let of_tls = complaint.met == Met::Tls
        || matches!(complaint.met, Met::ReceiveError | Met::SendError) && complaint.errno.is_none();
    if !of_tls || !message.contains("certificate") {
        return None;
    }
    let dialled = wording::dialled(case);
    let finding = if message.starts_with("upstream SSL certificate") {
        Finding::new(
            Code::Undetermined,
            Confidence::Probable,
            format!("nginx did not accept the certificate of {dialled}: {message}"),
        )
        .missing("which of the two is wrong: the certificate that the backend presents, or what nginx was told to trust and to expect")
        .fix("check `proxy_ssl_trusted_certificate`, `proxy_ssl_name` and `proxy_ssl_server_name` against what the backend presents: `openssl s_client -connect ADDRESS -servername NAME`")
    } else {
        Finding::new(
            Code::Undetermined,
            Confidence::Probable,
            format!("{dialled} and nginx did not agree on a certificate: {message}"),
        )
        .missing("which of the two is wrong: the certificate that nginx presents, or what the backend was told to trust")
        .fix("check `proxy_ssl_certificate` and `proxy_ssl_certificate_key` against what the backend trusts")
    };
    let finding = finding.rule_out(Code::ProtocolMismatch, "both ends speak TLS");
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
    use crate::verdict::Code;

    #[test]
    fn a_certificate_that_is_not_accepted_is_no_other_protocol() {
        for (met, message) in [
            (
                Met::Tls,
                "upstream SSL certificate verify error: (18:self-signed certificate)",
            ),
            (
                Met::Tls,
                "SSL_do_handshake() failed (SSL: error:0A000412:SSL routines::sslv3 alert bad certificate:SSL alert number 42)",
            ),
            (
                Met::ReceiveError,
                "SSL_read() failed (SSL: error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert number 116)",
            ),
        ] {
            let verdict = diagnose(&complained(Phase::Handshake, met, message)).verdict;
            assert_eq!(verdict.code, Code::Undetermined, "{message}");
            assert!(verdict.summary.contains(message), "{}", verdict.summary);
        }
    }
}
