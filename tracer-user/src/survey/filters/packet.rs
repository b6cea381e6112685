//! A packet as a hook sees it, as far as it is known.

use std::net::SocketAddr;

use super::{
    incidents::{Incident, Stopped},
    neighbour,
};
use crate::{
    case::{Endpoint, Hook, Netns, Segment, Worker},
    correlate::Ended,
    firewall::{
        Packet,
        packet::{Conntrack, Kind, Owner, Side, State},
    },
    host::facts::Host,
};

/// What the stopped packet can have been at `hook`, the likeliest first; those of a group are as
/// likely.
pub fn at_hook(
    host: &Host,
    worker: &Worker,
    ended: &Ended,
    incident: &Incident,
    hook: Hook,
) -> Vec<Vec<Packet>> {
    match incident.packet {
        Stopped::Segment(segment) => {
            guesses(segment_at(host, worker, ended, incident, segment, hook))
        }
        Stopped::Neighbour { wanted, asker } => {
            let sides = sides(host, incident, hook);
            neighbour::guesses(host, incident, (wanted, asker), sides)
        }
    }
}

fn segment_at(
    host: &Host,
    worker: &Worker,
    ended: &Ended,
    incident: &Incident,
    segment: Segment,
    hook: Hook,
) -> Packet {
    let (from, to) = (segment.from, segment.to);
    let (input, output) = sides(host, incident, hook);
    let at_nginx = ended.netns == Some(incident.netns);
    Packet {
        kind: Kind::Segment,
        from,
        to,
        from_local: Some(host.owns(incident.netns, from.ip())),
        to_local: Some(host.owns(incident.netns, to.ip())),
        flags: segment.flags,
        sequence: segment.sequence,
        ttl: incident
            .circumstances
            .map(|seen| seen.ttl)
            .filter(|ttl| *ttl != 0),
        mark: incident.circumstances.map(|seen| seen.mark),
        input,
        output,
        owner: owner(worker, incident.answer, at_nginx, hook),
        conntrack: tracked(ended, segment, incident.answer, at_nginx),
    }
}

/// The first packet of a connection before its destination is translated.
pub fn untranslated(
    host: &Host,
    worker: &Worker,
    netns: Netns,
    from: SocketAddr,
    to: SocketAddr,
    hook: Hook,
) -> Packet {
    const SYN: u8 = 0x02;
    Packet {
        kind: Kind::Segment,
        from,
        to,
        from_local: Some(host.owns(netns, from.ip())),
        to_local: Some(host.owns(netns, to.ip())),
        flags: SYN,
        sequence: 0,
        ttl: None,
        mark: None,
        input: match hook {
            Hook::Output => Side::Absent,
            _ => Side::Unknown,
        },
        output: match hook {
            Hook::Output => Side::Unknown,
            _ => Side::Absent,
        },
        owner: owner(worker, false, hook == Hook::Output, hook),
        conntrack: Conntrack {
            state: Some(State::New),
            original: Some(true),
            mark: None,
            destination_translated: Some(false),
            dialled: Some(to),
        },
    }
}

/// What the packet can have been, the likeliest first; those of a group are as likely.
///
/// To connection tracking that has not seen the SYN an answer is invalid, never new
/// (`tcp_conntracks`, `nf_conntrack_tcp_packet`), unless a rule keeps it out.
pub fn guesses(known: Packet) -> Vec<Vec<Packet>> {
    let in_state = |state| Packet {
        conntrack: Conntrack {
            state: Some(state),
            ..known.conntrack
        },
        ..known.clone()
    };
    let mut guesses = vec![vec![without_presumptions(&known)]];
    if known.conntrack.original == Some(false) {
        guesses.insert(0, [State::Invalid, State::Untracked].map(in_state).into());
    }
    guesses.insert(0, vec![known]);
    guesses
}

/// The packet without what is only presumed of it: that connection tracking takes it for what it
/// is, and that its mark was then what it was when it was freed.
fn without_presumptions(packet: &Packet) -> Packet {
    Packet {
        mark: None,
        conntrack: Conntrack {
            state: None,
            ..packet.conntrack
        },
        ..packet.clone()
    }
}

