//! What connection tracking knows (`xt_conntrack.c`, `xt_state.c`, `xt_connmark.c`).

use std::net::IpAddr;

use super::View;
use crate::case::Hook;
use crate::firewall::fields::Fields;
use crate::firewall::packet::{Conntrack, Packet, State};
use crate::firewall::truth::Truth;

const TCP: u16 = 6;

/// Bits of `enum xt_conntrack_flags`.
const STATE: u16 = 1;
const PROTO: u16 = 1 << 1;
const ORIGSRC: u16 = 1 << 2;
const ORIGDST: u16 = 1 << 3;
const REPLSRC: u16 = 1 << 4;
const REPLDST: u16 = 1 << 5;
const STATUS: u16 = 1 << 6;
const EXPIRES: u16 = 1 << 7;
const ORIGSRC_PORT: u16 = 1 << 8;
const ORIGDST_PORT: u16 = 1 << 9;
const REPLSRC_PORT: u16 = 1 << 10;
const REPLDST_PORT: u16 = 1 << 11;
const DIRECTION: u16 = 1 << 12;
/// How the user wrote it; nothing is tested.
const STATE_ALIAS: u16 = 1 << 13;

/// `XT_CONNTRACK_STATE_*`.
const SNAT: u16 = 1 << 6;
const DNAT: u16 = 1 << 7;
const UNTRACKED: u16 = 1 << 8;

/// `XT_STATE_UNTRACKED`, which lies elsewhere than the one of `conntrack`.
const STATE_UNTRACKED: u32 = 1 << 6;

/// `IPS_SEEN_REPLY` and `IPS_ASSURED`, which a new connection has not.
const OF_ANSWERED: u16 = 0x02 | 0x04;

/// `struct xt_conntrack_mtinfo1` to `3`.
pub fn conntrack(fields: Fields, revision: u8, view: &View) -> Option<Truth> {
    let asked = fields.u16(146)?;
    let inverted = fields.u16(148)?;
    let (states, status) = match revision {
        1 => (u16::from(fields.u8(150)?), u16::from(fields.u8(151)?)),
        _ => (fields.u16(150)?, fields.u16(152)?),
    };
    let tracked = &view.packet.conntrack;
    let untracked = matches!(tracked.state, Some(State::Invalid | State::Untracked));
    let by_state = invert(in_state(states, tracked, view), inverted & STATE != 0);
    if untracked {
        return Some(match asked & STATE {
            0 => Truth::No,
            _ => by_state,
        });
    }
    let tests = Tests {
        fields,
        v6: view.v6,
        ranges: revision == 3,
    };
    let known = [
        (STATE, by_state),
        (PROTO, Truth::from(fields.u16(136)? == TCP)),
        (
            DIRECTION,
            tracked.original.map_or(Truth::Unknown, Truth::from),
        ),
        (STATUS, in_status(status, tracked)),
        (EXPIRES, Truth::Unknown),
        (REPLSRC, Truth::Unknown),
        (REPLDST, Truth::Unknown),
        (REPLSRC_PORT, Truth::Unknown),
        (REPLDST_PORT, Truth::Unknown),
        (ORIGSRC, tests.address(0, source(view).map(|end| end.ip()))?),
        (
            ORIGDST,
            tests.address(32, dialled(view).map(|end| end.ip()))?,
        ),
        (
            ORIGSRC_PORT,
            tests.port(138, 154, source(view).map(|end| end.port()))?,
        ),
        (
            ORIGDST_PORT,
            tests.port(140, 156, dialled(view).map(|end| end.port()))?,
        ),
    ];
    let holds = known
        .into_iter()
        .filter(|(flag, _)| asked & flag != 0)
        // The state has been inverted above.
        .map(|(flag, truth)| invert(truth, flag != STATE && inverted & flag != 0))
        .fold(Truth::Yes, Truth::and);
    // Without a connection the state alone counts, and it may be without.
    let others = asked & !(STATE | STATE_ALIAS) != 0;
    Some(match tracked.state {
        None if others => Truth::Unknown,
        _ => holds,
    })
}

/// `struct xt_state_info`.
pub fn state(fields: Fields, packet: &Packet) -> Option<Truth> {
    let mask = fields.u32(0)?;
    Some(packet.conntrack.state.map_or(Truth::Unknown, |state| {
        let bit = match state {
            State::Untracked => STATE_UNTRACKED,
            other => u32::from(bit(other)),
        };
        (mask & bit != 0).into()
    }))
}

