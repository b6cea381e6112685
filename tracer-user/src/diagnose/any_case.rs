//! Properties that hold for every case, however little sense it makes.

mod connection;
mod facts;
mod filters;
mod host;
mod unix;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use self::connection::{any_connection, any_earlier, any_ending_after_connect};
use self::facts::{any_address, any_errno, any_observed, any_time};
use self::host::any_host;
use self::unix::any_unix;
use crate::case::*;
use crate::diagnose::coverage::Observation;
use crate::diagnose::{diagnose, example};
use crate::verdict::{Code, Confidence};

proptest! {
    #[test]
    fn diagnosis_says_something_of_any_case(case in any_case()) {
        let diagnosis = diagnose(&case);
        let verdict = &diagnosis.verdict;
        prop_assert!(!verdict.because.is_empty());
        prop_assert!(!verdict.summary.is_empty());
        prop_assert!(verdict.ruled_out.iter().all(|ruled| ruled.code != verdict.code));
        prop_assert!(verdict.code != Code::Undetermined || !verdict.missing.is_empty());
        prop_assert!(verdict.code != Code::Undetermined || verdict.confidence < Confidence::Certain);
        prop_assert_eq!(&diagnose(&case), &diagnosis);
    }

    #[test]
    fn nothing_is_certain_once_records_are_lost(mut case in any_case()) {
        case.coverage.lost_records = true;
        let verdict = diagnose(&case).verdict;
        prop_assert!(verdict.confidence < Confidence::Certain);
        prop_assert!(verdict.missing.iter().any(|words| words.contains("lost")));
    }

    #[test]
    fn seeing_less_never_makes_the_same_verdict_surer(case in any_case()) {
        let sighted = diagnose(&case).verdict;
        let mut blind = case;
        blind.coverage.unavailable =
            Observation::ALL.iter().map(|observation| observation.as_str().to_owned()).collect();
        let verdict = diagnose(&blind).verdict;
        prop_assume!(verdict.code == sighted.code);
        let inferred = sighted.confidence == Confidence::Possible;
        prop_assert!(inferred || verdict.confidence <= sighted.confidence);
    }

    #[test]
    fn unlisted_bound_sockets_touch_only_verdicts_that_need_nobody_bound(mut case in any_case()) {
        case.host.bound_unlisted = false;
        let listed = diagnose(&case);
        case.host.bound_unlisted = true;
        let unlisted = diagnose(&case);
        prop_assert_eq!(listed.verdict.code, unlisted.verdict.code);
        let doubted = matches!(
            listed.verdict.code,
            Code::NoListener | Code::WrongPort | Code::WrongAddress | Code::OtherNetns
        );
        prop_assert!(!doubted || unlisted.verdict.confidence < Confidence::Certain);
        prop_assert!(doubted || unlisted == listed);
    }

    #[test]
    fn a_listener_that_ended_unnoticed_touches_the_same_verdicts(mut case in any_case()) {
        case.host.end_lost = false;
        let known = diagnose(&case);
        case.host.end_lost = true;
        let lost = diagnose(&case);
        prop_assert_eq!(known.verdict.code, lost.verdict.code);
        let doubted = matches!(
            known.verdict.code,
            Code::NoListener | Code::WrongPort | Code::WrongAddress | Code::OtherNetns
        );
        prop_assert!(!doubted || lost.verdict.confidence < Confidence::Certain);
        prop_assert!(doubted || lost == known);
    }

    #[test]
    fn a_wrong_port_is_never_certain(case in any_case()) {
        let verdict = diagnose(&case).verdict;
        prop_assert!(verdict.code != Code::WrongPort || verdict.confidence < Confidence::Certain);
    }
}

