//! ICMP errors: what they are called and which error number the kernel makes of them.

use crate::case::Icmp;

/// The error number that reaches a TCP socket in SYN_SENT; null for messages that only adjust the
/// connection (`icmp_err_convert` with `tcp_v4_err`, `icmpv6_err_convert` with `tcp_v6_err`).
pub(super) fn errno(icmp: Icmp) -> Option<i32> {
    if icmp.v6 {
        errno_v6(icmp)
    } else {
        errno_v4(icmp)
    }
}

/// Only a packet filter answers a TCP SYN so: the kernel's own paths send these codes for other
/// protocols or not at all (`icmp_send` and `icmpv6_send` in net/ipv4 and net/ipv6).
pub(super) fn only_filters_send(icmp: Icmp) -> bool {
    if icmp.v6 {
        matches!((icmp.kind, icmp.code), (1, 4))
    } else {
        matches!((icmp.kind, icmp.code), (3, 2 | 3 | 9 | 10))
    }
}

/// The host or the next hop did not answer ARP or ND: what `arp_error_report` and
/// `ndisc_error_report` send.
pub(super) fn is_host_unreachable(icmp: Icmp) -> bool {
    matches!(
        (icmp.v6, icmp.kind, icmp.code),
        (false, 3, 1) | (true, 1, 3)
    )
}

/// A router tells of a shorter way and forwards the packet all the same: no error.
pub(super) fn is_redirect(icmp: Icmp) -> bool {
    icmp.kind == if icmp.v6 { 137 } else { 5 }
}

/// Name, type and code, such as `host unreachable (ICMP 3/1)`.
pub(super) fn words(icmp: Icmp) -> String {
    let (family, name) = if icmp.v6 {
        ("ICMPv6", name_v6(icmp))
    } else {
        ("ICMP", name_v4(icmp))
    };
    format!("{name} ({family} {}/{})", icmp.kind, icmp.code)
}

fn errno_v4(icmp: Icmp) -> Option<i32> {
    match (icmp.kind, icmp.code) {
        (3, 0 | 6 | 9 | 11) => Some(libc::ENETUNREACH),
        (3, 1 | 10 | 12..=15) | (11, _) => Some(libc::EHOSTUNREACH),
        (3, 2) => Some(libc::ENOPROTOOPT),
        (3, 3) => Some(libc::ECONNREFUSED),
        (3, 5) => Some(libc::EOPNOTSUPP),
        (3, 7) => Some(libc::EHOSTDOWN),
        (3, 8) => Some(libc::ENONET),
        (12, _) => Some(libc::EPROTO),
        _ => None,
    }
}

fn errno_v6(icmp: Icmp) -> Option<i32> {
    match (icmp.kind, icmp.code) {
        (1, 0) => Some(libc::ENETUNREACH),
        (1, 1 | 5 | 6) => Some(libc::EACCES),
        (1, 2 | 3) | (3, _) => Some(libc::EHOSTUNREACH),
        (1, 4) => Some(libc::ECONNREFUSED),
        (1, _) | (4, _) => Some(libc::EPROTO),
        _ => None,
    }
}

fn name_v4(icmp: Icmp) -> &'static str {
    match (icmp.kind, icmp.code) {
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed",
        (3, 5) => "source route failed",
        (3, 6) => "network unknown",
        (3, 7) => "host unknown",
        (3, 8) => "source host isolated",
        (3, 9) => "network administratively prohibited",
        (3, 10) => "host administratively prohibited",
        (3, 11) => "network unreachable for this type of service",
        (3, 12) => "host unreachable for this type of service",
        (3, 13) => "communication administratively prohibited",
        (3, 14) => "host precedence violation",
        (3, 15) => "precedence cut-off",
        (11, 0) => "time to live exceeded",
        (11, 1) => "fragment reassembly time exceeded",
        (12, _) => "parameter problem",
        _ => "an ICMP error without a name",
    }
}

fn name_v6(icmp: Icmp) -> &'static str {
    match (icmp.kind, icmp.code) {
        (1, 0) => "no route",
        (1, 1) => "administratively prohibited",
        (1, 2) => "beyond the scope of the source address",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, 5) => "source address failed a policy",
        (1, 6) => "route rejects the destination",
        (2, _) => "packet too big",
        (3, 0) => "hop limit exceeded",
        (3, 1) => "fragment reassembly time exceeded",
        (4, _) => "parameter problem",
        _ => "an ICMPv6 error without a name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(kind: u8, code: u8) -> Icmp {
        Icmp {
            kind,
            code,
            v6: false,
        }
    }

    fn v6(kind: u8, code: u8) -> Icmp {
        Icmp {
            kind,
            code,
            v6: true,
        }
    }

    #[test]
    fn error_numbers_are_those_that_nginx_was_seen_to_get() {
        for (icmp, expected) in [
            (v4(3, 0), libc::ENETUNREACH),
            (v4(3, 1), libc::EHOSTUNREACH),
            (v4(3, 2), libc::ENOPROTOOPT),
            (v4(3, 3), libc::ECONNREFUSED),
            (v4(3, 10), libc::EHOSTUNREACH),
            (v4(3, 13), libc::EHOSTUNREACH),
            (v4(11, 0), libc::EHOSTUNREACH),
            (v6(1, 0), libc::ENETUNREACH),
            (v6(1, 1), libc::EACCES),
            (v6(1, 3), libc::EHOSTUNREACH),
            (v6(1, 4), libc::ECONNREFUSED),
            (v6(1, 5), libc::EACCES),
            (v6(1, 6), libc::EACCES),
        ] {
            assert_eq!(errno(icmp), Some(expected), "{}", words(icmp));
        }
    }

    #[test]
    fn messages_about_packet_size_end_no_attempt() {
        assert_eq!(errno(v4(3, 4)), None);
        assert_eq!(errno(v6(2, 0)), None);
    }

    #[test]
    fn a_host_that_is_not_there_is_told_from_a_filter() {
        assert!(is_host_unreachable(v4(3, 1)) && is_host_unreachable(v6(1, 3)));
        assert!(!is_host_unreachable(v4(3, 3)) && !is_host_unreachable(v6(1, 1)));
        assert!(only_filters_send(v4(3, 3)) && !only_filters_send(v4(3, 13)));
    }
}
