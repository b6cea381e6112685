//! Where nginx met the failure, and the error number that reached it.

use crate::case::{Case, Ending, Fact, LogLine, Met};
use crate::diagnose::{evidence, icmp};
use crate::event::Surface;

/// nginx reads a soft error in its next turn of the event loop; more than this and something
/// else woke it.
const NEXT_TURN_NS: u64 = 50_000_000;

/// Where nginx met the failure.
pub(super) fn surface(case: &Case) -> Surface {
    match case.attempt.ending {
        Ending::SocketFailed { .. } => Surface::Socket,
        Ending::BindFailed { .. } => Surface::Bind,
        Ending::ConnectFailed { .. } => Surface::Connect,
        Ending::SocketError { .. } => Surface::SoError,
        Ending::GaveUp => surface_of_giving_up(case),
        Ending::AfterConnect { met, .. } => surface_after(met),
        Ending::Established | Ending::Undialled { .. } => Surface::None,
    }
}

/// The error number that reached nginx, positive; null where none did.
pub(super) fn errno(case: &Case) -> Option<i32> {
    match case.attempt.ending {
        Ending::SocketFailed { errno }
        | Ending::BindFailed { errno }
        | Ending::ConnectFailed { errno, .. }
        | Ending::SocketError { errno } => Some(errno),
        Ending::GaveUp => match logged(case) {
            Some(Logged::Error(errno)) => Some(errno),
            Some(_) => None,
            None => soft_error(case),
        },
        Ending::AfterConnect { errno, .. } => errno,
        Ending::Established | Ending::Undialled { .. } => None,
    }
}

fn surface_after(met: Met) -> Surface {
    match met {
        Met::SocketError => Surface::SoError,
        Met::SendError => Surface::Send,
        Met::Timeout => Surface::Timer,
        Met::ReceiveError
        | Met::Closed
        | Met::EndedInProtocol
        | Met::Tls
        | Met::Malformed
        | Met::TooBig => Surface::Recv,
    }
}

enum Logged {
    Error(i32),
    TimedOut,
    ClientLeft,
}

fn surface_of_giving_up(case: &Case) -> Surface {
    match logged(case) {
        Some(Logged::Error(_)) => Surface::SoError,
        Some(Logged::TimedOut) => Surface::Timer,
        Some(Logged::ClientLeft) => Surface::ClientAbort,
        None if soft_error(case).is_some() => Surface::SoError,
        None if client_left(case) => Surface::ClientAbort,
        None if case.log.is_none() && long_before_connect_timeout(case) => Surface::None,
        None => Surface::Timer,
    }
}

/// nginx writes its line between reading the error and closing the socket
/// (`ngx_http_upstream_test_connect`, `ngx_http_upstream_next`), so it says what it met.
fn logged(case: &Case) -> Option<Logged> {
    let line = case.log.as_ref()?;
    let words = line.message.as_deref().unwrap_or(&line.text);
    if words.contains("timed out") && !words.contains("connect() failed") {
        Some(Logged::TimedOut)
    } else if words.contains("client prematurely closed") {
        Some(Logged::ClientLeft)
    } else {
        logged_errno(line).map(Logged::Error)
    }
}

fn logged_errno(line: &LogLine) -> Option<i32> {
    let words = line.message.as_deref().unwrap_or(&line.text);
    let (_, behind) = words.split_once("connect() failed (")?;
    let (number, _) = behind.split_once(':')?;
    number.trim().parse().ok()
}

/// An ICMP error that arrives while `connect()` still owns the socket is only remembered as a
/// soft one; `tcp_v4_err` queues it since Linux 5.8, epoll wakes nginx and SO_ERROR gives it
/// once. `tcp_v6_err` does not queue it, so nothing reaches nginx over IPv6.
fn soft_error(case: &Case) -> Option<i32> {
    let ended = case.attempt.ended;
    if near_connect_timeout(case) {
        return None;
    }
    case.timeline
        .iter()
        .rev()
        .filter(|observed| observed.at <= ended && ended - observed.at <= NEXT_TURN_NS)
        .find_map(|observed| match observed.fact {
            Fact::IcmpReceived { icmp, .. } | Fact::IcmpSent { icmp, .. } if !icmp.v6 => {
                icmp::errno(icmp)
            }
            _ => None,
        })
}

