//! Policy rules, matched as the kernel matches them (`fib_rule_match`, `fib4_rule_match`,
//! `fib6_rule_match`).

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::{Question, family, search::covers};
use crate::host::netlink::{More, NetlinkError};
use crate::host::visit::Visit;

/// A rule with its attributes sorted out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub priority: u32,
    pub inverted: bool,
    pub destination: Option<(IpAddr, u8)>,
    pub source: Option<(IpAddr, u8)>,
    pub tos: u8,
    pub mark: Option<u32>,
    pub mask: Option<u32>,
    pub input: Option<String>,
    pub input_detached: bool,
    pub output: Option<String>,
    pub output_detached: bool,
    pub l3mdev: bool,
    pub uids: Option<(u32, u32)>,
    pub protocol: Option<u8>,
    pub source_ports: Option<(u16, u16)>,
    pub destination_ports: Option<(u16, u16)>,
    pub tunnel: bool,
    pub suppressed_prefix: Option<u32>,
    pub table: u32,
    pub goto: Option<u32>,
    pub action: RuleAction,
}

/// The rules of the question's family by priority. A kernel without policy routing has none to
/// list and goes by its two tables.
pub(super) fn all(visit: &mut Visit, question: &Question) -> Result<Vec<Rule>, NetlinkError> {
    let mut request = RuleMessage::default();
    request.header.family = family(question.destination.ip());
    let mut rules = Vec::new();
    let dumped = visit
        .route
        .dump(RouteNetlinkMessage::GetRule(request), |message| {
            if let RouteNetlinkMessage::NewRule(message) = message {
                rules.push(rule(&message));
            }
            More::Yes
        });
    match dumped {
        Err(NetlinkError::Refused {
            errno: libc::EOPNOTSUPP | libc::EAFNOSUPPORT,
        }) => Ok([255, 254].map(lookup).to_vec()),
        Err(error) => Err(error),
        Ok(_) => {
            rules.sort_by_key(|rule| rule.priority);
            Ok(rules)
        }
    }
}

/// Whether the rule applies to a connection that `question` asks for. `device` is the name of
/// the interface that the socket is bound to. A rule for VRFs does where it is bound to one,
/// which is not looked into.
pub(super) fn applies(rule: &Rule, question: &Question, device: Option<&str>) -> bool {
    let within = |network: Option<(IpAddr, u8)>, address: Option<IpAddr>| {
        network.is_none_or(|(network, prefix)| {
            address.map_or(prefix == 0, |address| covers(network, prefix, address))
        })
    };
    let port = question.destination.port();
    let mark = question.mark.unwrap_or(0);
    let matches = within(rule.destination, Some(question.destination.ip()))
        && within(rule.source, question.source)
        && rule.tos == 0
        // What this host sends itself comes in through the loopback interface.
        && rule.input.as_deref().is_none_or(|name| name == "lo")
        && rule.output.as_deref().is_none_or(|name| Some(name) == device)
        && (mark ^ rule.mark.unwrap_or(0)) & mask(rule) == 0
        && !rule.l3mdev
        && !rule.tunnel
        && rule.uids.is_none_or(|(first, last)| {
            question.uid.is_some_and(|uid| (first..=last).contains(&uid))
        })
        && rule.protocol.is_none_or(|number| number == libc::IPPROTO_TCP as u8)
        && rule.source_ports.is_none()
        && rule.destination_ports.is_none_or(|(first, last)| (first..=last).contains(&port));
    matches != rule.inverted
}

fn mask(rule: &Rule) -> u32 {
    match (rule.mark, rule.mask) {
        (_, Some(mask)) => mask,
        (Some(_), None) => u32::MAX,
        (None, None) => 0,
    }
}

fn lookup(table: u32) -> Rule {
    Rule {
        table,
        action: RuleAction::ToTable,
        ..Rule::default()
    }
}

fn rule(message: &RuleMessage) -> Rule {
    let header = &message.header;
    let mut rule = Rule {
        inverted: header.flags.contains(RuleFlags::Invert),
        input_detached: header.flags.contains(RuleFlags::IifDetached),
        output_detached: header.flags.contains(RuleFlags::OifDetached),
        tos: header.tos,
        table: header.table.into(),
        action: header.action,
        ..Rule::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Destination(ip) => rule.destination = Some((*ip, header.dst_len)),
            RuleAttribute::Source(ip) => rule.source = Some((*ip, header.src_len)),
            RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
            RuleAttribute::FwMask(mask) => rule.mask = Some(*mask),
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.output = Some(name.clone()),
            RuleAttribute::L3MDev(l3mdev) => rule.l3mdev = *l3mdev,
            RuleAttribute::UidRange(range) => rule.uids = Some((range.start, range.end)),
            RuleAttribute::IpProtocol(number) => rule.protocol = Some((*number).into()),
            RuleAttribute::SourcePortRange(ports) => {
                rule.source_ports = Some((ports.start, ports.end));
            }
            RuleAttribute::DestinationPortRange(ports) => {
                rule.destination_ports = Some((ports.start, ports.end));
            }
            RuleAttribute::TunId(id) => rule.tunnel = *id != 0,
            RuleAttribute::SuppressPrefixLen(length) if *length != u32::MAX => {
                rule.suppressed_prefix = Some(*length);
            }
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Goto(target) => rule.goto = Some(*target),
            _ => {}
        }
    }
    rule
}
