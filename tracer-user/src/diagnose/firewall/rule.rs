//! A rule as events name it, and in words.

use crate::case::{Action, Backend, FilterFamily, Fitting, Hook, Icmp, Netns};
use crate::diagnose::firewall::managers;
use crate::diagnose::firewall::suspects::Suspects;
use crate::event::Rule;

/// How many other rules an event names.
const ALTERNATIVES: usize = 16;

/// The likeliest of the suspects, with the others as its alternatives.
pub(super) fn rule(suspects: &Suspects, netns: Netns) -> Option<Rule> {
    let named = |fitting: &Fitting| Some(event_rule(fitting, suspects.hook_of(fitting)?, netns));
    let (best, others) = suspects.fitting.split_first()?;
    let mut rule = named(best)?;
    rule.alternatives = others
        .iter()
        .take(ALTERNATIVES)
        .filter_map(|other| named(other))
        .collect();
    Some(rule)
}

fn event_rule(fitting: &Fitting, hook: Hook, netns: Netns) -> Rule {
    let is_policy = is_policy(fitting);
    let iptables = fitting.backend != Backend::Nft;
    Rule {
        backend: backend_name(fitting.backend).to_owned(),
        family: family_name(fitting.family).to_owned(),
        table: fitting.table.clone(),
        chain: fitting.chain.clone(),
        base_chain: (fitting.base_chain != fitting.chain).then(|| fitting.base_chain.clone()),
        handle: fitting.handle,
        position: fitting
            .position
            .filter(|_| iptables && !is_policy)
            .map(u64::from),
        policy: is_policy,
        hook: hook_name(hook).to_owned(),
        action: action(&fitting.action),
        text: fitting.text.clone(),
        comment: fitting.comment.clone(),
        manager: managers::of(fitting).map(|manager| manager.name.to_owned()),
        netns,
        alternatives: Vec::new(),
    }
}

/// Neither handle nor position: no rule, but what the chain does with the rest.
pub(super) fn is_policy(fitting: &Fitting) -> bool {
    fitting.handle.is_none() && fitting.position.is_none()
}

/// A rule as the subject of a sentence: `rule with handle 7 of chain input (table inet filter)`.
pub(in crate::diagnose) fn words(fitting: &Fitting) -> String {
    let chain = &fitting.chain;
    let table = match fitting.backend {
        Backend::Nft => format!("table {} {}", family_name(fitting.family), fitting.table),
        _ => format!("table {}, {}", fitting.table, tool(fitting)),
    };
    match (fitting.backend, fitting.handle, fitting.position) {
        (_, None, None) => format!("the policy of chain {chain} ({table})"),
        (Backend::Nft, Some(handle), _) => {
            format!("rule with handle {handle} of chain {chain} ({table})")
        }
        (_, _, Some(position)) => format!("rule {position} of chain {chain} ({table})"),
        (_, Some(handle), None) => format!("rule with handle {handle} of chain {chain} ({table})"),
    }
}

/// `iptables-nft`, `ip6tables-legacy` and so on.
fn tool(fitting: &Fitting) -> String {
    let variant = match fitting.backend {
        Backend::IptablesLegacy => "legacy",
        _ => "nft",
    };
    format!("{}-{variant}", program(fitting.family))
}

/// The program that a table of iptables belongs to.
pub(super) fn program(family: FilterFamily) -> &'static str {
    match family {
        FilterFamily::Ip6 => "ip6tables",
        FilterFamily::Arp => "arptables",
        FilterFamily::Bridge => "ebtables",
        _ => "iptables",
    }
}

fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Nft => "nft",
        Backend::IptablesNft => "iptables-nft",
        Backend::IptablesLegacy => "iptables-legacy",
    }
}

pub(super) fn family_name(family: FilterFamily) -> &'static str {
    match family {
        FilterFamily::Ip => "ip",
        FilterFamily::Ip6 => "ip6",
        FilterFamily::Inet => "inet",
        FilterFamily::Arp => "arp",
        FilterFamily::Bridge => "bridge",
        FilterFamily::Netdev => "netdev",
    }
}

fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "ingress",
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
        Hook::Egress => "egress",
    }
}

/// What a rule does, in the words of nft.
fn action(action: &Action) -> String {
    match action {
        Action::Accept => "accept".to_owned(),
        Action::Drop => "drop".to_owned(),
        Action::RejectWithReset => "reject with tcp reset".to_owned(),
        Action::RejectWithIcmp { icmp } => reject_with(*icmp),
        Action::Queue {
            number,
            bypass: false,
        } => format!("queue to {number}"),
        Action::Queue {
            number,
            bypass: true,
        } => format!("queue flags bypass to {number}"),
        Action::Translate { to: Some(to) } => format!("dnat to {to}"),
        Action::Translate { to: None } => "dnat".to_owned(),
        Action::Other { name } => name.clone(),
    }
}

fn reject_with(icmp: Icmp) -> String {
    let name = match (icmp.v6, icmp.kind, icmp.code) {
        (false, 3, 0) => "net-unreachable",
        (false, 3, 1) => "host-unreachable",
        (false, 3, 2) => "prot-unreachable",
        (false, 3, 3) => "port-unreachable",
        (false, 3, 9) => "net-prohibited",
        (false, 3, 10) => "host-prohibited",
        (false, 3, 13) => "admin-prohibited",
        (true, 1, 0) => "no-route",
        (true, 1, 1) => "admin-prohibited",
        (true, 1, 3) => "addr-unreachable",
        (true, 1, 4) => "port-unreachable",
        (true, 1, 5) => "policy-fail",
        (true, 1, 6) => "reject-route",
        _ => return format!("reject with icmp type {} code {}", icmp.kind, icmp.code),
    };
    let family = if icmp.v6 { "icmpv6" } else { "icmp" };
    format!("reject with {family} {name}")
}
