//! `no-listener`: the SYN reached a TCP stack of this host, and no socket was there to take it.

use crate::case::{Case, Listener};
use crate::diagnose::coverage::{Observation, silence_proves};
use crate::diagnose::evidence::{self, Refusal};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, narration, wording, wrong_port};
use crate::verdict::{Code, Confidence};

pub(super) fn no_listener(case: &Case) -> Option<Finding> {
    let refusal = evidence::refusal(case)?;
    let listener = listener_there(case, refusal);
    let later = listener.and_then(|listener| listener.since.filter(|since| *since > refusal.at));
    // A socket that listened all along contradicts the reset, unless its start was not seen.
    let start_seen = silence_proves(&case.coverage, &[Observation::ListenerChange]);
    if listener.is_some() && later.is_none() && start_seen {
        return None;
    }
    let namesake = addresses::namesakes(case).contains(&refusal.netns);
    let how = if refusal.confidence == Confidence::Certain {
        "the kernel answered the SYN with a reset (NO_SOCKET)"
    } else if namesake {
        "the connection was refused, and that namespace has the dialled address"
    } else {
        "the connection was refused by an address of this host"
    };
    let place = place(case, refusal);
    let finding = Finding::new(
        Code::NoListener,
        refusal.confidence,
        format!("nothing listens on {}{place}; {how}", refusal.target),
    )
    .with(narration::translation(case), Finding::because)
    .because(format!(
        "no TCP socket listened on {} in {}, and none was seen to end since the trace began",
        refusal.target,
        wording::namespace(case, refusal.netns)
    ))
    .with(later.zip(listener), |finding, (since, listener)| {
        finding
            .because_at(since, format!("{} began to listen only {} after the refusal", wording::listener(listener), wording::duration(since - refusal.at)))
            .fix("start the backend before nginx sends it requests: order the units, or wait for its port")
    })
    .when(namesake, |finding| {
        finding.missing("whether the SYN was sent to that namespace: nothing tells that the route leads there")
    })
    .candidates(wrong_port::unlike_candidates(case, refusal))
    .relies_on(&[Observation::ListenerChange])
    .relies_on_nobody_bound();
    Some(concluded(case, refusal, finding))
}

fn concluded(case: &Case, refusal: Refusal, finding: Finding) -> Finding {
    let look = format!("ss -ltnp 'sport = :{}'", refusal.target.port());
    finding
        .with(Some(refusal), evidence::rule_out_by_answer)
        .when(refusal.confidence < Confidence::Certain, |finding| {
            finding.missing("who sent the reset: no reset and no NO_SOCKET drop of this host was seen for this attempt")
        })
        .when(case.host.udp_on_port, |finding| {
            finding.because(format!(
                "a UDP socket is bound to port {}; it takes no TCP connections",
                refusal.target.port()
            ))
        })
        .with(addresses::bypassed(case), |finding, listener| {
            finding
                .because(format!(
                    "{} does listen on the dialled address, but the SYN was sent elsewhere",
                    wording::listener(listener)
                ))
                .fix(wording::in_namespace(case, case.worker.netns, "nft -a list ruleset"))
                .fix("remove the redirection, or point it at a port that is listened on")
        })
        .fix(format!("start the backend that should listen on {}", refusal.target))
        .fix(wording::in_namespace(case, refusal.netns, &look))
}

fn place(case: &Case, refusal: Refusal) -> String {
    if refusal.netns == case.worker.netns {
        String::new()
    } else {
        format!(" in {}", wording::namespace(case, refusal.netns))
    }
}

fn listener_there(case: &Case, refusal: Refusal) -> Option<&Listener> {
    case.host
        .listeners
        .iter()
        .filter(|listener| listener.netns == refusal.netns)
        .find(|listener| addresses::covers(listener, refusal.target))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::{Code, Confidence};

    #[test]
    fn a_closed_port_of_another_namespace_names_it() {
        let verdict = diagnose(&refused("10.99.1.2:9101", OTHER)).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoListener, Confidence::Certain)
        );
        assert!(
            verdict.summary.contains("network namespace 200"),
            "{}",
            verdict.summary
        );
    }

    #[test]
    fn a_listener_that_began_later_is_told_from_one_that_contradicts_the_reset() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.listeners = vec![listener("127.0.0.1:9101", OWN, "python3")];
        assert_eq!(diagnose(&case).verdict.code, Code::Undetermined);
        case.host.listeners[0].since = Some(START + 400 * MILLISECOND);
        let verdict = diagnose(&case).verdict;
        assert_eq!(
            (verdict.code, verdict.confidence),
            (Code::NoListener, Confidence::Certain)
        );
    }

    #[test]
    fn without_sight_of_listeners_an_earlier_end_cannot_be_excluded() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.coverage.unavailable = vec!["socket-state".to_owned()];
        assert_eq!(diagnose(&case).verdict.confidence, Confidence::Probable);
    }
}