fn any_case() -> BoxedStrategy<Case> {
    let attempt = (
        any_endpoint(),
        of(any_address()),
        of(any_address()),
        of(any_address()),
        any_time(),
        any_time(),
        any_ending(),
        of(any::<u64>()),
    );
    let unix_errno = prop::sample::select(vec![
        libc::ENOENT,
        libc::EACCES,
        libc::EPERM,
        libc::EROFS,
        libc::ECONNREFUSED,
        libc::EPROTOTYPE,
        libc::EAGAIN,
        libc::ENOTDIR,
        libc::ELOOP,
    ]);
    let unix = of((any_unix(), unix_errno));
    (
        attempt.boxed(),
        vec(any_observed(), 0..6),
        any_host(),
        of(any_log()),
        any_coverage(),
        unix,
        of(any_connection()),
        vec(any_earlier(), 0..3),
    )
        .prop_map(
            |(attempt, timeline, mut host, log, coverage, unix, connection, earlier)| {
                let mut case = example::case("127.0.0.1:9101", attempt.6);
                case.attempt.dialled = attempt.0;
                case.attempt.local = attempt.1;
                case.attempt.remote = attempt.2;
                case.attempt.bound = attempt.3;
                case.attempt.started = attempt.4;
                case.attempt.ended = attempt.5;
                case.attempt.connect_timeout_ms = attempt.7;
                if let (Some((facts, errno)), Some(Endpoint::Unix(_))) =
                    (unix, &case.attempt.dialled)
                {
                    host.unix = Some(facts);
                    case.attempt.family = Family::Unix;
                    case.attempt.ending = Ending::ConnectFailed {
                        errno,
                        reached_syn_sent: false,
                    };
                }
                Case {
                    timeline,
                    host,
                    log,
                    coverage,
                    connection,
                    earlier,
                    ..case
                }
            },
        )
        .boxed()
}

fn any_endpoint() -> BoxedStrategy<Option<Endpoint>> {
    prop_oneof![
        6 => any_address().prop_map(|address| Some(Endpoint::Inet(address))),
        3 => vec(any::<u8>(), 0..12).prop_map(|path| Some(Endpoint::Unix(path))),
        1 => Just(None),
    ]
    .boxed()
}

fn any_ending() -> BoxedStrategy<Ending> {
    prop_oneof![
        1 => any_errno().prop_map(|errno| Ending::SocketFailed { errno }),
        1 => any_errno().prop_map(|errno| Ending::BindFailed { errno }),
        1 => (any_errno(), any::<bool>()).prop_map(|(errno, reached_syn_sent)| {
            Ending::ConnectFailed {
                errno,
                reached_syn_sent,
            }
        }),
        1 => any_errno().prop_map(|errno| Ending::SocketError { errno }),
        1 => Just(Ending::SocketError {
            errno: libc::ECONNREFUSED
        }),
        1 => Just(Ending::GaveUp),
        1 => Just(Ending::Established),
        3 => any_ending_after_connect(),
    ]
    .boxed()
}

fn any_log() -> BoxedStrategy<LogLine> {
    let message = prop::sample::select(vec![
        "connect() failed (111: Connection refused)",
        "connect() failed (",
        "recv() failed (104: Connection reset by peer)",
        "SSL_do_handshake() failed (SSL: wrong version number)",
        "app could not be resolved (3: Host not found)",
        "upstream timed out",
        "client prematurely closed connection",
        "connect() failed (99999999999: ?)",
        "",
    ]);
    (message, any::<bool>())
        .prop_map(|(message, split)| LogLine {
            text: message.to_owned(),
            level: None,
            message: split.then(|| message.to_owned()),
            action: None,
            connection: None,
            client: None,
            server: None,
            request: None,
            upstream: None,
            host: None,
            referrer: None,
            cut: false,
        })
        .boxed()
}

fn any_coverage() -> impl Strategy<Value = Coverage> {
    let names = Observation::ALL.map(Observation::as_str).to_vec();
    let lost = (any::<bool>(), any::<bool>());
    (prop::sample::subsequence(names, 0..3), lost).prop_map(
        |(names, (lost_records, lost_neighbours))| Coverage {
            unavailable: names.into_iter().map(str::to_owned).collect(),
            lost_records,
            lost_neighbours,
            wall_offset_ns: 0,
            traced_since: 0,
        },
    )
}
