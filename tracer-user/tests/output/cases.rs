//! Cases and diagnoses made by hand, as diagnosis could have them.

use std::net::SocketAddr;

use whyrefused::case::{
    Attempt, Case, Coverage, Death, Ending, Endpoint, Family, HostFacts, Listener, LogLine,
    Process, Worker,
};
use whyrefused::event::{Failure, Rule, Surface};
use whyrefused::report;
use whyrefused::verdict::{Code, Confidence, Diagnosis, RuledOut, Verdict};

const SECOND: u64 = 1_000_000_000;

/// A refused connect on loopback that took 61 µs.
pub fn refused_case() -> Case {
    Case {
        worker: Worker {
            pid: 4242,
            master_pid: Some(4200),
            exe: Some("/usr/sbin/nginx".into()),
            config: Some("/etc/nginx/nginx.conf".into()),
            netns: 4_026_531_840,
            container: None,
            uid: Some(33),
        },
        attempt: Attempt {
            family: Family::Ipv4,
            dialled: Some(Endpoint::Inet(address("127.0.0.1:9101"))),
            local: Some(address("127.0.0.1:40112")),
            remote: Some(address("127.0.0.1:9101")),
            bound: None,
            started: 100 * SECOND,
            ended: 100 * SECOND + 61_000,
            ending: Ending::SocketError { errno: 111 },
            upstream_name: Some("backend".into()),
            upstream_server: Some("/etc/nginx/conf.d/app.conf:3".into()),
            connect_timeout_ms: Some(60_000),
        },
        timeline: Vec::new(),
        host: HostFacts::default(),
        log: None,
        connection: None,
        earlier: Vec::new(),
        coverage: Coverage {
            unavailable: Vec::new(),
            lost_records: false,
            lost_neighbours: false,
            wall_offset_ns: 1_795_327_700_123_456_789,
            traced_since: 0,
        },
    }
}

pub fn diagnosis(code: Code, summary: &str) -> Diagnosis {
    Diagnosis {
        verdict: Verdict {
            code,
            confidence: Confidence::Certain,
            summary: summary.into(),
            because: Vec::new(),
            ruled_out: Vec::new(),
            missing: Vec::new(),
            fix: Vec::new(),
            policy: None,
        },
        surface: Surface::SoError,
        errno: Some(111),
        listener: None,
        ended: None,
        candidates: Vec::new(),
        unix_listener: None,
        unix_candidates: Vec::new(),
        rule: None,
        translated_to: None,
    }
}

/// The backend crashed, and many requests met the closed port.
pub fn killed() -> Failure {
    let mut diagnosis = diagnosis(
        Code::ListenerKilled,
        "python3[977] (app.service) listened on 127.0.0.1:9101 until SIGSEGV killed it 12 s before",
    );
    diagnosis.listener = Some(listener("127.0.0.1:9101"));
    let death = Death::Killed {
        signal: 11,
        core: true,
        sender: None,
    };
    diagnosis.ended = Some((88 * SECOND, death));
    diagnosis.verdict.because = vec![
        "06:09:48.123: 127.0.0.1:9101 left LISTEN as python3[977] died of SIGSEGV, core dumped"
            .into(),
        "06:10:00.123: this host answered the SYN with a reset for the reason NO_SOCKET".into(),
    ];
    diagnosis.verdict.ruled_out = vec![RuledOut {
        code: Code::FirewallReject,
        why: "TCP itself sent the reset, no rule did".into(),
    }];
    diagnosis.verdict.fix = vec![
        "systemctl restart app.service".into(),
        "coredumpctl info 977   # why it crashed, before it does so again under the next load"
            .into(),
    ];
    let mut case = refused_case();
    case.log = Some(log_line());
    Failure {
        count: 17,
        ..report::failure(&case, &diagnosis, "edge-3", None)
    }
}

/// Two candidates, and less than certainty.
pub fn wrong_port() -> Failure {
    let mut diagnosis = diagnosis(
        Code::WrongPort,
        "nothing listens on 127.0.0.1:9101; python3[977] listens on 127.0.0.1:9102",
    );
    diagnosis.verdict.confidence = Confidence::Probable;
    diagnosis.candidates = vec![listener("127.0.0.1:9102"), listener("[::]:9109")];
    diagnosis.verdict.fix = vec!["set the port to 9102 at /etc/nginx/conf.d/app.conf:3".into()];
    report::failure(&refused_case(), &diagnosis, "edge-3", None)
}