/// `nf_hook_state` has the interfaces; `skb->dev` is the incoming one until routing is done with
/// the packet, and the outgoing one from `ip_output` on.
fn sides(host: &Host, incident: &Incident, hook: Hook) -> (Side, Side) {
    let Some(seen) = incident.circumstances else {
        return match hook {
            Hook::Ingress | Hook::Prerouting | Hook::Input => (Side::Unknown, Side::Absent),
            Hook::Output | Hook::Egress => (Side::Absent, Side::Unknown),
            Hook::Forward | Hook::Postrouting => (Side::Unknown, Side::Unknown),
        };
    };
    let side = |index: u32, otherwise: Side| match index {
        0 => otherwise,
        index => host
            .device(incident.netns, index)
            .map_or(Side::Unknown, |name| Side::Device { index, name }),
    };
    if incident.is_bridged() {
        // `skb->dev` is the port by which the frame leaves once the bridge has chosen it
        // (`__br_forward`), and the bridge itself where the frame is for this host
        // (`br_pass_frame_up`).
        let (entered, left) = (
            side(seen.input, Side::Unknown),
            side(seen.device, Side::Unknown),
        );
        return match hook {
            Hook::Ingress | Hook::Prerouting | Hook::Input => (entered, Side::Absent),
            Hook::Forward => (entered, left),
            Hook::Output | Hook::Postrouting | Hook::Egress => (Side::Unknown, left),
        };
    }
    match hook {
        Hook::Ingress | Hook::Prerouting | Hook::Input => {
            (side(seen.device, Side::Unknown), Side::Absent)
        }
        Hook::Forward => (
            side(seen.device, Side::Unknown),
            side(seen.output, Side::Unknown),
        ),
        // ARP goes by no route, and has its interface from the beginning (`arp_create`).
        Hook::Output if incident.packet.neighbour().is_some() => {
            let output = if seen.output == 0 {
                seen.device
            } else {
                seen.output
            };
            (Side::Absent, side(output, Side::Unknown))
        }
        Hook::Output => (Side::Absent, side(seen.output, Side::Unknown)),
        Hook::Postrouting => {
            let output = [seen.output, seen.device]
                .into_iter()
                .find(|index| *index != 0)
                .unwrap_or(0);
            (side(seen.input, Side::Absent), side(output, Side::Unknown))
        }
        Hook::Egress => (Side::Absent, side(seen.device, Side::Unknown)),
    }
}

/// A packet has its sender's socket on the way out of the sender's namespace alone
/// (`skb_orphan` in `skb_scrub_packet` and `loopback_xmit`). An answer may be of a listener, of a
/// request or of the kernel itself.
fn owner(worker: &Worker, answer: bool, at_nginx: bool, hook: Hook) -> Owner {
    let on_its_way_out = matches!(hook, Hook::Output | Hook::Postrouting | Hook::Egress);
    match (answer, at_nginx && on_its_way_out, worker.uid) {
        (true, _, _) => Owner::Unknown,
        (false, false, _) => Owner::Absent,
        (false, true, Some(uid)) => Owner::User { uid, gid: None },
        (false, true, None) => Owner::Unknown,
    }
}

/// A SYN is new to connection tracking, each time that it is sent again: its entry has seen no
/// answer. An answer belongs to the connection that the SYN made.
fn tracked(ended: &Ended, segment: Segment, answer: bool, at_nginx: bool) -> Conntrack {
    let dialled = ended.attempt.remote.or(match ended.attempt.dialled {
        Some(Endpoint::Inet(address)) => Some(address),
        _ => None,
    });
    let here = dialled.filter(|_| at_nginx);
    let target = if answer { segment.from } else { segment.to };
    Conntrack {
        state: Some(if answer {
            State::Established
        } else {
            State::New
        }),
        original: Some(!answer),
        mark: None,
        destination_translated: here.filter(|_| !answer).map(|dialled| dialled != target),
        dialled: here,
    }
}
