use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::host::testing::{Sandbox, eventually, root_or_skip};

/// Two linked interfaces, `v0` with addresses, and routes and rules of every kind.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for command in [
        "link add v0 type veth peer name v1",
        "link set v0 up",
        "link set v1 up",
        "addr add 10.5.0.1/24 broadcast 10.5.0.255 dev v0",
        "addr add fd05::1/64 dev v0 nodad",
        "route add 10.8.0.0/16 via 10.5.0.3 dev v0 src 10.5.0.1 metric 50 proto static",
        "route add 10.7.0.0/16 nexthop via 10.5.0.3 weight 2 nexthop via 10.5.0.4",
        "route add 10.77.0.0/16 via inet6 fd05::9 dev v0",
        "-6 route add fd08::/32 via fd05::2 metric 5",
        "rule add uidrange 33-33 to 10.20.0.0/16 unreachable",
        "rule add to 10.21.0.0/16 prohibit",
        "rule add to 10.22.0.0/16 blackhole",
        "rule add to 10.23.0.0/16 ipproto tcp dport 80-81 unreachable",
        "rule add from 10.5.0.1 to 10.8.9.0/24 prohibit",
        "rule add fwmark 0x5/0xff to 10.25.0.0/16 prohibit",
        "route add unreachable 10.26.0.0/16 table 100",
        "rule add to 10.26.0.0/16 lookup 100",
        "-6 rule add to fd20::/16 prohibit",
        "-6 rule add to fd21::/16 unreachable",
        "-6 rule add to fd22::/16 blackhole",
    ] {
        sandbox.ip(command);
    }
    for (number, kind) in ["unreachable", "prohibit", "blackhole", "throw"]
        .iter()
        .enumerate()
    {
        sandbox.ip(&format!("route add {kind} 10.9.{number}.0/24"));
        sandbox.ip(&format!("-6 route add {kind} fd09:{number}::/64"));
    }
    sandbox
}

fn ask_as(sandbox: &Sandbox, destination: &str, uid: u32) -> Route {
    let mut visit = Visit::to(&sandbox.namespace()).unwrap();
    let question = Question::new(destination.parse().unwrap(), Some(uid));
    route(&mut visit, &question).unwrap()
}

fn ask(sandbox: &Sandbox, destination: &str) -> Route {
    ask_as(sandbox, destination, 0)
}

/// The error number of a `connect()` there; null where it waits for an answer.
fn connect(sandbox: &Sandbox, destination: &str) -> Option<i32> {
    let destination = destination.parse().unwrap();
    sandbox.run(move || {
        let error = TcpStream::connect_timeout(&destination, Duration::from_millis(20))
            .expect_err("nothing listens there");
        match error.kind() {
            ErrorKind::TimedOut => None,
            _ => error.raw_os_error(),
        }
    })
}

#[test]
fn a_refusing_route_is_named_and_agrees_with_connect() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    for (destination, errno, kind, line) in [
        (
            "10.9.0.1:80",
            libc::EHOSTUNREACH,
            "unreachable",
            "unreachable 10.9.0.0/24",
        ),
        (
            "10.9.1.1:80",
            libc::EACCES,
            "prohibit",
            "prohibit 10.9.1.0/24",
        ),
        (
            "10.9.2.1:80",
            libc::EINVAL,
            "blackhole",
            "blackhole 10.9.2.0/24",
        ),
        (
            "10.9.3.1:80",
            libc::ENETUNREACH,
            "throw",
            "throw 10.9.3.0/24",
        ),
        (
            "10.26.0.1:80",
            libc::EHOSTUNREACH,
            "unreachable",
            "unreachable 10.26.0.0/16 table 100",
        ),
        (
            "[fd09:0::1]:80",
            libc::EHOSTUNREACH,
            "unreachable",
            "unreachable fd09::/64 dev lo metric 1024 pref medium",
        ),
        (
            "[fd09:1::1]:80",
            libc::EACCES,
            "prohibit",
            "prohibit fd09:1::/64 dev lo metric 1024 pref medium",
        ),
        (
            "[fd09:2::1]:80",
            libc::EINVAL,
            "blackhole",
            "blackhole fd09:2::/64 dev lo metric 1024 pref medium",
        ),
        (
            "[fd09:3::1]:80",
            libc::ENETUNREACH,
            "throw",
            "throw fd09:3::/64 dev lo metric 1024 pref medium",
        ),
    ] {
        let answer = ask(&sandbox, destination);
        assert_eq!(answer.error, Some(errno), "{destination}");
        assert_eq!(answer.kind.as_deref(), Some(kind), "{destination}");
        assert_eq!(answer.line.as_deref(), Some(line));
        assert!(!answer.by_rule);
        assert_eq!(connect(&sandbox, destination), Some(errno), "{destination}");
    }
}