/// A rule did it, seen with a gap in the evidence.
pub fn rejected() -> Failure {
    let mut diagnosis = diagnosis(
        Code::FirewallReject,
        "rule 7 of chain input (table inet filter) rejected the SYN with a TCP reset",
    );
    diagnosis.rule = Some(Rule {
        backend: "nft".into(),
        family: "inet".into(),
        table: "filter".into(),
        chain: "input".into(),
        base_chain: None,
        handle: Some(7),
        position: None,
        policy: false,
        hook: "input".into(),
        action: "reject with tcp reset".into(),
        text: "tcp dport 9101 reject with tcp reset".into(),
        comment: None,
        manager: None,
        netns: 4_026_531_840,
        alternatives: Vec::new(),
    });
    diagnosis.verdict.missing = vec!["counters: the rule has none".into()];
    diagnosis.verdict.fix = vec!["nft delete rule inet filter input handle 7".into()];
    diagnosis.translated_to = Some(address("10.99.1.2:80"));
    report::failure(&refused_case(), &diagnosis, "edge-3", None)
}

/// nginx gave up on an IPv6 address after a minute.
pub fn no_answer() -> Failure {
    let mut case = refused_case();
    case.attempt.family = Family::Ipv6;
    case.attempt.dialled = Some(Endpoint::Inet(address("[2001:db8::7]:443")));
    case.attempt.local = Some(address("[2001:db8::1]:51000"));
    case.attempt.remote = None;
    case.attempt.upstream_name = None;
    case.attempt.upstream_server = None;
    case.attempt.ended = 160 * SECOND;
    case.attempt.ending = Ending::GaveUp;
    let mut diagnosis = diagnosis(Code::NoAnswer, "6 SYNs left by eth0, and nothing came back");
    diagnosis.surface = Surface::Timer;
    diagnosis.errno = None;
    report::failure(&case, &diagnosis, "edge-3", None)
}

/// The worker never dialled: the address is known from its log alone.
pub fn fd_limit() -> Failure {
    let mut case = refused_case();
    case.attempt.dialled = None;
    case.attempt.local = None;
    case.attempt.remote = None;
    case.attempt.ending = Ending::SocketFailed { errno: 24 };
    let mut diagnosis = diagnosis(
        Code::FdLimit,
        "worker 4242 has 1024 of 1024 descriptors open",
    );
    diagnosis.surface = Surface::Socket;
    diagnosis.errno = Some(24);
    report::failure(&case, &diagnosis, "edge-3", Some("127.0.0.1:9101".into()))
}

/// Everything that others can choose is chosen by an attacker.
pub fn hostile() -> Failure {
    const EVIL: &str = "\x1b]0;owned\x07\u{9b}31m\u{202e}gpj\r\n\x7f";
    let mut case = refused_case();
    case.attempt.family = Family::Unix;
    case.attempt.dialled = Some(Endpoint::Unix([b"/run/\xff", EVIL.as_bytes()].concat()));
    case.attempt.remote = None;
    case.attempt.upstream_name = Some(EVIL.into());
    case.attempt.upstream_server = Some(EVIL.into());
    case.worker.container = Some(EVIL.into());
    let mut log = log_line();
    log.request = Some(format!("GET /{EVIL} HTTP/1.1"));
    log.host = Some(EVIL.into());
    case.log = Some(log);
    let mut diagnosis = diagnosis(Code::Undetermined, EVIL);
    let verdict = &mut diagnosis.verdict;
    verdict.confidence = Confidence::Possible;
    verdict.because = vec![EVIL.into()];
    verdict.missing = vec![EVIL.into()];
    verdict.fix = vec![EVIL.into()];
    verdict.ruled_out = vec![RuledOut {
        code: Code::NoListener,
        why: EVIL.into(),
    }];
    let mut owner = listener("127.0.0.1:1");
    owner.owners[0].comm = EVIL.into();
    owner.owners[0].unit = Some(EVIL.into());
    owner.owners[0].container = Some(EVIL.into());
    diagnosis.candidates = vec![owner];
    report::failure(&case, &diagnosis, EVIL, None)
}

pub fn listener(at: &str) -> Listener {
    Listener {
        address: address(at),
        v6only: false,
        device: None,
        netns: 4_026_531_840,
        queue: None,
        since: None,
        owners: vec![Process {
            pid: 977,
            comm: "python3".into(),
            exe: Some("/usr/bin/python3.11".into()),
            unit: Some("app.service".into()),
            container: None,
            nginx: false,
        }],
    }
}

pub fn log_line() -> LogLine {
    LogLine {
        text: "2026/11/22 06:10:00 [error] 4242#4242: *7 connect() failed (111: Connection \
               refused) while connecting to upstream, client: 10.0.0.9, server: app, request: \
               \"GET /cart HTTP/1.1\", upstream: \"http://127.0.0.1:9101/cart\", host: \"shop\""
            .into(),
        level: Some("error".into()),
        message: Some("connect() failed (111: Connection refused)".into()),
        action: Some("connecting to upstream".into()),
        connection: Some(7),
        client: Some("10.0.0.9".into()),
        server: Some("app".into()),
        request: Some("GET /cart HTTP/1.1".into()),
        upstream: Some("http://127.0.0.1:9101/cart".into()),
        host: Some("shop".into()),
        referrer: None,
        cut: false,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
