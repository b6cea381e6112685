//! `ports-exhausted`: the kernel found no free local port for this destination.

use crate::case::{Case, Ending, LocalPorts};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

/// `__inet_hash_connect` is the one place behind SYN_SENT that answers EADDRNOTAVAIL.
pub(super) fn ports_exhausted(case: &Case) -> Option<Finding> {
    let Ending::ConnectFailed {
        errno: libc::EADDRNOTAVAIL,
        reached_syn_sent: true,
    } = case.attempt.ending
    else {
        return None;
    };
    let fixed = case.attempt.bound.filter(|address| address.port() != 0);
    let finding = match fixed {
        Some(address) => one_port(case, &address.to_string()),
        None => no_port(case),
    };
    Some(
        finding
            .because_at(
                case.attempt.ended,
                "the socket had entered SYN_SENT, so routing had agreed; the search for a local port failed",
            )
            .rule_out(
                Code::RouteRefused,
                "routing refuses before SYN_SENT; this socket had entered it",
            )
            .rule_out(
                Code::BindFailed,
                "the error came out of connect(), not out of bind()",
            ),
    )
}

fn no_port(case: &Case) -> Finding {
    let dialled = wording::dialled(case);
    Finding::new(
        Code::PortsExhausted,
        Confidence::Certain,
        format!("no free local port is left for connections to {dialled}{}", in_words(case)),
    )
    .with(case.host.ports.as_ref(), counted)
    .when(case.host.ports.is_none(), |finding| {
        finding.missing("the sockets that hold the local ports could not be counted")
    })
    .with(case.attempt.bound, |finding, source| {
        finding.because(format!(
            "proxy_bind gives all these connections the one source address {}",
            source.ip()
        ))
    })
    .fix("upstream { …; keepalive 64; } with proxy_http_version 1.1 and proxy_set_header Connection \"\": reuse connections")
    .fix(wording::in_namespace(case, case.worker.netns, "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""))
    .fix(wording::in_namespace(case, case.worker.netns, "sysctl -w net.ipv4.tcp_tw_reuse=1"))
    .fix("spread over several source addresses: split_clients with proxy_bind, or several upstream addresses")
}

fn one_port(case: &Case, source: &str) -> Finding {
    Finding::new(
        Code::PortsExhausted,
        Confidence::Certain,
        format!(
            "proxy_bind pins every connection to {source}, and one from there to {} exists already",
            wording::dialled(case)
        ),
    )
    .with(case.host.ports.as_ref(), counted)
    .fix("nginx.conf: leave the port out of proxy_bind, so that each connection gets its own")
}

fn counted(finding: Finding, ports: &LocalPorts) -> Finding {
    let states: Vec<String> = ports
        .by_state
        .iter()
        .take(8)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let holders: Vec<String> = ports
        .holders
        .iter()
        .take(4)
        .map(|(holder, count)| format!("{} {count}", wording::process(holder)))
        .collect();
    finding
        .because(format!(
            "net.ipv4.ip_local_port_range is {} to {}: {} ports",
            ports.first,
            ports.last,
            range(ports)
        ))
        .when(!states.is_empty(), |finding| {
            finding.because(format!(
                "sockets towards this destination: {}",
                states.join(", ")
            ))
        })
        .when(!holders.is_empty(), |finding| {
            finding.because(format!("held by {}", holders.join(", ")))
        })
}

fn in_words(case: &Case) -> String {
    let Some(ports) = &case.host.ports else {
        return String::new();
    };
    match ports.by_state.first() {
        Some((state, count)) => format!(
            ": {count} of {} are held by sockets in {state}",
            range(ports)
        ),
        None => String::new(),
    }
}

fn range(ports: &LocalPorts) -> u32 {
    (u32::from(ports.last) + 1).saturating_sub(u32::from(ports.first))
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn the_search_for_a_port_is_told_from_a_missing_source_address() {
        let exhausted = |reached_syn_sent| Ending::ConnectFailed {
            errno: libc::EADDRNOTAVAIL,
            reached_syn_sent,
        };
        let verdict = diagnose(&case("[2001:db8::7]:9101", exhausted(true))).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::PortsExhausted, Confidence::Certain)
        );
        let verdict = diagnose(&case("[2001:db8::7]:9101", exhausted(false))).verdict;
        assert_eq!(verdict.code, Code::RouteRefused);
    }

    #[test]
    fn a_fixed_port_of_proxy_bind_is_named() {
        let mut case = case(
            "127.0.0.1:9101",
            Ending::ConnectFailed {
                errno: libc::EADDRNOTAVAIL,
                reached_syn_sent: true,
            },
        );
        case.attempt.bound = Some(address("127.0.0.1:40000"));
        assert!(diagnose(&case).verdict.summary.contains("proxy_bind pins"));
        case.attempt.bound = Some(address("127.0.0.1:0"));
        assert!(
            diagnose(&case)
                .verdict
                .summary
                .contains("no free local port")
        );
    }
}
