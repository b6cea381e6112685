//! Lines of nginx's error log, as `ngx_log_error_core` and the log handlers of http and stream
//! write them.

use std::net::SocketAddr;

use crate::case::{LogLine, Met, Phase, Undialled};

mod after;
mod details;

const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug",
];

/// As long as a line without its end that `NGX_MAX_ERROR_STR` cut, but for blanks at the cut, which
/// its reader leaves out.
const CUT: usize = 2040;
/// Longer than `NGX_MAX_ERROR_STR`, which cuts every line at 2048 bytes, and what syslog adds.
const LONGEST: usize = 4096;

/// What a line says about an attempt. Error numbers are positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// `connect()` itself returned the error (`ngx_event_connect_peer`).
    ConnectFailedSync {
        errno: i32,
    },
    /// The error came by `SO_ERROR` afterwards (`ngx_http_upstream_test_connect`).
    ConnectFailedAsync {
        errno: i32,
    },
    /// nginx's own timer ended the wait for the connection: the kernel gave no error.
    TimedOutConnecting,
    ClientLeft,
    SocketFailed {
        errno: i32,
    },
    BindFailed {
        errno: i32,
    },
    /// On a connection to an upstream that stood.
    AfterConnect {
        phase: Phase,
        met: Met,
        errno: Option<i32>,
    },
    /// nginx dialled nobody.
    Undialled(Undialled),
    /// A resolver did not answer as it should.
    Resolver,
    Other,
}

/// The fields of one line; None where it is none of nginx's error log. A prefix such as syslog's
/// is skipped, and a line cut short gives the fields that it still has.
///
/// nginx writes what its clients send without escaping. A request line can't forge the fields
/// behind it: since 1.21.1 a URI holds no space, and before that the first ` HTTP/` ends it
/// (`ngx_http_parse_request_line`); neither does a `Host` hold one (`ngx_http_validate_host`).
/// The referrer, which may hold anything, comes last.
pub fn parse(bytes: &[u8]) -> Option<LogLine> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let text = text.trim_end_matches(['\n', '\r', '\0']);
    let (level, rest) = after_process(text)?;
    let (connection, rest) = connection_number(rest);
    let (said, fields) = details::split(rest);
    let (message, action) = match said.rsplit_once(" while ") {
        Some((message, action)) => (message, Some(action)),
        None => (said, None),
    };
    let mut line = LogLine {
        text: text.to_owned(),
        level: Some(level.to_owned()),
        message: Some(message.to_owned()),
        action: action.map(str::to_owned),
        connection,
        client: None,
        server: None,
        request: None,
        upstream: None,
        host: None,
        referrer: None,
        cut: text.len() >= CUT,
    };
    details::read(fields, &mut line);
    Some(line)
}

/// The address that nginx dialled, in the form of the events: `a.b.c.d:port`, `[v6]:port` or
/// `unix:/path`. None where the line names a group ("no live upstreams"), or nothing.
pub fn upstream_address(line: &LogLine) -> Option<String> {
    let upstream = line.upstream.as_deref()?;
    let place = match upstream.split_once("://") {
        Some((schema, place)) if schema.bytes().all(|byte| byte.is_ascii_lowercase()) => place,
        _ => upstream,
    };
    if place.starts_with("unix:") {
        return Some(unix_place(place).to_owned());
    }
    let address = place.split(['/', '?', '"']).next()?;
    let address: SocketAddr = address.parse().ok()?;
    Some(address.to_string())
}

/// The line is about an upstream, even where its end, which would name it, was cut off.
pub fn is_about_upstream(line: &LogLine) -> bool {
    let of_upstreams = |action: &str| action.ends_with(" upstream");
    line.upstream.is_some() || line.cut && line.action.as_deref().is_some_and(of_upstreams)
}

