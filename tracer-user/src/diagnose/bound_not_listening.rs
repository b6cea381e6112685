//! `bound-not-listening`: a socket is bound there that never called `listen()`.

use crate::case::{BoundSocket, Case, Listener};
use crate::diagnose::evidence::{self, Refusal};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, narration, wording};
use crate::verdict::Code;

pub(super) fn bound_not_listening(case: &Case) -> Option<Finding> {
    let refusal = evidence::refusal(case)?;
    let bound = case
        .host
        .bound
        .iter()
        .find(|bound| bound.netns == refusal.netns && is_meant(case, bound, refusal))?;
    let who = wording::owner(&bound.owners);
    let finding = Finding::new(
        Code::BoundNotListening,
        refusal.confidence,
        format!(
            "{who} has bound {} but does not listen on it (no listen() call)",
            bound.address
        ),
    )
    .because(format!(
        "a TCP socket of {who} is bound to {} and is not in LISTEN",
        bound.address
    ))
    .with(narration::translation(case), Finding::because)
    .rule_out(
        Code::NoListener,
        "a socket is there; it is bound and does not listen",
    )
    .with(bound.owners.first(), |finding, owner| {
        finding
            .fix(format!(
                "look why {} has not called listen(): is it still starting, or stuck?",
                wording::process(owner)
            ))
            .fix(format!("strace -f -p {} -e trace=network", owner.pid))
    });
    Some(finding)
}

/// A client's socket can be bound to the same port; nginx's own never is the backend.
fn is_meant(case: &Case, bound: &BoundSocket, refusal: Refusal) -> bool {
    let socket = Listener {
        address: bound.address,
        v6only: false,
        device: None,
        netns: bound.netns,
        queue: None,
        since: None,
        owners: bound.owners.clone(),
    };
    addresses::covers(&socket, refusal.target) && !addresses::is_own(case, &socket)
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::Code;

    #[test]
    fn a_bound_socket_counts_where_the_syn_arrived_alone() {
        let mut case = refused("127.0.0.1:9101", OWN);
        let bound = |netns| BoundSocket {
            address: address("127.0.0.1:9101"),
            netns,
            owners: vec![process(977, "python3")],
        };
        case.host.bound = vec![bound(OWN)];
        assert_eq!(diagnose(&case).verdict.code, Code::BoundNotListening);
        case.host.bound = vec![bound(OTHER)];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }
}
