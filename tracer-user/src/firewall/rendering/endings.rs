//! Verdicts and actions, and the header part of an iptables rule.

use super::values::Form;
use crate::case::Action;
use crate::firewall::expression::{Header, Verdict};

pub fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

pub fn action(action: &Action) -> String {
    match action {
        Action::Accept => "accept".to_owned(),
        Action::Drop => "drop".to_owned(),
        Action::RejectWithReset => "reject with tcp reset".to_owned(),
        Action::RejectWithIcmp { icmp } => {
            let protocol = if icmp.v6 { "icmpv6" } else { "icmp" };
            format!("reject with {protocol} code {}", icmp.code)
        }
        Action::Queue { number, bypass } => {
            let bypass = if *bypass { " bypass" } else { "" };
            format!("queue num {number}{bypass}")
        }
        Action::Translate { to: Some(to) } => format!("dnat to {to}"),
        Action::Translate { to: None } => "dnat".to_owned(),
        Action::Other { name } => name.clone(),
    }
}

/// The header part of an iptables rule, in the words of iptables.
pub fn header(header: &Header) -> String {
    let mut words = Vec::new();
    let mut option = |not: bool, name: &str, value: Option<String>| {
        if let Some(value) = value {
            let not = if not { "! " } else { "" };
            words.push(format!("{not}{name} {value}"));
        }
    };
    let network = |(address, mask): &(Vec<u8>, Vec<u8>)| {
        let prefix: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
        format!("{}/{prefix}", Form::Address.write(address))
    };
    let protocol = header
        .protocol
        .map(|number| Form::Protocol.write(&[number]));
    option(header.not_source, "-s", header.source.as_ref().map(network));
    option(
        header.not_destination,
        "-d",
        header.destination.as_ref().map(network),
    );
    option(header.not_input, "-i", header.input.clone());
    option(header.not_output, "-o", header.output.clone());
    option(header.not_protocol, "-p", protocol);
    words.join(" ")
}
