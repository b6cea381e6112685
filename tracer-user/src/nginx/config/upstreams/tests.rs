use std::io;

use proptest::prelude::*;

use super::*;

/// A main configuration and the text of `/etc/hosts`.
struct Texts<'a>(&'a [u8], &'a str);

impl Source for Texts<'_> {
    fn read(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        match path {
            b"/etc/nginx/nginx.conf" => Ok(self.0.to_vec()),
            b"/etc/hosts" => Ok(self.1.as_bytes().to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn names(&self, _: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    fn changed(&self, _: &[u8]) -> io::Result<i64> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

pub(super) fn read_with_hosts(text: &[u8], hosts: &str) -> Upstreams {
    let configuration = Configuration {
        file: "/etc/nginx/nginx.conf".to_owned(),
        prefix: "/usr/share/nginx".to_owned(),
        directives: None,
    };
    Upstreams::read(&Texts(text, hosts), &configuration)
}

fn read(text: &str) -> Upstreams {
    let upstreams = read_with_hosts(text.as_bytes(), "");
    assert_eq!(upstreams.problems, Vec::<String>::new());
    upstreams
}

fn dialled(address: &str) -> Endpoint {
    match address.strip_prefix("unix:") {
        Some(path) => Endpoint::Unix(path.as_bytes().to_vec()),
        None => Endpoint::Inet(address.parse().expect("an address")),
    }
}

fn attribution(
    name: Option<&str>,
    line: Option<u32>,
    host: Option<&str>,
    timeout: Option<u64>,
) -> Attribution {
    Attribution {
        name: name.map(str::to_owned),
        server: line.map(|line| format!("/etc/nginx/nginx.conf:{line}")),
        host: host.map(str::to_owned),
        connect_timeout_ms: timeout,
    }
}

/// The addresses of all servers, in the order of the configuration.
fn addresses(upstreams: &Upstreams) -> Vec<String> {
    let servers = upstreams.servers.iter();
    servers.map(|server| server.address.to_string()).collect()
}

#[test]
fn an_upstream_block_names_its_servers() {
    let upstreams = read(
        "http {\n upstream backend {\n  server 127.0.0.1:9101;\n  server [::1]:9102 backup;\n\
         \x20 server unix:/run/app.sock;\n }\n server { location / { proxy_pass http://backend; } }\n}",
    );
    for (address, line) in [
        ("127.0.0.1:9101", 3),
        ("[::1]:9102", 4),
        ("unix:/run/app.sock", 5),
    ] {
        assert_eq!(
            upstreams.attribute(&dialled(address)),
            attribution(Some("backend"), Some(line), None, Some(60_000)),
            "{address}"
        );
    }
    assert!(upstreams.servers[1].backup);
    assert!(!upstreams.open_ended);
}

#[test]
fn a_path_is_told_from_the_uri_that_follows_it_without_a_colon() {
    let upstreams = read(
        "http { upstream a { server unix:/run/app; server unix:/run/app/sock; } server { location / { proxy_pass http://a; } } }",
    );
    for (said, path) in [
        ("/run/app/sock/page", Some("/run/app/sock")),
        ("/run/app/page", Some("/run/app")),
        ("/run/app", Some("/run/app")),
        ("/run/application/page", None),
    ] {
        let found = upstreams.unix_path_in(said.as_bytes());
        assert_eq!(found.as_deref(), path.map(str::as_bytes), "{said}");
    }
}

#[test]
fn a_pass_may_name_its_address_itself() {
    let upstreams =
        read("http { server {\n location / { proxy_pass http://127.0.0.1:9101/x; } } }");
    assert_eq!(
        upstreams.attribute(&dialled("127.0.0.1:9101")),
        attribution(None, Some(2), None, Some(60_000))
    );
}

#[test]
fn an_address_of_which_nothing_is_written_has_only_the_timeout_that_all_share() {
    let upstreams = read(
        "http { server { proxy_connect_timeout 5; location / { proxy_pass http://127.0.0.1:1; } } }",
    );
    assert_eq!(
        upstreams.attribute(&dialled("127.0.0.1:2")),
        attribution(None, None, None, Some(5_000))
    );
    assert_eq!(
        read("").attribute(&dialled("127.0.0.1:2")),
        Attribution::default()
    );
}

#[test]
fn ports_have_the_defaults_of_their_module() {
    let upstreams = read(
        "http { upstream u { server 10.0.0.1; }
          server {
           location /a { proxy_pass http://10.0.0.2; }
           location /b { proxy_pass HTTPS://10.0.0.3/; }
           location /c { fastcgi_pass 10.0.0.4:9000; }
           location /d { uwsgi_pass suwsgi://10.0.0.5:9001; }
           location /e { grpc_pass grpcs://10.0.0.6:9002; }
           location /f { scgi_pass unix:/run/s:1; }
           location /g { proxy_pass http://unix:/run/p:/uri; }
           location /h { memcached_pass 10.0.0.7:11211; }
           location /i { redis2_pass 10.0.0.8:6379; }
         } }
         stream { upstream s { server 10.0.0.9:5432; } server { listen 1; proxy_pass s; } }",
    );
    assert_eq!(
        addresses(&upstreams),
        [
            "10.0.0.1:80",
            "10.0.0.9:5432",
            "10.0.0.2:80",
            "10.0.0.3:443",
            "10.0.0.4:9000",
            "10.0.0.5:9001",
            "10.0.0.6:9002",
            "unix:/run/s:1",
            "unix:/run/p",
            "10.0.0.7:11211",
            "10.0.0.8:6379",
        ]
    );
    let kind = |index: usize| {
        let uses = &upstreams.servers[index].uses;
        uses.iter().map(|found| found.kind.clone()).next()
    };
    assert_eq!(kind(0), None);
    assert_eq!(kind(1), Some(Kind::Stream));
    assert_eq!(kind(5), Some(Kind::Uwsgi));
    assert_eq!(kind(10), Some(Kind::Other("redis2".to_owned())));
}

#[test]
fn blocks_of_http_and_stream_are_apart() {
    let upstreams = read(
        "http { upstream app { server 10.0.0.1:1; } }
         stream { upstream app { server 10.0.0.1:2; } server { listen 9; proxy_pass app; } }",
    );
    assert!(upstreams.servers[0].uses.is_empty());
    assert_eq!(upstreams.servers[1].uses.len(), 1);
}

#[test]
fn timeouts_are_inherited_whatever_the_order() {
    let upstreams = read(
        "http { upstream u { server 10.0.0.1:1; }
          server {
           location /a { location /a/b { proxy_pass http://10.0.0.2:2; } proxy_connect_timeout 500ms; }
           location /c { proxy_pass http://u; }
           location /d { if ($x) { proxy_pass http://10.0.0.4:4; } }
           location /e { fastcgi_pass 10.0.0.3:3; }
           proxy_connect_timeout 7s;
          } }",
    );
    for (address, timeout) in [
        ("10.0.0.1:1", 7_000),
        ("10.0.0.2:2", 500),
        ("10.0.0.3:3", 60_000),
        ("10.0.0.4:4", 7_000),
    ] {
        let found = upstreams.connect_timeout_ms(&dialled(address));
        assert_eq!(found, Some(timeout), "{address}");
    }
}

#[test]
fn several_timeouts_for_one_address_are_no_answer() {
    let upstreams = read(
        "http { upstream u { server 10.0.0.1:1; } server {
           location /a { proxy_connect_timeout 1; proxy_pass http://u; }
           location /b { proxy_connect_timeout 2; proxy_pass http://u; } } }",
    );
    assert_eq!(
        upstreams.attribute(&dialled("10.0.0.1:1")),
        attribution(Some("u"), Some(1), None, None)
    );
}

#[test]
fn two_blocks_with_one_address_leave_name_and_place_open() {
    let upstreams = read(
        "http { upstream a { server 10.0.0.1:1; }\n upstream b { server 10.0.0.1:1; }
          server { location /a { proxy_pass http://a; } location /b { proxy_pass http://b; } } }",
    );
    assert_eq!(
        upstreams.attribute(&dialled("10.0.0.1:1")),
        attribution(None, None, None, Some(60_000))
    );
}

#[test]
fn a_block_that_nothing_refers_to_and_a_server_that_is_down_do_not_disturb() {
    let upstreams = read(
        "http { upstream a { server 10.0.0.1:1; }\n upstream old { server 10.0.0.1:1; }
          upstream b { server 10.0.0.1:1 down; server 10.0.0.2:1; }
          server { location /a { proxy_pass http://A; } location /b { proxy_pass http://b; } } }",
    );
    assert_eq!(
        upstreams.attribute(&dialled("10.0.0.1:1")),
        attribution(Some("a"), Some(1), None, Some(60_000))
    );
}

#[test]
fn localhost_and_names_of_the_hosts_file_are_known() {
    let text = b"http { server {\n location /a { proxy_pass http://localhost:9101; }
        location /b { proxy_pass http://app:9101; } } }";
    let upstreams = read_with_hosts(text, "127.0.0.1 localhost\n10.0.0.5 app\n");
    assert_eq!(
        upstreams.attribute(&dialled("127.0.0.1:9101")),
        attribution(None, Some(2), Some("localhost"), Some(60_000))
    );
    assert_eq!(
        upstreams
            .attribute(&dialled("10.0.0.5:9101"))
            .host
            .as_deref(),
        Some("app")
    );
    assert_eq!(
        upstreams.attribute(&dialled("10.0.0.6:9101")),
        attribution(None, None, None, Some(60_000))
    );
}

#[test]
fn a_name_that_only_dns_knows_is_told_by_its_port() {
    let upstreams = read(
        "http { upstream u {\n server app.internal:8080 resolve; } server { location / { proxy_pass http://u; } } }",
    );
    assert_eq!(
        upstreams.attribute(&dialled("10.0.0.5:8080")),
        attribution(Some("u"), Some(2), Some("app.internal"), Some(60_000))
    );
    assert!(upstreams.servers[0].resolve);
    assert_eq!(upstreams.attribute(&dialled("10.0.0.5:8081")).host, None);
}

#[test]
fn two_names_with_one_port_leave_the_name_open() {
    let upstreams = read(
        "http { server { location /a { proxy_pass http://a.x:8080; }
           location /b { proxy_pass http://b.x:8080; } } }",
    );
    assert_eq!(
        upstreams.attribute(&dialled("10.0.0.5:8080")),
        attribution(None, None, None, Some(60_000))
    );
}

#[test]
fn a_variable_behind_the_address_changes_nothing() {
    let upstreams = read(
        "http { upstream u { server 10.0.0.1:1; } server {
           location /a { proxy_pass http://u$request_uri; }
           location /b { proxy_pass http://10.0.0.2:2/x/$1$is_args$args; }
           location /c { proxy_pass $scheme://10.0.0.3:3; } } }",
    );
    assert!(!upstreams.open_ended);
    assert_eq!(upstreams.servers[0].uses.len(), 1);
    assert_eq!(
        addresses(&upstreams),
        ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"]
    );
}

#[test]
fn a_variable_that_is_set_to_plain_values_leads_to_them() {
    let upstreams = read(
        "http { upstream u { server 10.0.0.1:1; }
          map $host $pool { default u; b http://10.0.0.3:3; }
          server {
           location /a { set $app 10.0.0.2:2; proxy_pass http://$app/x; }
           location /b { proxy_pass ${pool}; }
           location /c { proxy_pass http://$pool; } } }",
    );
    assert!(!upstreams.open_ended);
    assert_eq!(upstreams.servers[0].uses.len(), 1);
    assert!(addresses(&upstreams).contains(&"10.0.0.2:2".to_owned()));
    assert!(addresses(&upstreams).contains(&"10.0.0.3:3".to_owned()));
}

#[test]
fn what_only_nginx_at_work_knows_is_left_open() {
    for text in [
        "http { server { location / { proxy_pass http://$http_x; } } }",
        "http { server { location / { set $a $b; proxy_pass http://$a; } } }",
        "http { server { location / { access_by_lua_block { x = '}' } proxy_pass http://a:1; } } }",
        "http { upstream u { server 0.0.0.1; balancer_by_lua_file x; } }",
        "stream { server { listen 1; js_access main.a; proxy_pass a:1; } }",
    ] {
        let upstreams = read(text);
        assert!(upstreams.open_ended, "{text}");
        assert_eq!(upstreams.attribute(&dialled("10.0.0.5:1")).server, None);
    }
}

#[test]
fn a_timeout_of_a_pass_that_may_lead_anywhere_counts_for_every_address() {
    let upstreams = read(
        "http { server { location /a { proxy_pass http://10.0.0.1:1; }
           location /b { proxy_connect_timeout 1; proxy_pass http://$http_x; } } }",
    );
    assert_eq!(upstreams.connect_timeout_ms(&dialled("10.0.0.1:1")), None);
}

#[test]
fn ports_spoken_for_are_dialled_or_listened_on() {
    let upstreams = read(
        "http { server { listen 8080; listen [::]:8443 ssl; location / { proxy_pass http://a:9101; } }
          server { } }
         stream { server { listen 7000-7002; proxy_pass 127.0.0.1:5432; } }",
    );
    assert_eq!(
        upstreams.ports_spoken_for(),
        [80, 5432, 7000, 7001, 7002, 8080, 8443, 9101]
    );
}

#[test]
fn the_log_level_is_the_one_in_effect_where_requests_are_passed_on() {
    for (text, level) in [
        ("", LogLevel::Error),
        ("error_log /x crit;", LogLevel::Crit),
        ("error_log /x;\nerror_log /y info;", LogLevel::Info),
        (
            "error_log /x debug; http { error_log /y crit; server { location / { proxy_pass http://a; } } }",
            LogLevel::Crit,
        ),
        (
            "http { error_log /y crit; server { location / { proxy_pass http://a; error_log /z warn; } } }",
            LogLevel::Warn,
        ),
        ("error_log syslog:server=x debug_http;", LogLevel::Debug),
    ] {
        assert_eq!(read(text).log_level(), level, "{text}");
    }
    assert!(LogLevel::Crit < LogLevel::Error && LogLevel::Error < LogLevel::Debug);
}

#[test]
fn what_could_not_be_read_is_told() {
    let upstreams = read_with_hosts(b"http { include none; ", "");
    assert_eq!(upstreams.problems.len(), 2);
}

proptest! {
    #[test]
    fn any_configuration_is_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        text in "((http|server|location /|upstream u|map \\$a \\$b) \\{ |\\} |(proxy_pass|fastcgi_pass|server|listen|set \\$a|proxy_connect_timeout|error_log) [a-z$:/.\\[\\]0-9]{0,12} ?[0-9a-z$]{0,3};){0,20}",
    ) {
        let text = [text.as_bytes(), &bytes].concat();
        let upstreams = read_with_hosts(&text, "");
        let _ = upstreams.ports_spoken_for();
        let _ = upstreams.attribute(&dialled("127.0.0.1:80"));
    }

    #[test]
    fn every_server_of_a_block_is_found_again(ports in proptest::collection::btree_set(1_u16.., 1..20)) {
        let servers: String = ports.iter().map(|port| format!("server 10.1.2.3:{port};\n")).collect();
        let text = format!("http {{ upstream u {{\n{servers}}} server {{ location / {{ proxy_pass http://u; }} }} }}");
        let upstreams = read(&text);
        for (index, port) in ports.iter().enumerate() {
            let found = upstreams.attribute(&dialled(&format!("10.1.2.3:{port}")));
            let line = u32::try_from(index).expect("few") + 2;
            prop_assert_eq!(found, attribution(Some("u"), Some(line), None, Some(60_000)));
        }
    }
}
