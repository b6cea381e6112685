//! `wrong-port`: nothing listens there, and a listener on another port is plausibly the one meant.

use crate::case::{Case, Listener};
use crate::diagnose::evidence::{self, Refusal};
use crate::diagnose::finding::Finding;
use crate::diagnose::port_likeness::{self, Likeness};
use crate::diagnose::{addresses, narration, wording};
use crate::verdict::{Code, Confidence};

/// So many listeners are named at most.
const MOST_CANDIDATES: usize = 5;

pub(super) fn wrong_port(case: &Case) -> Option<Finding> {
    let refusal = evidence::refusal(case)?;
    // Where a translation went past a listener on the dialled port, that port was right.
    if addresses::bypassed(case).is_some() || listens_there(case, refusal) {
        return None;
    }
    let candidates = candidates(case, refusal);
    let (best, likeness) = *candidates.first()?;
    let rivals = candidates
        .iter()
        .filter(|(_, other)| *other == likeness)
        .map(|(listener, _)| listener.address.port())
        .any(|port| port != best.address.port());
    let confidence = match likeness {
        Likeness::Application if !stands_out(case, refusal, best) => return None,
        Likeness::Application => Confidence::Possible,
        Likeness::Related | Likeness::Slip if rivals => Confidence::Possible,
        Likeness::Related | Likeness::Slip => Confidence::Probable,
    };
    Some(
        finding(case, refusal, best, likeness, confidence).candidates(
            candidates
                .iter()
                .filter(|(_, other)| *other == likeness)
                .take(MOST_CANDIDATES)
                .map(|(listener, _)| *listener),
        ),
    )
}

/// Applications that could have taken the SYN had it carried their port, on ports that do not look
/// like the dialled one: nothing says that one of them was meant.
pub(super) fn unlike_candidates(case: &Case, refusal: Refusal) -> Vec<&Listener> {
    candidates(case, refusal)
        .into_iter()
        .filter(|(_, likeness)| *likeness == Likeness::Application)
        .map(|(listener, _)| listener)
        .take(MOST_CANDIDATES)
        .collect()
}

/// The only application of the namespace, on the very address that was dialled: a wildcard
/// listener is there for any address.
fn stands_out(case: &Case, refusal: Refusal, listener: &Listener) -> bool {
    let alone = case
        .host
        .listeners
        .iter()
        .filter(|other| other.netns == refusal.netns && evidence::listened_then(case, other))
        .filter(|other| !addresses::is_own(case, other))
        .filter(|other| port_likeness::serves_an_application(other))
        .all(|other| other.address.port() == listener.address.port());
    alone && !listener.address.ip().is_unspecified()
}

fn finding(
    case: &Case,
    refusal: Refusal,
    best: &Listener,
    likeness: Likeness,
    confidence: Confidence,
) -> Finding {
    let port = best.address.port();
    let dialled = wording::dialled(case);
    let start = format!("start the backend that should listen on {}", refusal.target);
    let correct = if addresses::translated_to(case).is_some() {
        format!("let the translation of {dialled} lead to port {port}")
    } else {
        format!(
            "nginx.conf: server {}; instead of {dialled}",
            std::net::SocketAddr::new(refusal.target.ip(), port)
        )
    };
    let (first, second) = match likeness {
        Likeness::Slip => (correct, start),
        Likeness::Related | Likeness::Application => (start, correct),
    };
    Finding::new(
        Code::WrongPort,
        confidence.min(refusal.confidence),
        format!(
            "nothing listens on {}; {} may be the one meant",
            refusal.target,
            wording::listener(best)
        ),
    )
    .with(narration::translation(case), Finding::because)
    .because(format!(
        "{} listens in {} and covers the dialled address; this nginx is not known to use port {port} for anything else",
        wording::listener(best),
        wording::namespace(case, refusal.netns)
    ))
    .with(Some(refusal), evidence::rule_out_by_answer)
    .relies_on_nobody_bound()
    .missing("what was meant: no evidence tells a wrong port from a backend that is not running")
    .fix(first)
    .fix(second)
    .fix(format!("or let the backend listen on port {}", refusal.target.port()))
}

