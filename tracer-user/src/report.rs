//! Turns a diagnosed case into the event that users read.

use std::net::SocketAddr;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::case::{self, Case, Coverage, Death, Endpoint, KernelTime};
use crate::escape::{text_of_bytes, visible};
use crate::event::{
    Attempt, Candidate, Ended, Failure, Family, How, Listener, Nginx, Recovery, Request, Rule,
    SCHEMA, Upstream,
};
use crate::recovery::Recovered;
use crate::verdict::{Diagnosis, RuledOut, Verdict};

/// The event about one failed attempt. `logged_upstream` is the address that nginx's error log
/// names for it; it stands in where nginx failed before it dialled.
pub fn failure(
    case: &Case,
    diagnosis: &Diagnosis,
    host: &str,
    logged_upstream: Option<String>,
) -> Failure {
    Failure {
        schema: SCHEMA.to_owned(),
        time: time_text(case.attempt.ended, &case.coverage),
        host: host.to_owned(),
        count: 1,
        nginx: nginx(&case.worker),
        upstream: upstream(&case.attempt, logged_upstream),
        attempt: attempt(case, diagnosis),
        verdict: harmless(&diagnosis.verdict),
        rule: diagnosis.rule.as_ref().map(harmless_rule),
        listener: place(diagnosis).map(|socket| listener(socket, diagnosis, &case.coverage)),
        candidates: places(diagnosis).into_iter().map(candidate).collect(),
        request: case.log.as_ref().map(request),
    }
}

/// The verdict with control characters made visible: its sentences carry the names of processes,
/// and people print them straight out of the JSON.
fn harmless(verdict: &Verdict) -> Verdict {
    let text = |text: &String| visible(text).into_owned();
    let texts = |texts: &Vec<String>| texts.iter().map(text).collect();
    Verdict {
        code: verdict.code,
        confidence: verdict.confidence,
        summary: text(&verdict.summary),
        because: texts(&verdict.because),
        ruled_out: verdict
            .ruled_out
            .iter()
            .map(|ruled_out| RuledOut {
                code: ruled_out.code,
                why: text(&ruled_out.why),
            })
            .collect(),
        missing: texts(&verdict.missing),
        fix: texts(&verdict.fix),
        policy: verdict.policy.as_ref().map(text),
    }
}

/// The same for a rule: whoever may write one chooses its text and comment.
fn harmless_rule(rule: &Rule) -> Rule {
    let text = |text: &String| visible(text).into_owned();
    Rule {
        table: text(&rule.table),
        chain: text(&rule.chain),
        action: text(&rule.action),
        text: text(&rule.text),
        base_chain: rule.base_chain.as_ref().map(text),
        comment: rule.comment.as_ref().map(text),
        alternatives: rule.alternatives.iter().map(harmless_rule).collect(),
        ..rule.clone()
    }
}

/// The server that an attempt was meant for.
pub fn upstream(attempt: &case::Attempt, logged: Option<String>) -> Upstream {
    Upstream {
        address: attempt.dialled.as_ref().map(endpoint_text).or(logged),
        name: attempt.upstream_name.clone(),
        server: attempt.upstream_server.clone(),
    }
}

/// The event about an upstream address that accepts again.
pub fn recovery(recovered: Recovered, coverage: &Coverage, host: &str) -> Recovery {
    Recovery {
        schema: SCHEMA.to_owned(),
        time: time_text(recovered.at, coverage),
        host: host.to_owned(),
        upstream: recovered.upstream,
        down_for_ms: recovered.down_for_ms,
        failures: recovered.failures,
    }
}

/// An address as nginx writes it: `a.b.c.d:port`, `[v6]:port` or `unix:/path`. Bytes of a path
/// that are no UTF-8 are escaped; the leading NUL of an abstract address is written as `@`, the
/// custom of `ss` and `unix(7)`.
pub fn endpoint_text(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Inet(address) => address.to_string(),
        Endpoint::Unix(path) => unix_text(path),
    }
}

