use proptest::prelude::*;

use super::*;

mod after;
mod cut;

/// Written by nginx 1.22.1, as are all lines of these tests unless they say otherwise.
const REFUSED: &str = r#"2026/11/22 18:06:57 [error] 31435#31435: *1 connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET / HTTP/1.1", upstream: "http://127.0.0.1:9101/", host: "127.0.0.1:8080""#;

fn read(line: &str) -> LogLine {
    parse(line.as_bytes()).expect("a line of the error log")
}

/// The last part of a line about a refused connection.
fn with_details(details: &str) -> LogLine {
    read(&format!(
        "2026/11/22 18:07:22 [error] 1209#1209: *6 connect() failed (111: Connection refused) \
         while connecting to upstream, client: 127.0.0.1, server: front, {details}"
    ))
}

#[test]
fn every_field_of_a_line_is_read() {
    let line = parse(format!("{REFUSED}\n").as_bytes()).expect("a line");
    let expected = LogLine {
        text: REFUSED.to_owned(),
        level: Some("error".to_owned()),
        message: Some("connect() failed (111: Connection refused)".to_owned()),
        action: Some("connecting to upstream".to_owned()),
        connection: Some(1),
        client: Some("127.0.0.1".to_owned()),
        server: Some("front".to_owned()),
        request: Some("GET / HTTP/1.1".to_owned()),
        upstream: Some("http://127.0.0.1:9101/".to_owned()),
        host: Some("127.0.0.1:8080".to_owned()),
        referrer: None,
        cut: false,
    };
    assert_eq!(line, expected);
}

#[test]
fn each_failure_has_its_kind_and_its_address() {
    use FailureKind::*;
    let cases: [(&str, FailureKind, Option<&str>); 13] = [
        (
            r#"connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /v6 HTTP/1.1", upstream: "http://[::1]:9103/v6", host: "127.0.0.1:8080""#,
            ConnectFailedAsync { errno: 111 },
            Some("[::1]:9103"),
        ),
        (
            r#"connect() to 10.9.9.9:80 failed (22: Invalid argument) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /net HTTP/1.1", upstream: "http://10.9.9.9:80/net", host: "127.0.0.1:8080""#,
            ConnectFailedSync { errno: 22 },
            Some("10.9.9.9:80"),
        ),
        (
            r#"connect() to unix:/tmp/x/none.sock failed (2: No such file or directory) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /sock/a HTTP/1.1", upstream: "http://unix:/tmp/x/none.sock:/x/a", host: "127.0.0.1:8080""#,
            ConnectFailedSync { errno: 2 },
            Some("unix:/tmp/x/none.sock"),
        ),
        (
            r#"connect() to unix:/tmp/x/none.sock failed (2: No such file or directory) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /fcgi HTTP/1.1", upstream: "fastcgi://unix:/tmp/x/none.sock:", host: "127.0.0.1:8080""#,
            ConnectFailedSync { errno: 2 },
            Some("unix:/tmp/x/none.sock"),
        ),
        (
            r#"connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /grpc HTTP/1.1", upstream: "grpc://127.0.0.1:9004", host: "127.0.0.1:8080""#,
            ConnectFailedAsync { errno: 111 },
            Some("127.0.0.1:9004"),
        ),
        (
            r#"connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: 127.0.0.1:8100, upstream: "127.0.0.1:9", bytes from/to client:0/0, bytes from/to upstream:0/0"#,
            ConnectFailedAsync { errno: 111 },
            Some("127.0.0.1:9"),
        ),
        (
            r#"connect() to unix:/tmp/x/none.sock failed (2: No such file or directory) while connecting to upstream, client: 127.0.0.1, server: 127.0.0.1:8101, upstream: "unix:/tmp/x/none.sock", bytes from/to client:0/0, bytes from/to upstream:0/0"#,
            ConnectFailedSync { errno: 2 },
            Some("unix:/tmp/x/none.sock"),
        ),
        (
            r#"upstream timed out (110: Connection timed out) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /hole HTTP/1.1", upstream: "http://127.0.0.1:9105/hole", host: "127.0.0.1:8080""#,
            TimedOutConnecting,
            Some("127.0.0.1:9105"),
        ),
        (
            r#"epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /hole2 HTTP/1.1", upstream: "http://127.0.0.1:9105/hole2", host: "127.0.0.1:8080""#,
            ClientLeft,
            Some("127.0.0.1:9105"),
        ),
        (
            r#"socket() failed (24: Too many open files) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /fd HTTP/1.1", upstream: "http://127.0.0.1:9101/fd", host: "127.0.0.1:8080""#,
            SocketFailed { errno: 24 },
            Some("127.0.0.1:9101"),
        ),
        (
            r#"bind(10.1.1.1) failed (99: Cannot assign requested address) while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /bind HTTP/1.1", upstream: "http://127.0.0.1:9101/bind", host: "127.0.0.1:8080""#,
            BindFailed { errno: 99 },
            Some("127.0.0.1:9101"),
        ),
        (
            r#"no live upstreams while connecting to upstream, client: 127.0.0.1, server: front, request: "GET /dead HTTP/1.1", upstream: "http://dead/dead", host: "127.0.0.1:8080""#,
            Undialled(crate::case::Undialled::NoLiveUpstreams),
            None,
        ),
        (
            r#"auth request unexpected status: 502 while sending to client, client: 127.0.0.1, server: front, request: "GET /auth HTTP/1.1", host: "127.0.0.1:8080""#,
            Other,
            None,
        ),
    ];
    for (text, kind, address) in cases {
        let line = read(&format!(
            "2026/11/22 18:06:57 [crit] 31435#31435: *9 {text}"
        ));
        assert_eq!(failure_kind(&line), kind, "{text}");
        assert_eq!(upstream_address(&line).as_deref(), address, "{text}");
        assert_eq!(line.client.as_deref(), Some("127.0.0.1"), "{text}");
    }
}