#[test]
fn a_refusing_rule_is_named_and_agrees_with_connect() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    for (destination, errno, rule) in [
        (
            "10.21.0.1:80",
            libc::EACCES,
            "from all to 10.21.0.0/16 prohibit",
        ),
        (
            "10.22.0.1:80",
            libc::EINVAL,
            "from all to 10.22.0.0/16 blackhole",
        ),
        (
            "10.23.0.1:80",
            libc::ENETUNREACH,
            "from all to 10.23.0.0/16 ipproto tcp dport 80-81 unreachable",
        ),
        (
            "10.8.9.1:80",
            libc::EACCES,
            "from 10.5.0.1 to 10.8.9.0/24 prohibit",
        ),
        (
            "[fd20::1]:80",
            libc::EACCES,
            "from all to fd20::/16 prohibit",
        ),
        (
            "[fd21::1]:80",
            libc::ENETUNREACH,
            "from all to fd21::/16 unreachable",
        ),
        (
            "[fd22::1]:80",
            libc::EINVAL,
            "from all to fd22::/16 blackhole",
        ),
    ] {
        let answer = ask(&sandbox, destination);
        assert_eq!(answer.error, Some(errno), "{destination}");
        assert!(answer.by_rule, "{answer:?}");
        let line = answer.line.unwrap();
        assert_eq!(line.split_once(": ").unwrap().1, rule);
        let family = if destination.starts_with('[') {
            "-6"
        } else {
            "-4"
        };
        let printed = sandbox.ip(&format!("{family} rule")).replace(":\t", ": ");
        assert!(printed.contains(&line), "{line} is not in {printed}");
        assert_eq!(connect(&sandbox, destination), Some(errno), "{destination}");
    }
}

#[test]
fn a_rule_for_a_user_refuses_that_user_alone() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    sandbox.ip("route add default via 10.5.0.2");
    let answer = ask_as(&sandbox, "10.20.0.1:80", 33);
    assert_eq!(answer.error, Some(libc::ENETUNREACH));
    let line = answer.line.unwrap();
    assert!(line.ends_with("from all to 10.20.0.0/16 uidrange 33-33 unreachable"));
    assert_eq!(ask_as(&sandbox, "10.20.0.1:80", 0).error, None);
    let status = sandbox.run(|| {
        let script = "exec 2>/dev/null 3<>/dev/tcp/10.20.0.1/80";
        let mut bash = Command::new("timeout");
        bash.args(["0.2", "bash", "-c", script]).uid(33);
        bash.status().unwrap().code()
    });
    assert_eq!(
        status,
        Some(1),
        "124 would be the timeout of one that may connect"
    );
}

#[test]
fn a_mark_is_matched_under_its_mask() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    let mut visit = Visit::to(&sandbox.namespace()).unwrap();
    let mut question = Question::new("10.25.0.1:80".parse().unwrap(), None);
    question.mark = Some(0x105);
    let answer = route(&mut visit, &question).unwrap();
    assert_eq!(answer.error, Some(libc::EACCES));
    let line = answer.line.unwrap();
    assert!(line.ends_with("from all to 10.25.0.0/16 fwmark 0x5/0xff prohibit"));
}