/// The name of a Unix socket, as [`endpoint_text`] has it.
pub fn unix_text(name: &[u8]) -> String {
    match name.split_first() {
        Some((0, name)) => format!("unix:@{}", text_of_bytes(name)),
        _ => format!("unix:{}", text_of_bytes(name)),
    }
}

/// Kernel time as RFC 3339, UTC, with nanoseconds.
pub fn time_text(at: KernelTime, coverage: &Coverage) -> String {
    let since_epoch = i128::from(at) + i128::from(coverage.wall_offset_ns);
    timestamp_text(Timestamp::from_nanosecond(since_epoch).unwrap_or(Timestamp::MAX))
}

/// A moment as RFC 3339, UTC, with nanoseconds.
pub fn timestamp_text(moment: Timestamp) -> String {
    format!("{moment:.9}")
}

/// The symbolic name of an error number, such as `ECONNREFUSED`.
pub fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}

/// The name of a signal, such as `SIGKILL` or `SIGRTMIN+3`.
pub fn signal_name(signal: i32) -> String {
    if let Ok(known) = Signal::try_from(signal) {
        return known.as_str().to_owned();
    }
    match signal.saturating_sub(libc::SIGRTMIN()) {
        0 => "SIGRTMIN".to_owned(),
        offset if offset > 0 && signal <= libc::SIGRTMAX() => format!("SIGRTMIN+{offset}"),
        _ => format!("signal {signal}"),
    }
}

fn nginx(worker: &case::Worker) -> Nginx {
    Nginx {
        pid: worker.pid,
        master_pid: worker.master_pid,
        exe: worker.exe.clone(),
        config: worker.config.clone(),
        netns: worker.netns,
        container: worker.container.clone(),
    }
}

fn attempt(case: &Case, diagnosis: &Diagnosis) -> Attempt {
    let attempt = &case.attempt;
    Attempt {
        family: match attempt.family {
            case::Family::Ipv4 => Family::Ipv4,
            case::Family::Ipv6 => Family::Ipv6,
            case::Family::Unix => Family::Unix,
        },
        local: attempt.local.map(|address| address.to_string()),
        remote: remote(attempt).map(|address| address.to_string()),
        started: time_text(attempt.started, &case.coverage),
        duration_us: attempt.ended.saturating_sub(attempt.started) / 1000,
        errno: diagnosis.errno.map(errno_name),
        surface: diagnosis.surface,
        translated_to: diagnosis.translated_to.map(|address| address.to_string()),
    }
}

/// A socket that routing refused never got a destination of its own: it was the dialled one.
fn remote(attempt: &case::Attempt) -> Option<SocketAddr> {
    attempt.remote.or(match attempt.dialled {
        Some(Endpoint::Inet(address)) => Some(address),
        _ => None,
    })
}

/// What a listener on TCP and one on a Unix socket have in common.
struct Place<'a> {
    address: String,
    netns: case::Netns,
    owner: Option<&'a case::Process>,
}

impl<'a> From<&'a case::Listener> for Place<'a> {
    fn from(listener: &'a case::Listener) -> Self {
        Self {
            address: listener.address.to_string(),
            netns: listener.netns,
            owner: listener.owners.first(),
        }
    }
}

impl<'a> From<&'a case::UnixSocket> for Place<'a> {
    fn from(socket: &'a case::UnixSocket) -> Self {
        Self {
            address: unix_text(&socket.name),
            netns: socket.netns,
            owner: socket.owners.first(),
        }
    }
}

fn place(diagnosis: &Diagnosis) -> Option<Place<'_>> {
    let unix = || diagnosis.unix_listener.as_ref().map(Place::from);
    diagnosis.listener.as_ref().map(Place::from).or_else(unix)
}

fn places(diagnosis: &Diagnosis) -> Vec<Place<'_>> {
    let unix = diagnosis.unix_candidates.iter().map(Place::from);
    diagnosis
        .candidates
        .iter()
        .map(Place::from)
        .chain(unix)
        .collect()
}