/// Listeners that could have taken the SYN had it carried their port, the likeliest first.
fn candidates(case: &Case, refusal: Refusal) -> Vec<(&Listener, Likeness)> {
    let mut found: Vec<(&Listener, Likeness)> = case
        .host
        .listeners
        .iter()
        .filter(|listener| listener.netns == refusal.netns)
        .filter(|listener| evidence::listened_then(case, listener))
        .filter(|listener| !addresses::is_own(case, listener))
        .filter(|listener| {
            !case
                .host
                .ports_spoken_for
                .contains(&listener.address.port())
        })
        .filter(|listener| {
            let mut target = refusal.target;
            target.set_port(listener.address.port());
            addresses::covers(listener, target)
        })
        .filter_map(|listener| {
            let likeness = port_likeness::likeness(refusal.target.port(), listener)?;
            Some((listener, likeness))
        })
        .collect();
    found.sort_by_key(|(listener, likeness)| {
        let wildcard = listener.address.ip().is_unspecified();
        (
            std::cmp::Reverse(*likeness),
            wildcard,
            listener.address.port(),
        )
    });
    found
}

fn listens_there(case: &Case, refusal: Refusal) -> bool {
    case.host.listeners.iter().any(|listener| {
        listener.netns == refusal.netns && addresses::covers(listener, refusal.target)
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_port_that_is_spoken_for_is_no_candidate() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.listeners = vec![listener("127.0.0.1:9102", OWN, "app")];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::WrongPort, Confidence::Probable)
        );
        case.host.ports_spoken_for = vec![9102];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn a_listener_that_the_address_does_not_reach_is_no_candidate() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.listeners = vec![
            listener("127.0.0.2:9102", OWN, "app"),
            listener("127.0.0.1:9102", OTHER, "app"),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn rivals_make_it_only_possible_and_unlike_rivals_say_nothing() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.listeners = vec![
            listener("127.0.0.1:9102", OWN, "app"),
            listener("127.0.0.1:9103", OWN, "app"),
        ];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::WrongPort, Confidence::Possible)
        );
        assert_eq!(
            verdict.fix[..2],
            [
                "nginx.conf: server 127.0.0.1:9102; instead of 127.0.0.1:9101",
                "start the backend that should listen on 127.0.0.1:9101"
            ]
        );
        case.host.listeners = vec![
            listener("127.0.0.1:5999", OWN, "python3"),
            listener("127.0.0.1:7001", OWN, "java"),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn a_lone_application_on_the_dialled_address_is_a_guess_and_elsewhere_a_candidate() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.listeners = vec![listener("127.0.0.1:5999", OWN, "python3")];
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::WrongPort, Confidence::Possible)
        );
        assert!(verdict.fix[0].starts_with("start the backend"));
        assert!(verdict.fix[1].starts_with("nginx.conf: "));
        case.host.ports_spoken_for = vec![5999];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
        case.host.ports_spoken_for.clear();
        case.host.listeners[0].address = address("0.0.0.0:5999");
        let diagnosis = diagnose(&case);
        assert_eq!(diagnosis.verdict.code, Code::NoListener);
        assert_eq!(diagnosis.candidates, case.host.listeners);
        case.host.listeners = vec![
            listener("127.0.0.1:5999", OWN, "python3"),
            listener("127.0.0.2:7001", OWN, "java"),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn a_related_port_is_offered_after_the_start_of_the_backend() {
        let mut case = refused("127.0.0.1:80", OWN);
        case.host.listeners = vec![listener("127.0.0.1:8000", OWN, "app")];
        let verdict = diagnose(&case).verdict;
        assert_eq!(verdict.code, Code::WrongPort);
        assert!(verdict.fix[0].starts_with("start the backend"));
    }
}
