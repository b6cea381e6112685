//! What both firewall causes say: where it happened, who listens behind it, how to find the rule.

use crate::case::{Case, Family, Hook, Netns};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, wording};
use crate::verdict::{Code, Confidence};

/// A place in the packet filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub netns: Netns,
    pub hook: Option<Hook>,
}

/// A firewall finding: `did` is what netfilter did, such as "dropped the SYN".
pub(super) fn finding(case: &Case, code: Code, place: Place, did: &str) -> Finding {
    // At the other hooks the packet may still be on its way to another namespace.
    let arrived = (place.hook == Some(Hook::Input)).then_some(place.netns);
    let listener = addresses::covering_listener(case, arrived);
    let behind = listener.map_or_else(String::new, |listener| {
        format!("; {} is listening", wording::owner(&listener.owners))
    });
    let summary = format!(
        "netfilter {did} in {} of {}{behind}",
        wording::hook(place.hook),
        wording::namespace(case, place.netns)
    );
    let finding = Finding::new(code, Confidence::Certain, summary)
        .with(listener, |finding, listener| {
            finding
                .because(format!(
                    "{} listens in {}",
                    wording::listener(listener),
                    wording::namespace(case, listener.netns)
                ))
                .rule_out(Code::NoListener, "a socket listens on the target address")
                .listener(Some(listener))
        })
        .when(place.hook.is_none(), |finding| {
            finding.missing("the netfilter hook: the kernel's stack did not tell it")
        })
        .missing("which rule or policy it was: the evidence names the hook, not the rule");
    with_rules_to_read(case, place.netns, finding)
}

/// How to list the rules of all hooks and tables with their counters. `nft` and the usual
/// `iptables` do not show those that the legacy variant made.
pub(super) fn with_rules_to_read(case: &Case, netns: Netns, finding: Finding) -> Finding {
    let commands = match case.attempt.family {
        Family::Ipv6 => ["ip6tables-save -c", "ip6tables-legacy-save -c"],
        Family::Ipv4 | Family::Unix => ["iptables-save -c", "iptables-legacy-save -c"],
    };
    std::iter::once("nft -a list ruleset")
        .chain(commands)
        .fold(finding, |finding, command| {
            finding.fix(wording::in_namespace(case, netns, command))
        })
}

#[cfg(test)]
mod tests {
    use crate::case::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::example::*;

    #[test]
    fn the_rules_to_read_are_those_of_the_family() {
        for (dialled, tool) in [("[::1]:9101", "ip6tables"), ("127.0.0.1:9101", "iptables")] {
            let mut case = silent(dialled, 2000);
            case.timeline = vec![observed(
                25,
                drop_of(dialled, OWN, "NETFILTER_DROP", Some(Hook::Input)),
            )];
            let fix = diagnose(&case).verdict.fix;
            assert_eq!(
                fix[..3],
                [
                    "nft -a list ruleset",
                    &format!("{tool}-save -c"),
                    &format!("{tool}-legacy-save -c")
                ]
            );
        }
    }
}