/// The upstream block that a line names in place of an address ("no live upstreams").
pub fn group(line: &LogLine) -> Option<String> {
    let upstream = line.upstream.as_deref()?;
    let place = upstream
        .split_once("://")
        .map_or(upstream, |(_, place)| place);
    let name = place.split(['/', '?']).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The name that could not be resolved, by `"%V could not be resolved (%i: %s)"`. A name holds no
/// blank and no quote; what clients and backends say in other messages stands behind one.
pub fn unresolved(line: &LogLine) -> Option<String> {
    let message = line.message.as_deref()?;
    let name = match message.strip_prefix("no resolver defined to resolve ") {
        Some(name) => name,
        None => {
            let (name, rest) = message.split_once(" could not be resolved (")?;
            let (number, _) = rest.split_once(": ")?;
            is_number(number).then_some(name)?
        }
    };
    let is_name = !name.is_empty() && !name.contains([' ', '"']);
    is_name.then(|| name.to_owned())
}

/// Which failure the line reports.
pub fn failure_kind(line: &LogLine) -> FailureKind {
    let message = line.message.as_deref().unwrap_or_default();
    let errno = errno_in(message);
    match (call_that_failed(message), errno) {
        (Some(("connect", "")), Some(errno)) => FailureKind::ConnectFailedAsync { errno },
        (Some(("connect", _)), Some(errno)) => FailureKind::ConnectFailedSync { errno },
        (Some(("socket", _)), Some(errno)) => FailureKind::SocketFailed { errno },
        (Some(("bind", _)), Some(errno)) => FailureKind::BindFailed { errno },
        _ if client_left(message) => FailureKind::ClientLeft,
        _ if message.starts_with("upstream timed out")
            && line.action.as_deref() == Some("connecting to upstream") =>
        {
            FailureKind::TimedOutConnecting
        }
        _ => after::failure_kind(line),
    }
}

/// `ngx_http_upstream_check_broken_connection`, which may say first which call told.
fn client_left(message: &str) -> bool {
    let said = message
        .split_once("() reported that ")
        .filter(|(call, _)| matches!(*call, "epoll_wait" | "kevent"))
        .map_or(message, |(_, said)| said);
    said.starts_with("client prematurely closed connection")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The level, and the text behind `[level] PID#TID: `.
fn after_process(text: &str) -> Option<(&str, &str)> {
    text.match_indices('[').find_map(|(at, _)| {
        let (level, rest) = text[at + 1..].split_once("] ")?;
        let (process, rest) = rest.split_once(": ")?;
        let (pid, tid) = process.split_once('#')?;
        (LEVELS.contains(&level) && is_number(pid) && is_number(tid)).then_some((level, rest))
    })
}

fn connection_number(text: &str) -> (Option<u64>, &str) {
    let number = text.strip_prefix('*').and_then(|rest| {
        let (number, rest) = rest.split_once(' ')?;
        Some((number.parse().ok()?, rest))
    });
    match number {
        Some((number, rest)) => (Some(number), rest),
        None => (None, text),
    }
}

/// `unix:/path` of `unix:/path:/uri` or `unix:/path:`: the http handler puts a colon behind the
/// path and the URI behind that, stream does not.
fn unix_place(place: &str) -> &str {
    let path = &place["unix:".len()..];
    let end = path
        .find(":/")
        .unwrap_or_else(|| path.trim_end_matches(':').len());
    &place[.."unix:".len() + end]
}

/// The call and its argument, of `connect() to 1.2.3.4:80 failed (…)`, `connect() failed (…)` or
/// `bind(1.2.3.4) failed (…)`.
fn call_that_failed(message: &str) -> Option<(&str, &str)> {
    let (said, _) = message.split_once(" failed (")?;
    let (call, argument) = said.split_once('(')?;
    let argument = argument.strip_prefix(')').unwrap_or(argument);
    Some((call, argument.trim_end_matches(')').trim_start()))
}

/// The number of the last `(111: Connection refused)`.
fn errno_in(message: &str) -> Option<i32> {
    let (_, rest) = message.rsplit_once('(')?;
    let (number, _) = rest.split_once(": ")?;
    number.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests;