#[test]
fn a_timeout_after_the_connection_stood_is_another_failure() {
    let text = REFUSED
        .replace(
            "connect() failed (111: Connection refused)",
            "upstream timed out (110: Connection timed out)",
        )
        .replace("while connecting to", "while reading response header from");
    let kind = FailureKind::AfterConnect {
        phase: Phase::AwaitingResponse,
        met: Met::Timeout,
        errno: None,
    };
    assert_eq!(failure_kind(&read(&text)), kind);
}

#[test]
fn complaints_of_connections_that_stood_are_told_from_what_nginx_copes_with() {
    let kind = |level: &str, said: &str| {
        failure_kind(&read(&format!(
            r#"2026/11/22 18:06:57 [{level}] 31435#31435: *9 {said}, client: 127.0.0.1, server: front, request: "GET / HTTP/1.1", upstream: "http://127.0.0.1:9004/""#
        )))
    };
    let after = |phase, met, errno| FailureKind::AfterConnect { phase, met, errno };
    for (said, expected) in [
        (
            "recv() failed (104: Connection reset by peer) while reading response header from upstream",
            after(Phase::AwaitingResponse, Met::ReceiveError, Some(104)),
        ),
        (
            "readv() failed (104: Connection reset by peer) while reading upstream",
            after(Phase::ReadingResponse, Met::ReceiveError, Some(104)),
        ),
        (
            "writev() failed (32: Broken pipe) while sending request to upstream",
            after(Phase::Sending, Met::SendError, Some(32)),
        ),
        (
            "upstream prematurely closed connection while reading upstream",
            after(Phase::ReadingResponse, Met::Closed, None),
        ),
        (
            "peer closed connection in SSL handshake (104: Connection reset by peer) while SSL handshaking to upstream",
            after(Phase::Handshake, Met::ReceiveError, Some(104)),
        ),
        (
            "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL handshaking to upstream",
            after(Phase::Handshake, Met::Tls, None),
        ),
        (
            "upstream sent no valid HTTP/1.0 header while reading response header from upstream",
            after(Phase::AwaitingResponse, Met::Malformed, None),
        ),
        (
            "upstream sent too big header while reading response header from upstream",
            after(Phase::AwaitingResponse, Met::TooBig, None),
        ),
        (
            "upstream timed out (110: Connection timed out) while proxying upgraded connection",
            FailureKind::Other,
        ),
        (
            "FastCGI sent in stderr: \"PHP message: x\" while reading response header from upstream",
            FailureKind::Other,
        ),
        (
            "4 worker_connections are not enough while connecting to upstream",
            FailureKind::Undialled(Undialled::OutOfConnections),
        ),
    ] {
        assert_eq!(kind("error", said), expected, "{said}");
        assert_eq!(kind("info", said), FailureKind::Other, "{said}");
    }
}

#[test]
fn a_subrequest_stands_between_request_and_upstream() {
    let line = with_details(
        r#"request: "GET /auth HTTP/1.1", subrequest: "/sub", upstream: "http://127.0.0.1:9101/x", host: "127.0.0.1:8080""#,
    );
    assert_eq!(line.request.as_deref(), Some("GET /auth HTTP/1.1"));
    assert_eq!(line.upstream.as_deref(), Some("http://127.0.0.1:9101/x"));
    assert_eq!(line.host.as_deref(), Some("127.0.0.1:8080"));
}

