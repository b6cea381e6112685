//! `other-netns`: what was dialled is listened on in another network namespace of this host.

use crate::case::{Case, Listener};
use crate::diagnose::evidence::{self, Refusal};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, narration, port_likeness, wording};
use crate::verdict::{Code, Confidence};

pub(super) fn other_netns(case: &Case) -> Option<Finding> {
    let refusal = evidence::refusal(case)?;
    let elsewhere = elsewhere(case, refusal);
    let nearest = *elsewhere.first()?;
    let spread = elsewhere
        .iter()
        .any(|listener| listener.netns != nearest.netns);
    let confidence = confidence(nearest, spread).min(refusal.confidence);
    let there = wording::namespace(case, nearest.netns);
    let finding = Finding::new(
        Code::OtherNetns,
        confidence,
        format!(
            "{} listens in {there}; in {}, where the SYN arrived, nothing does",
            wording::listener(nearest),
            wording::namespace(case, refusal.netns)
        ),
    )
    .with(narration::translation(case), Finding::because)
    .because(format!(
        "in {there} the same address and port are listened on by {}",
        wording::listener(nearest)
    ))
    .when(spread, |finding| {
        finding.because("several network namespaces listen on that port; which one was meant is not known")
    })
    .when(confidence < refusal.confidence, |finding| {
        finding.because("that listener may belong to something else; if it does, nothing listens here at all (no-listener)")
    })
    .rule_out(
        Code::NoListener,
        "the address and port are listened on, in another network namespace",
    )
    .relies_on_nobody_bound()
    .listener(Some(nearest))
    .candidates(elsewhere.iter().copied());
    Some(remedy(case, finding, nearest))
}

/// Listeners of other namespaces on what was dialled, those on the very address first.
fn elsewhere(case: &Case, refusal: Refusal) -> Vec<&Listener> {
    let mut found: Vec<&Listener> = case
        .host
        .listeners
        .iter()
        .filter(|listener| listener.netns != refusal.netns)
        .filter(|listener| evidence::listened_then(case, listener))
        .filter(|listener| !addresses::is_own(case, listener))
        .filter(|listener| is_same_place(case, listener, refusal))
        .collect();
    found.sort_by_key(|listener| listener.address.ip().is_unspecified());
    found
}

/// Loopback and wildcards exist in every namespace; any other address only where it is owned.
fn is_same_place(case: &Case, listener: &Listener, refusal: Refusal) -> bool {
    let exact = listener.address.ip().to_canonical() == refusal.target.ip();
    let everywhere = addresses::is_loopback(refusal.target.ip());
    let owned = addresses::is_owned_in(case, listener.netns);
    addresses::covers(listener, refusal.target) && (exact || everywhere || owned)
}

fn confidence(nearest: &Listener, spread: bool) -> Confidence {
    let wildcard = nearest.address.ip().is_unspecified();
    // An nginx on the same port elsewhere serves others.
    let another_nginx = nearest.owners.iter().any(|owner| owner.nginx);
    if spread || another_nginx || (wildcard && port_likeness::is_common(nearest.address.port())) {
        Confidence::Probable
    } else {
        Confidence::Certain
    }
}

fn remedy(case: &Case, finding: Finding, nearest: &Listener) -> Finding {
    let port = nearest.address.port();
    let owner = nearest.owners.first();
    finding
        .with(owner, |finding, owner| {
            finding.fix(format!("nsenter -t {} -n ip -brief address: dial an address of that namespace that nginx can reach", owner.pid))
        })
        .when(nearest.address.ip().to_canonical().is_loopback(), |finding| {
            finding.fix(format!("let the backend listen on 0.0.0.0:{port} in its namespace; its loopback is not nginx's"))
        })
        .with(owner.and_then(|owner| owner.container.as_deref()), |finding, _| {
            finding.fix(format!("publish the container's port (-p {port}:{port}), or give both containers one network"))
        })
        .when(case.worker.container.is_some(), |finding| {
            finding.fix("in nginx's container 127.0.0.1 is the container itself: dial the host or the other container by name")
        })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn the_same_loopback_address_elsewhere_is_found() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.listeners = vec![listener("127.0.0.1:9101", OTHER, "python3")];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::OtherNetns, Confidence::Certain)
        );
        case.host.listeners[0].address = address("127.0.0.2:9101");
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn several_namespaces_leave_a_doubt() {
        let mut case = refused("[::1]:9101", OWN);
        case.host.listeners = vec![
            listener("[::]:9101", OTHER, "python3"),
            listener("[::]:9101", OTHER + 1, "python3"),
        ];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::OtherNetns, Confidence::Probable)
        );
    }

    #[test]
    fn a_listener_here_on_another_address_is_nearer() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.listeners = vec![
            listener("127.0.0.1:9101", OTHER, "python3"),
            listener("127.0.0.2:9101", OWN, "python3"),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::WrongAddress);
    }
}
