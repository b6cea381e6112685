//! Packets of an attempt as a hook sees them.

use crate::case::{Circumstances, Hook, Segment};

use super::{Conntrack, Kind, Owner, Packet, Side, State};

/// What is known of a packet besides its headers.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// What else the kernel told where it freed or answered the packet.
    pub circumstances: Option<&'a Circumstances>,
    /// The packet is an answer to nginx.
    pub answer: bool,
    /// The namespace is nginx's own.
    pub nginx_here: bool,
    /// User and group of the worker: those of its socket.
    pub worker: Option<(u32, Option<u32>)>,
    /// What nginx dialled, where connection tracking of this namespace has seen that.
    pub dialled: Option<std::net::SocketAddr>,
    /// Rules of this namespace set marks: one that is not zero need not have been the packet's
    /// when it came to the hook.
    pub marks_change: bool,
    /// Names of the namespace's interfaces by index.
    pub name: &'a dyn Fn(u32) -> Option<String>,
}

impl Packet {
    /// The packet at `hook`, when it comes there first.
    pub fn at(hook: Hook, segment: &Segment, seen: &Seen) -> Self {
        let input = input(hook, seen);
        let output = output(hook, seen);
        let by_loopback = [&input, &output].into_iter().any(is_loopback);
        let told = seen.circumstances;
        Self {
            kind: Kind::Segment,
            from: segment.from,
            to: segment.to,
            from_local: (hook == Hook::Output || by_loopback).then_some(true),
            to_local: (hook == Hook::Input || by_loopback).then_some(true),
            flags: segment.flags,
            sequence: segment.sequence,
            ttl: told.map(|told| told.ttl).filter(|ttl| *ttl != 0),
            mark: told
                .map(|told| told.mark)
                .filter(|mark| *mark == 0 || !seen.marks_change),
            owner: owner(hook, seen, is_loopback(&input)),
            conntrack: conntrack(segment, seen),
            input,
            output,
        }
    }
}

const LOOPBACK: u32 = 1;

fn is_loopback(side: &Side) -> bool {
    matches!(
        side,
        Side::Device {
            index: LOOPBACK,
            ..
        }
    )
}

fn device(index: Option<u32>, seen: &Seen) -> Side {
    let index = index.filter(|index| *index != 0);
    match index.and_then(|index| Some((index, (seen.name)(index)?))) {
        Some((index, name)) => Side::Device { index, name },
        None => Side::Unknown,
    }
}

fn input(hook: Hook, seen: &Seen) -> Side {
    let told = seen.circumstances;
    match hook {
        Hook::Output | Hook::Egress => Side::Absent,
        // `ip_output` names an input interface for what it forwards, on newer kernels.
        Hook::Postrouting if told.is_some_and(|told| told.input == 0) => Side::Absent,
        Hook::Postrouting => Side::Unknown,
        Hook::Forward => device(told.map(|told| told.input), seen),
        Hook::Ingress | Hook::Prerouting | Hook::Input => {
            device(told.map(|told| told.device), seen)
        }
    }
}

fn output(hook: Hook, seen: &Seen) -> Side {
    let told = seen.circumstances;
    match hook {
        Hook::Ingress | Hook::Prerouting | Hook::Input => Side::Absent,
        Hook::Output | Hook::Forward | Hook::Postrouting => {
            device(told.map(|told| told.output), seen)
        }
        Hook::Egress => device(told.map(|told| told.device), seen),
    }
}

/// `skb->sk` with a file: nginx's own packets have it until they leave the namespace or go round
/// by loopback (`skb_orphan`); what arrives has none before the transport layer looks for it,
/// which `ip_rcv_finish` does before INPUT for answers that came by a cable
/// (`tcp_v4_early_demux`).
fn owner(hook: Hook, seen: &Seen, by_loopback: bool) -> Owner {
    let worker = seen
        .worker
        .map_or(Owner::Unknown, |(uid, gid)| Owner::User { uid, gid });
    let sends = seen.nginx_here && !seen.answer;
    match hook {
        Hook::Output if sends => worker,
        // What is forwarded passes here as well.
        Hook::Postrouting | Hook::Egress
            if sends && seen.circumstances.is_some_and(|told| told.input == 0) =>
        {
            worker
        }
        Hook::Output | Hook::Postrouting | Hook::Egress => Owner::Unknown,
        Hook::Input if seen.answer && !by_loopback => Owner::Unknown,
        Hook::Ingress | Hook::Prerouting | Hook::Input | Hook::Forward => Owner::Absent,
    }
}

fn conntrack(segment: &Segment, seen: &Seen) -> Conntrack {
    let translated = seen.dialled.map(|dialled| dialled != segment.to);
    Conntrack {
        state: Some(if seen.answer {
            State::Established
        } else {
            State::New
        }),
        original: Some(!seen.answer),
        mark: None,
        destination_translated: translated.filter(|_| !seen.answer),
        dialled: seen.dialled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = 2;

    fn segment() -> Segment {
        Segment {
            from: "10.0.0.1:40000".parse().unwrap(),
            to: "10.0.0.2:80".parse().unwrap(),
            sequence: 1,
            flags: SYN,
        }
    }

    fn packet(hook: Hook, told: &Circumstances, answer: bool) -> Packet {
        let name = |index| {
            (index == 1)
                .then(|| "lo".to_owned())
                .or(Some("eth0".to_owned()))
        };
        let seen = Seen {
            circumstances: Some(told),
            answer,
            nginx_here: true,
            worker: Some((33, None)),
            dialled: None,
            marks_change: true,
            name: &name,
        };
        Packet::at(hook, &segment(), &seen)
    }

    #[test]
    fn nginx_s_own_packet_has_its_user_at_output_and_no_input() {
        let told = Circumstances {
            output: 2,
            mark: 7,
            ..Circumstances::default()
        };
        let packet = packet(Hook::Output, &told, false);
        assert_eq!(packet.owner, Owner::User { uid: 33, gid: None });
        assert_eq!(packet.input, Side::Absent);
        let name = "eth0".to_owned();
        assert_eq!(packet.output, Side::Device { index: 2, name });
        assert_eq!(packet.conntrack.state, Some(State::New));
        assert_eq!(packet.mark, None, "rules can have set it");
    }

    #[test]
    fn on_loopback_the_packet_has_lost_its_socket() {
        let told = Circumstances {
            device: 1,
            input: 1,
            ..Circumstances::default()
        };
        let syn = packet(Hook::Input, &told, false);
        assert_eq!(syn.owner, Owner::Absent);
        assert_eq!((syn.from_local, syn.to_local), (Some(true), Some(true)));
        assert_eq!(syn.mark, Some(0));
        let answer = packet(Hook::Input, &told, true);
        assert_eq!(answer.owner, Owner::Absent);
        assert_eq!(answer.conntrack.state, Some(State::Established));
        assert_eq!(answer.conntrack.original, Some(false));
    }

    #[test]
    fn an_answer_by_cable_can_have_found_its_socket() {
        let told = Circumstances {
            device: 2,
            ..Circumstances::default()
        };
        assert_eq!(packet(Hook::Input, &told, true).owner, Owner::Unknown);
        assert_eq!(packet(Hook::Prerouting, &told, true).owner, Owner::Absent);
    }
}