#[test]
fn a_request_line_with_quotes_does_not_forge_the_upstream() {
    let line = with_details(
        r#"request: "GET /a",%20upstream:"http://6.6.6.6:66/",host:"x HTTP/1.0", upstream: "http://127.0.0.1:9101/a",%20upstream:"http://6.6.6.6:66/",host:"x""#,
    );
    assert_eq!(
        line.request.as_deref(),
        Some(r#"GET /a",%20upstream:"http://6.6.6.6:66/",host:"x HTTP/1.0"#)
    );
    assert_eq!(upstream_address(&line).as_deref(), Some("127.0.0.1:9101"));
    assert_eq!(line.host, None);
}

#[test]
fn a_request_line_with_spaces_of_an_old_nginx_does_not_either() {
    // Not from 1.22.1, which refuses such a request.
    let line = with_details(
        r#"request: "GET /b", upstream: "http://6.6.6.6:66/", host: "x HTTP/1.0", upstream: "http://127.0.0.1:9101/b", host: "a""#,
    );
    assert_eq!(upstream_address(&line).as_deref(), Some("127.0.0.1:9101"));
    assert_eq!(line.host.as_deref(), Some("a"));
}

#[test]
fn a_host_and_a_referrer_with_quotes_keep_to_their_fields() {
    let line = with_details(
        r#"request: "GET /h HTTP/1.1", upstream: "http://127.0.0.1:9101/h", host: "a",host:"b""#,
    );
    assert_eq!(line.host.as_deref(), Some(r#"a",host:"b"#));
    let line = with_details(
        r#"request: "GET /ref HTTP/1.1", upstream: "http://127.0.0.1:9101/ref", host: "127.0.0.1:8080", referrer: "x", upstream: "http://6.6.6.6:66/", host: "forged""#,
    );
    assert_eq!(upstream_address(&line).as_deref(), Some("127.0.0.1:9101"));
    assert_eq!(line.host.as_deref(), Some("127.0.0.1:8080"));
    assert_eq!(
        line.referrer.as_deref(),
        Some(r#"x", upstream: "http://6.6.6.6:66/", host: "forged"#)
    );
}

#[test]
fn requests_without_protocol_and_with_spaces_behind_it_are_read() {
    let line = with_details(r#"request: "GET /old", upstream: "http://127.0.0.1:9101/old""#);
    assert_eq!(line.request.as_deref(), Some("GET /old"));
    assert_eq!(upstream_address(&line).as_deref(), Some("127.0.0.1:9101"));
    let line = with_details(
        r#"request: "GET /sp   HTTP/1.1  ", upstream: "http://127.0.0.1:9101/sp", host: "a""#,
    );
    assert_eq!(line.request.as_deref(), Some("GET /sp   HTTP/1.1  "));
    assert_eq!(line.host.as_deref(), Some("a"));
}

#[test]
fn a_line_without_connection_has_no_client() {
    let line = read(
        "2026/11/22 18:06:57 [error] 31435#31435: send() failed (111: Connection refused) \
         while resolving, resolver: 127.0.0.1:53",
    );
    assert_eq!(line.connection, None);
    assert_eq!(line.client, None);
    assert_eq!(failure_kind(&line), FailureKind::Resolver);
    let line = read("2026/11/22 18:06:56 [notice] 31435#31435: using the \"epoll\" event method");
    assert_eq!(
        line.message.as_deref(),
        Some("using the \"epoll\" event method")
    );
}

#[test]
fn what_clients_and_backends_say_announces_no_failure() {
    let details = r#", client: 1.2.3.4, server: s, request: "GET / HTTP/1.1", upstream: "fastcgi://10.9.9.9:80", host: "h""#;
    for message in [
        r#"open() "/html/a could not be resolved (3: Host not found)" failed (2: No such file or directory)"#,
        r#"user "a could not be resolved (3: Host not found)" was not found in "/etc/htpasswd""#,
        r#"open() "/html/client prematurely closed connection" failed (2: No such file or directory)"#,
        r#"open() "/html/recv() failed (104: Connection reset by peer) while reading response header from upstream" failed (2: No such file or directory)"#,
    ] {
        let line = read(&format!("[error] 1#1: *1 {message}{details}"));
        assert_eq!(failure_kind(&line), FailureKind::Other, "{message}");
    }
    for said in [
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "7 worker_connections are not enough while connecting to upstream",
        "client prematurely closed connection while connecting to upstream",
        "no live upstreams while connecting to upstream",
        "recv() failed (111: Connection refused) while resolving, resolver: 1.1.1.1:53",
        "\n2026/11/22 18:06:57 [error] 1#1: *1 recv() failed (104: Connection reset by peer) while reading response header from upstream",
    ] {
        for forged in ["", details] {
            let line = read(&format!(
                r#"[error] 1#1: *1 FastCGI sent in stderr: "{said}{forged}" while reading response header from upstream{details}"#
            ));
            assert_eq!(failure_kind(&line), FailureKind::Other, "{said}{forged}");
        }
    }
}

#[test]
fn a_backend_moves_no_failure_to_another_address() {
    let line = read(
        r#"[error] 1#1: *1 upstream sent invalid header: "X y, client: 6.6.6.6, server: s, request: "GET / HTTP/1.1", upstream: "http://10.9.9.9:80/", host: "h"\x20..." while reading response header from upstream, client: 127.0.0.1, server: front, request: "GET / HTTP/1.1", upstream: "http://127.0.0.1:9101/", host: "x""#,
    );
    assert_eq!(upstream_address(&line).as_deref(), Some("127.0.0.1:9101"));
    assert_eq!(line.client.as_deref(), Some("127.0.0.1"));
}

#[test]
fn a_line_by_way_of_syslog_is_read() {
    let line = read(&format!("<187>Nov 22 18:06:57 edge-3 nginx: {REFUSED}"));
    assert_eq!(line.connection, Some(1));
    assert_eq!(upstream_address(&line).as_deref(), Some("127.0.0.1:9101"));
}

#[test]
fn a_line_cut_short_gives_what_it_has() {
    for end in 0..REFUSED.len() {
        let Some(line) = parse(&REFUSED.as_bytes()[..end]) else {
            assert!(end < REFUSED.find("*1").expect("a number"), "{end}");
            continue;
        };
        if end > REFUSED.find(", upstream").expect("a field") {
            assert_eq!(line.request.as_deref(), Some("GET / HTTP/1.1"), "{end}");
        }
        if end > REFUSED.find("/\", host").expect("a field") {
            assert_eq!(upstream_address(&line).as_deref(), Some("127.0.0.1:9101"));
        }
    }
    let long = format!("request: \"GET /{}", "a".repeat(1900));
    let line = with_details(&long);
    assert_eq!(line.upstream, None);
    assert!(line.request.expect("a request").ends_with("aaa"));
}

#[test]
fn other_text_is_no_line() {
    for text in [
        "",
        "hello",
        "127.0.0.1 - - [22/Nov/2026:18:06:57 +0000] \"GET / HTTP/1.1\" 502 157",
        "[error] x#y: text",
        "[fatal] 1#1: text",
    ] {
        assert_eq!(parse(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced() {
    let mut bytes = REFUSED.replace("GET /", "GET /@").into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'@').expect("a byte");
    bytes[at] = 0xff;
    let line = parse(&bytes).expect("a line");
    assert_eq!(line.request.as_deref(), Some("GET /\u{fffd} HTTP/1.1"));
    assert_eq!(upstream_address(&line).as_deref(), Some("127.0.0.1:9101"));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Some(line) = parse(&bytes) {
            let _ = (upstream_address(&line), failure_kind(&line));
        }
    }

    #[test]
    fn any_text_behind_the_process_is_survived(
        text in "(\\*[0-9]{1,30} |connect\\(\\) |failed \\([0-9]{1,12}: | while |, client: |, server: |, request: \"|, upstream: \"|, host: \"|http://|unix:|\"|[a-zß:/(\\[]{0,3}){0,20}",
    ) {
        let line = read(&format!("[error] 1#1: {text}"));
        let _ = (upstream_address(&line), failure_kind(&line));
    }

    #[test]
    fn what_a_client_sends_never_moves_the_upstream(
        uri in "/[!-~]{0,60}",
        host in "[!-~]{1,30}",
        referrer in "[ -~]{0,80}",
    ) {
        let line = with_details(&format!(
            r#"request: "GET {uri} HTTP/1.1", upstream: "http://127.0.0.1:9101{uri}", host: "{host}", referrer: "{referrer}""#
        ));
        prop_assert_eq!(upstream_address(&line), Some("127.0.0.1:9101".to_owned()));
        prop_assert_eq!(line.request, Some(format!("GET {uri} HTTP/1.1")));
        prop_assert_eq!(line.host, Some(host));
        prop_assert_eq!(line.referrer, Some(referrer));
    }
}