fn client_left(case: &Case) -> bool {
    let closed = case
        .timeline
        .iter()
        .any(|observed| matches!(observed.fact, Fact::ClientClosed { .. }));
    closed && !near_connect_timeout(case)
}

/// nginx rounds its timers to milliseconds of a cached clock, so a little less is still the timer.
fn near_connect_timeout(case: &Case) -> bool {
    case.attempt.connect_timeout_ms.is_some_and(|timeout| {
        evidence::duration(case) / 1_000_000 >= timeout.saturating_sub(timeout / 50)
    })
}

/// Something else than the timer ended it, such as a client that cancelled its request on a
/// connection that stays (HTTP/2).
fn long_before_connect_timeout(case: &Case) -> bool {
    case.attempt
        .connect_timeout_ms
        .is_some_and(|timeout| evidence::duration(case) / 1_000_000 < timeout / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::*;
    use crate::diagnose::example::*;

    #[test]
    fn the_log_line_says_what_nginx_met() {
        let line = |message: &str| LogLine {
            text: message.to_owned(),
            level: None,
            message: Some(message.to_owned()),
            action: None,
            connection: None,
            client: None,
            server: None,
            request: None,
            upstream: None,
            host: None,
            referrer: None,
            cut: false,
        };
        for (message, expected) in [
            (
                "connect() failed (111: Connection refused)",
                (Surface::SoError, Some(111)),
            ),
            (
                "connect() failed (110: Connection timed out)",
                (Surface::SoError, Some(110)),
            ),
            (
                "upstream timed out (110: Connection timed out)",
                (Surface::Timer, None),
            ),
            (
                "epoll_wait() reported that client prematurely closed connection",
                (Surface::ClientAbort, None),
            ),
            ("connect() failed (x: no number)", (Surface::Timer, None)),
        ] {
            let mut case = case("203.0.113.7:9101", Ending::GaveUp);
            case.log = Some(line(message));
            assert_eq!((surface(&case), errno(&case)), expected, "{message}");
        }
    }

    #[test]
    fn a_soft_error_reaches_nginx_over_ipv4_alone() {
        let mut four = case("127.0.0.1:9101", Ending::GaveUp);
        four.timeline = vec![observed(40, icmp_received("127.0.0.1", 3, 10))];
        assert_eq!(
            (surface(&four), errno(&four)),
            (Surface::SoError, Some(libc::EHOSTUNREACH))
        );
        let mut six = case("[::1]:9101", Ending::GaveUp);
        six.attempt.connect_timeout_ms = None;
        six.timeline = vec![observed(40, icmp_received("::1", 1, 1))];
        assert_eq!((surface(&six), errno(&six)), (Surface::Timer, None));
    }

    #[test]
    fn an_old_soft_error_did_not_end_the_attempt() {
        let mut case = silent("127.0.0.1:9101", 500);
        case.timeline = vec![observed(40, icmp_received("127.0.0.1", 3, 10))];
        assert_eq!((surface(&case), errno(&case)), (Surface::Timer, None));
    }

    #[test]
    fn a_client_that_leaves_as_the_timer_ends_did_not_end_the_attempt() {
        let mut case = silent("203.0.113.7:9101", 1000);
        case.timeline = vec![observed(999_990, Fact::ClientClosed { client: None })];
        assert_eq!(surface(&case), Surface::Timer);
        case.attempt.connect_timeout_ms = Some(60_000);
        assert_eq!(surface(&case), Surface::ClientAbort);
    }

    #[test]
    fn what_ended_long_before_the_timeout_and_without_a_word_was_not_the_timer() {
        let mut case = silent("203.0.113.7:9101", 1000);
        assert_eq!(surface(&case), Surface::Timer);
        case.attempt.connect_timeout_ms = Some(60_000);
        assert_eq!((surface(&case), errno(&case)), (Surface::None, None));
        case.attempt.connect_timeout_ms = Some(1000);
        assert_eq!(surface(&case), Surface::Timer);
    }
}
