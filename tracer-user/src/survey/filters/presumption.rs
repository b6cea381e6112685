//! A packet against the rules, with what is only presumed of it and without.

use std::net::SocketAddr;

use super::{
    Question,
    ends::{ends_for, united},
    reading::Reading,
};
use crate::{
    case::Purpose,
    firewall::{
        Packet, Trial, evaluate, evaluate_bridged,
        packet::{Conntrack, State},
    },
    host::{conntrack, netns::Namespace},
};

/// What the rules make of the packet. It is presumed that connection tracking takes a SYN for a
/// new connection and an answer for its own: where that explains nothing, or need not be so, the
/// packet is taken for others that it can have been.
pub fn trial<'r>(namespace: &Namespace, reading: &'r Reading, question: &Question) -> Trial<'r> {
    let try_out = |packet: &Packet| {
        let (rules, hook, kinds) = (&reading.ruleset, question.hook, question.kinds);
        if question.bridged {
            evaluate_bridged(rules, packet, hook, kinds)
        } else {
            evaluate(rules, packet, hook, kinds)
        }
    };
    let explains = |trial: &Trial| {
        let mut ends = trial.ends.iter();
        ends.any(|end| ends_for(end, question.purpose))
    };
    let mut guesses = question.packets.iter();
    let Some(known) = guesses.next() else {
        return Trial::default();
    };
    let mut trial = united(known.iter().map(try_out));
    while !explains(&trial) {
        let Some(group) = guesses.next() else {
            return trial;
        };
        trial = united(group.iter().map(try_out));
        if explains(&trial) {
            return trial;
        }
    }
    if question.purpose != Purpose::Stopped || !may_be_otherwise(reading, question.answer) {
        return trial;
    }
    let stateless: Vec<Packet> = known.iter().map(without_state).collect();
    let mut open = united(stateless.iter().map(try_out));
    let tracked = || known.iter().all(|packet| is_tracked(namespace, packet));
    if open.ends.len() == trial.ends.len() || tracked() {
        return trial;
    }
    open.doubts
        .insert("whether connection tracking knew the packet's connection".to_owned());
    open
}

/// An answer may have come another way than its SYN, and rules can keep either from connection
/// tracking.
fn may_be_otherwise(reading: &Reading, answer: bool) -> bool {
    answer || reading.untracks()
}

fn without_state(packet: &Packet) -> Packet {
    Packet {
        conntrack: Conntrack {
            state: None,
            ..packet.conntrack
        },
        ..packet.clone()
    }
}

/// Whether connection tracking has the connection of an answer. What a SYN that is dropped would
/// have begun is never in its table.
fn is_tracked(namespace: &Namespace, packet: &Packet) -> bool {
    let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    packet.conntrack.state == Some(State::Established)
        && conntrack::destination(namespace, canonical(packet.to), canonical(packet.from)).is_some()
}