/// `struct xt_connmark_mtinfo1`.
pub fn mark(fields: Fields, packet: &Packet) -> Option<Truth> {
    let (mark, mask) = (fields.u32(0)?, fields.u32(4)?);
    let inverted = fields.u8(8)? != 0;
    let tracked = packet.conntrack;
    Some(match (tracked.state, tracked.mark) {
        // Without a connection it never holds, inverted or not.
        (Some(State::Invalid | State::Untracked), _) => Truth::No,
        (Some(_), Some(known)) => ((known & mask == mark) != inverted).into(),
        _ => Truth::Unknown,
    })
}

fn invert(truth: Truth, inverted: bool) -> Truth {
    if inverted { truth.not() } else { truth }
}

/// `XT_CONNTRACK_STATE_BIT`, and those without a connection.
fn bit(state: State) -> u16 {
    match state {
        State::Invalid => 1,
        State::Established => 1 << 1,
        State::Related => 1 << 2,
        State::New => 1 << 3,
        State::Untracked => UNTRACKED,
    }
}

/// One of the states, or one of the translations, that the mask names.
fn in_state(mask: u16, tracked: &Conntrack, view: &View) -> Truth {
    let by_state = match tracked.state {
        _ if mask & !(SNAT | DNAT) == 0 => Truth::No,
        None => Truth::Unknown,
        Some(state) => (mask & bit(state) != 0).into(),
    };
    if matches!(tracked.state, Some(State::Invalid | State::Untracked)) {
        return by_state;
    }
    let by_destination = match mask & DNAT {
        0 => Truth::No,
        _ => tracked
            .destination_translated
            .map_or(Truth::Unknown, Truth::from),
    };
    let by_source = match mask & SNAT {
        0 => Truth::No,
        _ if before_source_translation(view) => Truth::No,
        _ => Truth::Unknown,
    };
    // Any of them will do.
    by_state
        .not()
        .and(by_destination.not())
        .and(by_source.not())
        .not()
}

fn in_status(mask: u16, tracked: &Conntrack) -> Truth {
    match tracked.state {
        Some(State::New) if mask & !OF_ANSWERED == 0 => Truth::No,
        _ => Truth::Unknown,
    }
}

/// The source is translated at the end of postrouting, and a packet that loops has passed there
/// before it is received.
fn before_source_translation(view: &View) -> bool {
    let new = view.packet.conntrack.state == Some(State::New);
    let sent = view.hook == Hook::Output;
    let received = matches!(view.hook, Hook::Prerouting | Hook::Forward) && !view.loops();
    new && (sent || received)
}

/// Where the connection's first packet came from, before any translation.
fn source(view: &View) -> Option<std::net::SocketAddr> {
    let first = view.packet.conntrack.original == Some(true);
    (first && before_source_translation(view)).then_some(view.packet.from)
}

/// Where the connection's first packet went, before any translation.
fn dialled(view: &View) -> Option<std::net::SocketAddr> {
    let tracked = &view.packet.conntrack;
    let as_it_was = tracked.original == Some(true) && tracked.destination_translated == Some(false);
    tracked.dialled.or(as_it_was.then_some(view.packet.to))
}

struct Tests<'a> {
    fields: Fields<'a>,
    v6: bool,
    /// Revision 3 has ranges of ports, in the machine's byte order.
    ranges: bool,
}

impl Tests<'_> {
    /// An address and its mask, against what the connection has.
    fn address(&self, at: usize, known: Option<IpAddr>) -> Option<Truth> {
        let asked = self.fields.address(at, self.v6)?;
        let mask = self.fields.address(at + 16, self.v6)?;
        Some(match (known.map(|ip| ip.to_canonical()), asked, mask) {
            (None, ..) => Truth::Unknown,
            (Some(IpAddr::V4(known)), IpAddr::V4(asked), IpAddr::V4(mask)) => {
                ((known.to_bits() ^ asked.to_bits()) & mask.to_bits() == 0).into()
            }
            // `ipv6_masked_addr_cmp`.
            (Some(IpAddr::V6(known)), IpAddr::V6(asked), IpAddr::V6(mask)) => {
                ((known.to_bits() ^ asked.to_bits()) & mask.to_bits() == 0).into()
            }
            _ => Truth::No,
        })
    }

    fn port(&self, low: usize, high: usize, known: Option<u16>) -> Option<Truth> {
        let asked = if self.ranges {
            self.fields.u16(low)?..=self.fields.u16(high)?
        } else {
            let port = self.fields.u16_be(low)?;
            port..=port
        };
        Some(known.map_or(Truth::Unknown, |port| asked.contains(&port).into()))
    }
}
