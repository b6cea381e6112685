//! How to remove the route or rule that refuses.

use std::net::SocketAddr;

use crate::case::{Case, Route};
use crate::diagnose::wording;

/// The route or rule exists in order to refuse: removing it cannot take a working route away.
pub(super) fn refuses(route: &Route) -> bool {
    let kind = route.kind.as_deref().unwrap_or_default();
    route.by_rule || matches!(kind, "unreachable" | "prohibit" | "blackhole" | "throw")
}

/// The command that removes the line that refuses.
pub(super) fn deletion(case: &Case, address: SocketAddr, route: &Route, line: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(wording::shell_word).collect();
    let words = words.join(" ");
    let family = family_option(address);
    let command = if !route.by_rule {
        format!("ip {family}route del {words}{}", table_option(route, line))
    } else if let Some((priority, selector)) = words.split_once(": ") {
        format!("ip {family}rule del pref {priority} {selector}")
    } else {
        format!("ip {family}rule del {words}")
    };
    wording::in_namespace(case, case.worker.netns, &command)
}

/// What `ip` wants to hear before its object for IPv6.
pub(super) fn family_option(address: SocketAddr) -> &'static str {
    if address.is_ipv6() { "-6 " } else { "" }
}

/// `ip route` leaves out the table where it was asked for one, and deletes from the main one.
fn table_option(route: &Route, line: &str) -> String {
    const MAIN: u32 = libc::RT_TABLE_MAIN as u32;
    match route.table {
        Some(table) if table != MAIN && !line.contains(" table ") => format!(" table {table}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;

    #[test]
    fn a_hostile_device_name_stays_one_word_of_the_fix() {
        let ending = Ending::ConnectFailed {
            errno: libc::ENETUNREACH,
            reached_syn_sent: false,
        };
        let mut case = case("10.99.1.2:9101", ending);
        let mut down = route(Some(libc::ENETUNREACH), "unicast", None);
        down.device = Some("a;reboot".to_owned());
        down.link_up = Some(false);
        case.host.route = Some(down);
        let fix = diagnose(&case).verdict.fix;
        assert!(
            fix.contains(&"ip link set 'a;reboot' up".to_owned()),
            "{fix:?}"
        );
    }

    #[test]
    fn the_line_that_refuses_is_removed_by_a_command_that_iproute2_takes() {
        let ending = Ending::ConnectFailed {
            errno: libc::EACCES,
            reached_syn_sent: false,
        };
        let mut case = case("10.99.1.2:9101", ending);
        let mut rule = route(
            Some(libc::EACCES),
            "prohibit",
            Some("100: from all to 10.99.1.0/24 prohibit"),
        );
        rule.by_rule = true;
        case.host.route = Some(rule);
        assert_eq!(
            diagnose(&case).verdict.fix[0],
            "ip rule del pref 100 from all to 10.99.1.0/24 prohibit"
        );
        let mut other = route(
            Some(libc::EACCES),
            "prohibit",
            Some("prohibit 10.99.1.0/24"),
        );
        other.table = Some(77);
        case.host.route = Some(other);
        assert_eq!(
            diagnose(&case).verdict.fix[0],
            "ip route del prohibit 10.99.1.0/24 table 77"
        );
    }

    #[test]
    fn a_working_route_over_a_dead_link_is_not_removed() {
        let ending = Ending::ConnectFailed {
            errno: libc::ENETUNREACH,
            reached_syn_sent: false,
        };
        let mut case = case("10.99.1.2:9101", ending);
        let mut down = route(
            Some(libc::ENETUNREACH),
            "unicast",
            Some("10.99.1.0/24 dev eth1 linkdown"),
        );
        down.device = Some("eth1".to_owned());
        down.link_up = Some(false);
        case.host.route = Some(down);
        assert_eq!(diagnose(&case).verdict.fix[0], "ip link set eth1 up");
    }
}
