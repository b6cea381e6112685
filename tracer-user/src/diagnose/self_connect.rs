//! `self-connect`: the socket was given the dialled port as its own and connected to itself.

use crate::case::{Case, Ending};
use crate::diagnose::finding::Finding;
use crate::diagnose::wording;
use crate::verdict::{Code, Confidence};

pub(super) fn self_connect(case: &Case) -> Option<Finding> {
    let (Ending::Established, Some(local), Some(remote)) =
        (case.attempt.ending, case.attempt.local, case.attempt.remote)
    else {
        return None;
    };
    if local != remote {
        return None;
    }
    let port = remote.port();
    let finding = Finding::new(
        Code::SelfConnect,
        Confidence::Certain,
        format!("nginx connected to itself: nothing listens on {}, and the kernel chose that very port as the local one", wording::dialled(case)),
    )
    .because(format!("both ends of the connection are {local}"))
    .with(case.host.ports.as_ref(), |finding, ports| {
        finding.because(format!(
            "port {port} is within net.ipv4.ip_local_port_range ({} to {})",
            ports.first, ports.last
        ))
    })
    .rule_out(
        Code::ProtocolMismatch,
        "nginx reads its own request back; there is no backend at the other end",
    )
    .fix("start the backend")
    .fix(wording::in_namespace(case, case.worker.netns, &format!("sysctl -w net.ipv4.ip_local_reserved_ports={port}")))
    .fix("let the backend listen on a port outside net.ipv4.ip_local_port_range");
    Some(finding)
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_socket_connected_to_itself_is_told_from_one_that_merely_stands() {
        let mut case = case("127.0.0.1:40000", Ending::Established);
        case.attempt.local = case.attempt.remote;
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::SelfConnect, Confidence::Certain)
        );
        case.attempt.local = Some(address("127.0.0.1:40001"));
        assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
    }
}