#[test]
fn found_routes_are_printed_as_ip_prints_them() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    for (destination, gateway) in [
        ("10.8.1.1:80", Some("10.5.0.3")),
        ("10.77.1.1:80", Some("fd05::9")),
        ("10.5.0.7:80", None),
        ("[fd08::1]:80", Some("fd05::2")),
        ("[fd05::7]:80", None),
    ] {
        let answer = ask(&sandbox, destination);
        assert_eq!(answer.error, None);
        assert_eq!(answer.kind.as_deref(), Some("unicast"));
        assert_eq!(answer.gateway, gateway.map(|text| text.parse().unwrap()));
        assert_eq!(answer.device.as_deref(), Some("v0"));
        assert_eq!(answer.link_up, Some(true));
        assert_eq!(answer.table, Some(254));
        let line = answer.line.unwrap();
        let family = if destination.starts_with('[') {
            "-6"
        } else {
            "-4"
        };
        let printed = sandbox.ip(&format!("{family} route"));
        assert!(
            printed.lines().any(|printed| printed.trim_end() == line),
            "{line} is not in {printed}"
        );
    }
    let line = ask(&sandbox, "10.7.0.1:80").line.unwrap();
    assert_eq!(
        line,
        "10.7.0.0/16 nexthop via 10.5.0.3 dev v0 weight 2 nexthop via 10.5.0.4 dev v0 weight 1"
    );
}

#[test]
fn own_addresses_are_local() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    for destination in ["127.0.0.1:80", "10.5.0.1:80", "[::1]:80", "[fd05::1]:80"] {
        let answer = ask(&sandbox, destination);
        assert_eq!(answer.kind.as_deref(), Some("local"), "{destination}");
        assert_eq!(answer.table, Some(255));
    }
}

#[test]
fn broadcast_and_multicast_have_routes_that_connect_refuses() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    sandbox.ip("route add default via 10.5.0.2");
    for (destination, kind) in [
        ("10.5.0.255:80", "broadcast"),
        ("255.255.255.255:80", "broadcast"),
        ("224.0.0.1:80", "multicast"),
        ("[ff02::1]:80", "multicast"),
    ] {
        let answer = ask(&sandbox, destination);
        assert_eq!(answer.error, None, "{destination}");
        assert_eq!(answer.kind.as_deref(), Some(kind), "{destination}");
        assert!(!answer.line.unwrap_or_default().contains("default"));
        let refused = connect(&sandbox, destination);
        assert_eq!(refused, Some(libc::ENETUNREACH), "{destination}");
    }
}

#[test]
fn no_route_has_no_line() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    for destination in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        let answer = ask(&sandbox, destination);
        assert_eq!(answer.error, Some(libc::ENETUNREACH));
        assert_eq!((answer.line, answer.device), (None, None));
        assert_eq!(connect(&sandbox, destination), Some(libc::ENETUNREACH));
    }
}

#[test]
fn a_link_that_is_down_is_named_with_and_without_its_routes() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    sandbox.ip("link set v1 down");
    eventually(|| sandbox.ip("route").contains("linkdown"));
    let answer = ask(&sandbox, "10.5.0.7:80");
    assert_eq!((answer.error, answer.link_up), (None, Some(false)));
    assert!(answer.line.unwrap().ends_with("linkdown"));
    sandbox.ip("link set v0 down");
    let answer = ask(&sandbox, "10.5.0.7:80");
    assert_eq!(answer.error, Some(libc::ENETUNREACH));
    assert_eq!(answer.device.as_deref(), Some("v0"));
    assert_eq!(answer.link_up, Some(false));
    let refused = connect(&sandbox, "10.5.0.7:80");
    assert_eq!(refused, Some(libc::ENETUNREACH));
}

#[test]
fn connect_without_ipv6_addresses_or_scope_fails_in_its_own_way() {
    if !root_or_skip() {
        return;
    }
    let sandbox = sandbox();
    assert_eq!(ask(&sandbox, "[fe80::1]:80").error, None);
    assert_eq!(connect(&sandbox, "[fe80::1]:80"), Some(libc::EINVAL));
    sandbox.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
    for destination in ["[fd05::7]:80", "[::1]:80"] {
        let answer = ask(&sandbox, destination);
        assert_eq!(answer.error, Some(libc::ENETUNREACH), "{destination}");
        let refused = connect(&sandbox, destination);
        assert_eq!(refused, Some(libc::EADDRNOTAVAIL), "{destination}");
    }
}

#[test]
fn a_prefix_length_of_zero_covers_its_family() {
    let covers = |network: &str, prefix, address: &str| {
        search::covers(network.parse().unwrap(), prefix, address.parse().unwrap())
    };
    assert!(covers("0.0.0.0", 0, "10.0.0.1"));
    assert!(covers("10.0.0.0", 8, "10.255.0.1"));
    assert!(!covers("10.0.0.0", 9, "10.255.0.1"));
    assert!(covers("::1", 128, "::1"));
    assert!(!covers("::", 0, "10.0.0.1"));
}
