//! Whether a connection was used again.

use crate::case::{Case, Connection, KernelTime, Phase};
use crate::diagnose::after::complaint;

/// What a fresh connection takes from its beginning to its request, at the most, beside the
/// kernel's tick.
const FIRST_REQUEST: u64 = 2_000_000;
/// Bytes that hardly any path splits.
const ONE_SEGMENT: u64 = 1_200;

/// The connection had carried another request before this one. Of a response that stops within its
/// header data comes, too, but behind the request; a TLS handshake and the settings of HTTP/2 come
/// before it, and the request follows them at once.
pub(in crate::diagnose) fn reused(case: &Case, connection: &Connection) -> bool {
    let (Some(sent), Some(received)) = (connection.last_sent, connection.last_received) else {
        return false;
    };
    if connection.bytes_received.is_none_or(|bytes| bytes == 0) {
        return false;
    }
    let round_trip = u64::from(connection.round_trip_us.unwrap_or(0)) * 1000;
    let pause = connection
        .tick
        .saturating_add(round_trip)
        .saturating_mul(2)
        .saturating_add(FIRST_REQUEST);
    let paused = |from: KernelTime, to: KernelTime| from.saturating_add(pause) < to;
    // Nothing but its first request is sent right after it stands.
    let again = paused(connection.established, sent);
    let speaks_second = speaks_second(case);
    match complaint(case).map(|complaint| complaint.phase) {
        // What had been sent was an earlier request.
        Some(Phase::Connecting) => {
            connection.bytes_sent.is_some_and(|bytes| bytes > 0)
                && (speaks_second || paused(sent.max(received), case.attempt.ended))
        }
        // The request is out, and both times are as exact as the tick.
        Some(Phase::AwaitingResponse) if speaks_second => {
            received < sent || received == sent && (again || sent_twice(connection))
        }
        _ => again && paused(received, sent),
    }
}

/// Of a request that fits into a segment the backend's kernel acknowledges all or nothing.
fn sent_twice(connection: &Connection) -> bool {
    let left = connection.unacknowledged.unwrap_or(0);
    connection.retransmissions == Some(0)
        && connection
            .bytes_sent
            .is_some_and(|bytes| bytes <= ONE_SEGMENT && 0 < left && u64::from(left) < bytes)
}

/// Whether nginx keeps connections of that protocol, and a backend says nothing over them before a
/// request has come.
fn speaks_second(case: &Case) -> bool {
    let upstream = case.log.as_ref().and_then(|line| line.upstream.as_deref());
    let scheme = upstream.and_then(|upstream| upstream.split_once("://"));
    matches!(scheme, Some(("http" | "fastcgi" | "memcached", _)))
}
