//! `undetermined`: the evidence does not decide; what would have is said.

use crate::case::{Case, Ending, Family};
use crate::diagnose::coverage::{Observation, is_unavailable};
use crate::diagnose::evidence;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, after, firewall, surface, wording};
use crate::verdict::{Code, Confidence};

/// What diagnosis says where no cause fits.
pub(super) fn undetermined(case: &Case) -> Finding {
    let finding = match case.attempt.ending {
        Ending::SocketFailed { errno } => socket_failed(errno),
        Ending::BindFailed { errno } => refused_call("bind()", errno),
        Ending::ConnectFailed { errno, .. } => connect_failed(case, errno),
        Ending::SocketError {
            errno: libc::ETIMEDOUT,
        }
        | Ending::GaveUp
            if evidence::ended_in_silence(case) =>
        {
            silence(case)
        }
        Ending::SocketError { errno } => answered(case, errno),
        Ending::GaveUp => answered(case, surface::errno(case).unwrap_or_default()),
        Ending::AfterConnect { .. } => after::unexplained(case),
        Ending::Undialled { .. } => Finding::new(
            Code::Undetermined,
            Confidence::Possible,
            "nginx dialled nobody, and its log does not say why",
        )
        .missing("nginx's reason"),
        Ending::Established => Finding::new(
            Code::Undetermined,
            Confidence::Possible,
            format!(
                "the connection to {} stood; what failed after it was not observed",
                wording::dialled(case)
            ),
        )
        .missing("what passed over the connection"),
    };
    with_unavailable(case, finding)
}

fn socket_failed(errno: i32) -> Finding {
    let finding = refused_call("socket()", errno);
    if errno == libc::EAFNOSUPPORT {
        finding
            .missing("whether the kernel has this address family (ipv6.disable=1?) or a seccomp filter hides it")
            .fix("cat /proc/sys/net/ipv6/conf/all/disable_ipv6; cat /proc/cmdline")
    } else {
        finding.missing("why the kernel refused a socket")
    }
}

fn connect_failed(case: &Case, errno: i32) -> Finding {
    let finding = refused_call("connect()", errno);
    match (case.attempt.family, &case.host.route) {
        (Family::Unix, _) => finding.missing("why the kernel refused this path"),
        (_, None) => finding.missing(
            "the kernel's answer to a route request for this address: it would tell routing from a policy",
        ),
        (_, Some(route)) => finding
            .because(match route.error {
                Some(error) => format!(
                    "a route request for this address is answered with {}, not with {}",
                    wording::errno_name(error),
                    wording::errno_name(errno)
                ),
                None => "a route request for this address is answered with a route".to_owned(),
            })
            .missing("what refused: neither routing as it is now nor a known policy gives this error"),
    }
}

fn refused_call(call: &str, errno: i32) -> Finding {
    Finding::new(
        Code::Undetermined,
        Confidence::Possible,
        format!(
            "{call} failed with {}; the evidence does not say why",
            wording::errno_name(errno)
        ),
    )
}

fn silence(case: &Case) -> Finding {
    let dialled = wording::dialled(case);
    let stuck = evidence::retransmissions(case).any(|error| error == -1);
    if stuck {
        let finding = Finding::new(
            Code::Undetermined,
            Confidence::Probable,
            format!("this host dropped the SYN to {dialled} on its way out: an output rule of the firewall or a cgroup program"),
        )
        .because("sending the SYN again was refused on this host (-1), so it never left")
        .rule_out(Code::NoAnswer, "the SYN did not leave this host")
        .missing("the drop's reason, which tells a netfilter rule (firewall-drop) from a cgroup program (packet-dropped)");
        return firewall::with_rules_to_read(case, case.worker.netns, finding)
            .fix("bpftool cgroup tree");
    }
    unexplained_silence(case)
}

fn unexplained_silence(case: &Case) -> Finding {
    let finding = Finding::new(
        Code::Undetermined,
        Confidence::Possible,
        format!(
            "nothing answered the SYN to {}, and no evidence says where it was lost",
            wording::dialled(case)
        ),
    );
    let listener = addresses::covering_listener(case, None);
    let waits = evidence::retransmissions(case).any(|error| error == -libc::EBUSY);
    finding
        .when(waits, |finding| {
            finding.missing("where the SYN still waits: in a queue of a packet filter or of a device or, where a rule sends it elsewhere, for the link-layer address of a neighbour")
        })
        .when(addresses::is_on_this_host(case), |finding| {
            finding.missing("a drop inside this host that gives no reason: a full SYN queue, an accept queue that was full only for a while, or a native XDP program")
        })
        .when(!addresses::is_on_this_host(case), |finding| {
            finding.missing("what became of the SYN: nothing tells whether it left this host")
        })
        .with(listener, |finding, listener| {
            finding
                .because(format!("{} listens there", wording::listener(listener)))
                .rule_out(Code::NoListener, "a socket listens on the target address")
                .listener(Some(listener))
                .fix(wording::in_namespace(case, listener.netns, "nstat -az TcpExtListenDrops TcpExtListenOverflows TcpExtTCPReqQFullDrop"))
        })
}

fn answered(case: &Case, errno: i32) -> Finding {
    let finding = Finding::new(
        Code::Undetermined,
        Confidence::Possible,
        format!(
            "the connection to {} failed with {}; no evidence says who caused it",
            wording::dialled(case),
            wording::errno_name(errno)
        ),
    );
    let listener = addresses::covering_listener(case, None);
    finding
        .with(listener, |finding, listener| {
            finding
                .because(format!(
                    "{} listens there and covers the address, yet the connection was refused",
                    wording::listener(listener)
                ))
                .listener(Some(listener))
        })
        .missing(
            "the packet that refused: no reset of this host, no drop and no ICMP error decides it",
        )
}

fn with_unavailable(case: &Case, finding: Finding) -> Finding {
    let waited = matches!(
        case.attempt.ending,
        Ending::SocketError { .. } | Ending::GaveUp
    );
    let relevant: Vec<Observation> = Observation::ALL
        .into_iter()
        .filter(|observation| waited && is_unavailable(&case.coverage, *observation))
        .collect();
    finding.relies_on(&relevant)
}