fn listener(socket: Place<'_>, diagnosis: &Diagnosis, coverage: &Coverage) -> Listener {
    let owner = socket.owner;
    Listener {
        address: socket.address,
        pid: owner.map(|process| process.pid),
        comm: owner.map(|process| process.comm.clone()),
        exe: owner.and_then(|process| process.exe.clone()),
        unit: owner.and_then(|process| process.unit.clone()),
        container: owner.and_then(|process| process.container.clone()),
        netns: socket.netns,
        ended: diagnosis
            .ended
            .as_ref()
            .map(|(at, death)| ended(*at, death, coverage)),
    }
}

fn ended(at: KernelTime, death: &Death, coverage: &Coverage) -> Ended {
    let mut ended = Ended {
        time: time_text(at, coverage),
        how: How::Closed,
        status: None,
        signal: None,
        core: None,
    };
    match death {
        Death::Closed => {}
        Death::Exited { status } => {
            ended.how = How::Exited;
            ended.status = Some(*status);
        }
        Death::Killed { signal, core, .. } => {
            ended.how = How::Killed;
            ended.signal = Some(signal_name(*signal));
            ended.core = Some(*core);
        }
        // The OOM killer always sends SIGKILL (__oom_kill_process in mm/oom_kill.c).
        Death::OomKilled => {
            ended.how = How::OomKilled;
            ended.signal = Some(signal_name(libc::SIGKILL));
            ended.core = Some(false);
        }
    }
    ended
}

fn candidate(socket: Place<'_>) -> Candidate {
    let owner = socket.owner;
    Candidate {
        address: socket.address,
        pid: owner.map(|process| process.pid),
        comm: owner.map(|process| process.comm.clone()),
        exe: owner.and_then(|process| process.exe.clone()),
        unit: owner.and_then(|process| process.unit.clone()),
        netns: socket.netns,
        container: owner.and_then(|process| process.container.clone()),
    }
}

fn request(line: &case::LogLine) -> Request {
    Request {
        client: line.client.clone(),
        server: line.server.clone(),
        request: line.request.clone(),
        upstream: line.upstream.clone(),
        host: line.host.clone(),
        referrer: line.referrer.clone(),
        connection: line.connection,
        log_line: line.text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_decimals_and_no_moment_panics() {
        let coverage = |wall_offset_ns| Coverage {
            wall_offset_ns,
            ..Coverage::default()
        };
        assert_eq!(
            time_text(1_500_000_000, &coverage(1_795_327_800_000_000_000)),
            "2026-11-22T06:10:01.500000000Z"
        );
        assert_eq!(time_text(0, &coverage(0)), "1970-01-01T00:00:00.000000000Z");
        for offset in [i64::MIN, i64::MAX] {
            assert!(time_text(u64::MAX, &coverage(offset)).ends_with('Z'));
            assert!(time_text(0, &coverage(offset)).ends_with('Z'));
        }
    }

    #[test]
    fn error_numbers_have_their_names() {
        assert_eq!(errno_name(111), "ECONNREFUSED");
        assert_eq!(errno_name(11), "EAGAIN");
        assert_eq!(errno_name(524), "errno 524");
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(34), "SIGRTMIN");
        assert_eq!(signal_name(37), "SIGRTMIN+3");
        assert_eq!(signal_name(33), "signal 33");
        assert_eq!(signal_name(i32::MIN), format!("signal {}", i32::MIN));
    }

    #[test]
    fn addresses_are_written_as_nginx_writes_them() {
        let inet = |text: &str| endpoint_text(&Endpoint::Inet(text.parse().unwrap()));
        assert_eq!(inet("127.0.0.1:9101"), "127.0.0.1:9101");
        assert_eq!(inet("[::1]:9101"), "[::1]:9101");
        let unix = |path: &[u8]| endpoint_text(&Endpoint::Unix(path.to_vec()));
        assert_eq!(unix(b"/run/app.sock"), "unix:/run/app.sock");
        assert_eq!(unix(b"/run/\xff"), "unix:/run/\\xff");
        assert_eq!(unix(b"\0name"), "unix:@name");
        assert_eq!(unix(b""), "unix:");
    }
}
