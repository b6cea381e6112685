//! Tables, chains and rules, from the messages in which the kernel dumps them.

use crate::case::{FilterFamily as Family, Hook};
use crate::firewall::ruleset::{Base, Chain, ChainKind, Policy, Rule};
use crate::firewall::{Expression, expression::Extension};
use crate::host::packet_filter::attributes::{Attributes, text};
use crate::host::packet_filter::expressions::{self, Surroundings};
use crate::host::packet_filter::objects;

/// `NFPROTO_*`
pub fn family(number: u8) -> Option<Family> {
    match number {
        1 => Some(Family::Inet),
        2 => Some(Family::Ip),
        3 => Some(Family::Arp),
        5 => Some(Family::Netdev),
        7 => Some(Family::Bridge),
        10 => Some(Family::Ip6),
        _ => None,
    }
}

/// Name, and whether it is dormant.
pub fn table(attributes: Attributes<'_>) -> Option<(String, bool)> {
    const DORMANT: u32 = 1;
    let flags = attributes.u32(2).unwrap_or(0);
    Some((attributes.text(1)?, flags & DORMANT != 0))
}

/// A chain without its rules, and its table's name; the error names a base chain at a hook that
/// is not known.
pub fn chain(
    attributes: Attributes<'_>,
    family: Family,
) -> Option<(String, Result<Chain, String>)> {
    let table = attributes.text(1)?;
    let name = attributes.text(3)?;
    let base = match attributes.nested(4) {
        None => None,
        Some(hook) => match base(attributes, hook, family) {
            None => return Some((table, Err(name))),
            known => known,
        },
    };
    let chain = Chain {
        name,
        base,
        rules: Vec::new(),
    };
    Some((table, Ok(chain)))
}

fn base(chain: Attributes<'_>, hook: Attributes<'_>, family: Family) -> Option<Base> {
    const DROP: u32 = 0;
    Some(Base {
        hook: self::hook(hook.u32(1)?, family)?,
        priority: hook.u32(2)? as i32,
        kind: match chain.bytes(7).map(text)?.as_str() {
            "filter" => ChainKind::Filter,
            "nat" => ChainKind::Nat,
            "route" => ChainKind::Route,
            _ => return None,
        },
        devices: devices(hook),
        policy: match chain.u32(5) {
            Some(DROP) => Policy::Drop,
            _ => Policy::Accept,
        },
        policy_packets: chain.nested(8).and_then(objects::counted),
    })
}

/// `NF_INET_*`, `NF_NETDEV_*`, `NF_ARP_*` and `NF_BR_*`.
fn hook(number: u32, family: Family) -> Option<Hook> {
    const IP: [Hook; 5] = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];
    const ARP: [Hook; 3] = [Hook::Input, Hook::Output, Hook::Forward];
    const DEVICE: [Hook; 2] = [Hook::Ingress, Hook::Egress];
    const INET_INGRESS: u32 = 5;
    let hooks: &[Hook] = match family {
        Family::Inet if number == INET_INGRESS => return Some(Hook::Ingress),
        Family::Ip | Family::Ip6 | Family::Inet | Family::Bridge => &IP,
        Family::Arp => &ARP,
        Family::Netdev => &DEVICE,
    };
    hooks.get(usize::try_from(number).ok()?).copied()
}

/// Kernels since 6.16 tell devices by the start of their names too (`NFTA_DEVICE_PREFIX`), which
/// is given with a `*` behind.
fn devices(hook: Attributes<'_>) -> Vec<String> {
    const NAME: u16 = 1;
    const PREFIX: u16 = 2;
    if let Some(list) = hook.nested(4) {
        return list
            .iter()
            .filter_map(|(kind, name)| match kind {
                NAME => Some(text(name)),
                PREFIX => Some(text(name) + "*"),
                _ => None,
            })
            .collect();
    }
    hook.text(3).into_iter().collect()
}

/// Where a rule stands, as names of table and chain.
pub fn place(attributes: Attributes<'_>) -> Option<(String, String)> {
    Some((attributes.text(1)?, attributes.text(2)?))
}

/// A rule without its position, and whether it says what iptables-nft says of its rules only
/// (`NFTA_RULE_COMPAT`, or an expression that runs an extension of iptables).
pub fn rule(attributes: Attributes<'_>, around: Surroundings<'_>) -> (Rule, bool) {
    let expressions = expressions::all(attributes.list(4), around);
    let extension = expressions
        .iter()
        .any(|one| matches!(one, Expression::Match(_) | Expression::Target(_)));
    let comment = attributes.bytes(7).and_then(expressions::comment);
    let rule = Rule {
        handle: attributes.u64(3),
        position: 0,
        comment: comment.or_else(|| expressions.iter().find_map(comment_match)),
        packets: packets(attributes, around),
        expressions,
    };
    (rule, extension || attributes.bytes(5).is_some())
}

/// What the last counter of a rule, the nearest to its verdict, has counted.
fn packets(rule: Attributes<'_>, around: Surroundings<'_>) -> Option<u64> {
    let counter = |expression: Attributes<'_>| {
        let data = expression.nested(2)?;
        match expression.bytes(1).map(text)?.as_str() {
            "counter" => objects::counted(data),
            "objref" => around.objects.get(&data.text(2)?)?.packets,
            _ => None,
        }
    };
    rule.list(4).filter_map(counter).last()
}

/// `struct xt_comment_info`: a C string.
fn comment_match(expression: &Expression) -> Option<String> {
    match expression {
        Expression::Match(Extension { name, data, .. }) if name == "comment" => Some(text(data)),
        _ => None,
    }
}
