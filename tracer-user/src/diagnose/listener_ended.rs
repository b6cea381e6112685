//! `listener-exited`, `-killed`, `-oom-killed`, `-closed`: it listened there until it ended.

use crate::case::{Case, Death, EndedListener, Process};
use crate::diagnose::evidence::{self, Refusal};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, narration, wording};
use crate::verdict::Code;

pub(super) fn listener_ended(case: &Case) -> Option<Finding> {
    let refusal = evidence::refusal(case)?;
    let ended = evidence::ended_listener(case, refusal)?;
    let who = wording::owner(&ended.listener.owners);
    let address = ended.listener.address;
    let how = how(&ended.death);
    let ago = wording::relative(case, ended.at);
    let finding = Finding::new(
        code(&ended.death),
        refusal.confidence,
        format!(
            "{who} listened on {address} until it {how}; nothing listened there when nginx dialled"
        ),
    )
    .because_at(
        ended.at,
        format!("{who}, which listened on {address}, {how}, {ago}"),
    )
    .with(sender(&ended.death), |finding, sender| {
        finding.because_at(ended.at, format!("{sender} sent that signal"))
    })
    .with(narration::translation(case), Finding::because)
    .with(successor(case, refusal), |finding, words| {
        finding.because(words)
    })
    .rule_out(
        Code::NoListener,
        format!("a socket listened there and ended {ago}"),
    )
    .with(Some(refusal), evidence::rule_out_by_answer);
    Some(concluded(ended, with_alternatives(case, refusal, finding)))
}

fn concluded(ended: &EndedListener, mut finding: Finding) -> Finding {
    finding.listener = Some(ended.listener.clone());
    finding.ended = Some((ended.at, ended.death.clone()));
    remedy(finding, ended.listener.owners.first(), &ended.death)
}

fn with_alternatives(case: &Case, refusal: Refusal, finding: Finding) -> Finding {
    let elsewhere = case.host.listeners.iter().find(|listener| {
        listener.address.port() == refusal.target.port()
            && (listener.netns != refusal.netns || !addresses::covers(listener, refusal.target))
    });
    finding.with(elsewhere, |finding, listener| {
        finding.because(format!(
            "{} in {} does not take over: connections to {} do not reach it",
            wording::listener(listener),
            wording::namespace(case, listener.netns),
            refusal.target
        ))
    })
}

fn successor(case: &Case, refusal: Refusal) -> Option<String> {
    let listener = case.host.listeners.iter().find(|listener| {
        listener.netns == refusal.netns && addresses::covers(listener, refusal.target)
    })?;
    let since = listener.since.filter(|since| *since > refusal.at)?;
    Some(format!(
        "{} listens there again, since {} after the refusal",
        wording::owner(&listener.owners),
        wording::duration(since - refusal.at)
    ))
}

fn code(death: &Death) -> Code {
    match death {
        Death::Closed => Code::ListenerClosed,
        Death::Exited { .. } => Code::ListenerExited,
        Death::Killed { .. } => Code::ListenerKilled,
        Death::OomKilled => Code::ListenerOomKilled,
    }
}

pub(super) fn how(death: &Death) -> String {
    match death {
        Death::Closed => "closed that socket and lived on".to_owned(),
        Death::Exited { status } => format!("exited by itself with status {status}"),
        Death::Killed { signal, core, .. } => format!(
            "was killed by {}{}",
            wording::signal_name(*signal),
            if *core { " (core dumped)" } else { "" }
        ),
        Death::OomKilled => "was killed by the OOM killer".to_owned(),
    }
}

pub(super) fn sender(death: &Death) -> Option<String> {
    match death {
        Death::Killed {
            sender: Some(sender),
            ..
        } => Some(format!("{}[{}]", sender.comm, sender.pid)),
        _ => None,
    }
}

pub(super) fn remedy(finding: Finding, owner: Option<&Process>, death: &Death) -> Finding {
    let unit = owner
        .and_then(|owner| owner.unit.as_deref())
        .map(wording::shell_word);
    let container = owner
        .and_then(|owner| owner.container.as_deref())
        .map(wording::shell_word);
    let restart = match (&unit, &container) {
        (Some(unit), _) => format!("systemctl restart {unit}"),
        (None, Some(container)) => format!("docker restart {container}"),
        (None, None) => format!(
            "start {} again",
            owner.map_or("the backend", |owner| &owner.comm)
        ),
    };
    let finding = finding.fix(restart).with(unit, |finding, unit| {
        finding.fix(format!("journalctl -u {unit} -e"))
    });
    match death {
        Death::Closed => finding.fix("read the backend's log: it stopped listening on purpose"),
        Death::Killed { core: true, .. } => finding.with(owner, |finding, owner| {
            finding.fix(format!("coredumpctl info {}", owner.pid))
        }),
        Death::OomKilled => finding
            .fix("journalctl -k | grep -i -e oom -e 'out of memory'")
            .fix("raise MemoryMax= or the container's memory limit, or let the backend use less"),
        Death::Killed { .. } | Death::Exited { .. } => finding,
    }
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;
    use crate::verdict::Code;

    #[test]
    fn every_death_has_its_own_code() {
        for (death, code) in [
            (Death::Closed, Code::ListenerClosed),
            (Death::Exited { status: 0 }, Code::ListenerExited),
            (
                Death::Killed {
                    signal: libc::SIGKILL,
                    core: false,
                    sender: None,
                },
                Code::ListenerKilled,
            ),
            (Death::OomKilled, Code::ListenerOomKilled),
        ] {
            let mut case = refused("127.0.0.1:9101", OWN);
            case.host.ended = vec![ended("0.0.0.0:9101", OWN, death.clone())];
            let diagnosis = diagnose(&case);
            assert_eq!(diagnosis.verdict.code, code);
            assert_eq!(diagnosis.ended, Some((START - SECOND, death)));
        }
    }

    #[test]
    fn a_listener_that_never_covered_the_address_is_not_to_blame() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.host.ended = vec![
            ended("127.0.0.2:9101", OWN, Death::OomKilled),
            ended("127.0.0.1:9101", OTHER, Death::OomKilled),
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::NoListener);
    }

    #[test]
    fn the_newest_end_before_the_refusal_counts() {
        let mut case = refused("127.0.0.1:9101", OWN);
        let mut later = ended("127.0.0.1:9101", OWN, Death::OomKilled);
        later.at = START + SECOND;
        let mut older = ended("127.0.0.1:9101", OWN, Death::OomKilled);
        older.at = START - 9 * SECOND;
        case.host.ended = vec![
            older,
            ended("127.0.0.1:9101", OWN, Death::Exited { status: 1 }),
            later,
        ];
        assert_eq!(diagnose(&case).verdict.code, Code::ListenerExited);
    }
}
