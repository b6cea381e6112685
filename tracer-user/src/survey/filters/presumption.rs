//! A packet against the rules, with what is only presumed of it and without.

use std::net::SocketAddr;

use super::{Question, ends_for, reading::Reading};
use crate::{
    case::Purpose,
    firewall::{
        Packet, evaluate,
        packet::{Conntrack, State},
        trial::Trial,
    },
    host::{conntrack, netns::Namespace},
};

/// What the rules make of the packet. It is presumed that connection tracking takes a SYN for a
/// new connection and an answer for its own: where that explains nothing, or need not be so, the
/// packet is taken without.
pub fn trial<'r>(namespace: &Namespace, reading: &'r Reading, question: &Question) -> Trial<'r> {
    let try_out = |packet| evaluate(&reading.ruleset, packet, question.hook, question.kinds);
    let [known, presumed] = question.packets;
    let trial = try_out(known);
    let explains = |trial: &Trial| {
        let mut ends = trial.ends.iter();
        ends.any(|end| ends_for(end, question.purpose))
    };
    if !explains(&trial) {
        return try_out(presumed);
    }
    if question.purpose != Purpose::Stopped || !may_be_otherwise(reading, question.answer) {
        return trial;
    }
    let mut open = try_out(&without_state(known));
    if open.ends.len() == trial.ends.len() || is_tracked(namespace, known) {
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
