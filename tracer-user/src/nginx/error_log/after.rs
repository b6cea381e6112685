//! Lines about connections that stood, and about none at all.

use super::{FailureKind, call_that_failed, errno_in, is_number};
use crate::case::{LogLine, Met, Phase, Undialled};

/// Levels at which nginx complains of an upstream. What a client does is told below them
/// (`NGX_ERROR_INFO`), and so is what nginx copes with.
const COMPLAINTS: [&str; 4] = ["error", "crit", "alert", "emerg"];

/// Beginnings of messages about what is no response of the protocol.
const MALFORMED: [&str; 3] = [
    "upstream sent ",
    "upstream prematurely sent response",
    "memcached sent invalid ",
];

/// Beginnings of messages about backends that end a response within their protocol, by an
/// END_REQUEST or an empty record of FastCGI, or by a frame of HTTP/2 (`ngx_http_fastcgi_module.c`,
/// `ngx_http_grpc_module.c`).
const ENDED_IN_PROTOCOL: [&str; 5] = [
    "upstream prematurely closed FastCGI stdout",
    "upstream prematurely closed FastCGI request",
    "upstream prematurely closed stream",
    "upstream rejected request with error ",
    "upstream sent goaway with error ",
];

pub(super) fn failure_kind(line: &LogLine) -> FailureKind {
    let message = line.message.as_deref().unwrap_or_default();
    let action = line.action.as_deref().unwrap_or_default();
    let complains = line
        .level
        .as_deref()
        .is_some_and(|level| COMPLAINTS.contains(&level));
    // Datagrams have no connection that could stand.
    if !complains || line.text.contains(", udp client: ") {
        return FailureKind::Other;
    }
    if let Some(kind) = undialled(line, message, action) {
        return kind;
    }
    let met = met(message);
    let passing_on = passing_on(line, action, met);
    let about_upstream = super::is_about_upstream(line) || line.cut && passing_on.is_some();
    match (about_upstream, phase(action).or(passing_on), met) {
        // A tunnel that is idle too long, or that its backend closes, ends as tunnels do.
        (true, Some(Phase::Proxying), Some(Met::Timeout | Met::Closed)) => FailureKind::Other,
        (true, Some(phase), Some(met)) => FailureKind::AfterConnect {
            phase,
            met,
            errno: errno_of(met, message),
        },
        _ => FailureKind::Other,
    }
}

/// Without buffers, nginx reads from the upstream whenever it can send to the client
/// (`ngx_http_upstream_process_non_buffered_downstream`). What it meets at the client then is told
/// below `error`, or above it where TLS or the call itself is at fault (`ngx_connection_error`,
/// `ngx_ssl_error`).
fn passing_on(line: &LogLine, action: &str, met: Option<Met>) -> Option<Phase> {
    let of_upstream = match met? {
        Met::Closed | Met::EndedInProtocol | Met::Malformed => true,
        Met::ReceiveError => {
            let message = line.message.as_deref().unwrap_or_default();
            errno_in(message).is_some()
        }
        _ => false,
    };
    let told = action == "sending to client" && line.level.as_deref() == Some("error");
    (told && of_upstream).then_some(Phase::ReadingResponse)
}

/// Nothing that clients or backends name may stand in these messages: it is quoted, or behind
/// `open()` and the like.
fn undialled(line: &LogLine, message: &str, action: &str) -> Option<FailureKind> {
    if message.starts_with("no live upstreams") {
        return Some(FailureKind::Undialled(Undialled::NoLiveUpstreams));
    }
    if super::unresolved(line).is_some() {
        return Some(FailureKind::Undialled(Undialled::Unresolved));
    }
    let number = message.strip_suffix(" worker_connections are not enough");
    if number.is_some_and(is_number) && super::is_about_upstream(line) {
        return Some(FailureKind::Undialled(Undialled::OutOfConnections));
    }
    let of_a_resolver = action.starts_with("resolving") && !message.contains('"');
    of_a_resolver.then_some(FailureKind::Resolver)
}

/// What nginx was doing, by `log->action` of its http and stream modules.
fn phase(action: &str) -> Option<Phase> {
    Some(match action {
        "connecting to upstream" => Phase::Connecting,
        "SSL handshaking to upstream" => Phase::Handshake,
        "sending request to upstream" | "sending PROXY protocol header to upstream" => {
            Phase::Sending
        }
        "reading response header from upstream" | "reading response from upstream" => {
            Phase::AwaitingResponse
        }
        "reading upstream" => Phase::ReadingResponse,
        "proxying connection"
        | "proxying upgraded connection"
        | "proxying and reading from upstream"
        | "proxying and sending to upstream" => Phase::Proxying,
        _ => return None,
    })
}

fn met(message: &str) -> Option<Met> {
    let call = call_that_failed(message).map(|(call, _)| call);
    Some(match call {
        Some("recv" | "readv" | "SSL_read") => Met::ReceiveError,
        Some("send" | "writev" | "sendfile" | "SSL_write" | "SSL_sendfile" | "sendmsg") => {
            Met::SendError
        }
        Some("SSL_do_handshake") => Met::Tls,
        _ => return met_in_words(message),
    })
}

fn met_in_words(message: &str) -> Option<Met> {
    let begins = |words: &&str| message.starts_with(*words);
    if ENDED_IN_PROTOCOL.iter().any(begins) {
        Some(Met::EndedInProtocol)
    } else if message.starts_with("upstream prematurely closed connection") {
        Some(Met::Closed)
    } else if message.starts_with("peer closed connection in SSL handshake") {
        Some(match errno_in(message) {
            Some(_) => Met::ReceiveError,
            None => Met::Closed,
        })
    } else if message.starts_with("upstream timed out") {
        Some(Met::Timeout)
    } else if message.starts_with("upstream SSL certificate") {
        Some(Met::Tls)
    } else if message.starts_with("upstream sent too big header") {
        Some(Met::TooBig)
    } else if MALFORMED.iter().any(begins) {
        Some(Met::Malformed)
    } else {
        None
    }
}

/// nginx adds a constant ETIMEDOUT to its own timeouts: no call returned it.
fn errno_of(met: Met, message: &str) -> Option<i32> {
    match met {
        Met::SocketError | Met::ReceiveError | Met::SendError => errno_in(message),
        _ => None,
    }
}
