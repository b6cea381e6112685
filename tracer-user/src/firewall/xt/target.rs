//! What targets do.

use super::{View, nat};
use crate::case::{Action, Icmp};
use crate::firewall::expression::Extension;
use crate::firewall::fields::Fields;

/// What a target does with a packet.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetEffect {
    /// The packet's way through the chains of this table ends here.
    Ends(Action),
    /// The packet's mark becomes `(mark & !mask) ^ value`.
    SetsMark { value: u32, mask: u32 },
    /// The connection's mark becomes `(mark & !mask) ^ value`.
    SetsConnectionMark { value: u32, mask: u32 },
    /// The packet's mark becomes `(mark & !packet_mask) ^ (connection's & connection_mask)`.
    RestoresMark {
        connection_mask: u32,
        packet_mask: u32,
    },
    /// The connection's mark becomes
    /// `(mark & !connection_mask) ^ (packet's & packet_mask)`.
    SavesMark {
        connection_mask: u32,
        packet_mask: u32,
    },
    /// The marks of packet and connection are not known from here on; the rules go on.
    ConfusesMarks,
    /// Connection tracking leaves the packet alone; the rules go on.
    Untracks,
    /// The rules go on.
    Continues,
    /// Whether the rules go on is not known.
    Unknown,
}

/// Null where the target, its revision or its size is not known.
pub fn effect(extension: &Extension, view: &View) -> Option<TargetEffect> {
    use TargetEffect::{ConfusesMarks, Continues, Ends, SetsMark, Untracks};
    let fields = Fields(&extension.data);
    Some(match (extension.name.as_str(), extension.revision) {
        ("REJECT", 0) if view.v6 => Ends(reject6(fields.u32(0)?)?),
        ("REJECT", 0) => Ends(reject(fields.u32(0)?)?),
        ("NFQUEUE", revision) => Ends(queue(fields, revision)?),
        ("DNAT", _) => Ends(nat::destination(extension, view)?),
        ("REDIRECT", _) => Ends(nat::redirect(extension, view)?),
        ("NETMAP", _) => Ends(nat::netmap(extension, view)?),
        // The source is another, and the packet goes on.
        ("SNAT" | "MASQUERADE", _) => Ends(Action::Accept),
        // It accepts where it finds a socket and drops where not.
        ("TPROXY", _) => Ends(other("TPROXY")),
        ("SYNPROXY", _) => synproxy(view),
        ("ERROR", _) => Ends(Action::Drop),
        ("MARK", 2) => SetsMark {
            value: fields.u32(0)?,
            mask: fields.u32(4)?,
        },
        ("CONNMARK", 1) => connmark(fields, fields.u8(12)?, false)?,
        ("CONNMARK", 2) => connmark(fields, fields.u8(14)?, fields.u8(13)? != 0)?,
        ("HMARK", _) => ConfusesMarks,
        // It can take the mark from the member of a set.
        ("SET", 3) => match fields.u16(8)? {
            u16::MAX => Continues,
            _ => ConfusesMarks,
        },
        ("NOTRACK", _) => Untracks,
        ("CT", 1 | 2) if fields.u16(0)? & 1 != 0 => Untracks,
        (
            "AUDIT" | "CHECKSUM" | "CLASSIFY" | "CONNSECMARK" | "CT" | "DSCP" | "ECN" | "HL"
            | "IDLETIMER" | "LED" | "LOG" | "NFLOG" | "RATEEST" | "SECMARK" | "SET" | "TCPMSS"
            | "TCPOPTSTRIP" | "TEE" | "TOS" | "TRACE" | "TTL" | "ULOG",
            _,
        ) => Continues,
        _ => return None,
    })
}

fn other(name: &str) -> Action {
    Action::Other {
        name: name.to_owned(),
    }
}

/// `enum ipt_reject_with`.
fn reject(with: u32) -> Option<Action> {
    let code = match with {
        0..=3 => with,
        // Nothing is sent (`reject_tg`).
        4 => return Some(Action::Drop),
        5 => 9,
        6 => 10,
        7 => return Some(Action::RejectWithReset),
        8 => 13,
        _ => return None,
    };
    Some(unreachable(3, code, false))
}

/// `enum ip6t_reject_with`.
fn reject6(with: u32) -> Option<Action> {
    let code = match with {
        0..=4 => with,
        5 => return Some(Action::Drop),
        6 => return Some(Action::RejectWithReset),
        7 => 5,
        8 => 6,
        _ => return None,
    };
    Some(unreachable(1, code, true))
}

fn unreachable(kind: u8, code: u32, v6: bool) -> Action {
    let code = code.to_le_bytes()[0];
    Action::RejectWithIcmp {
        icmp: Icmp { kind, code, v6 },
    }
}

/// `struct xt_NFQ_info` to `v3`. Of several queues it is the first.
fn queue(fields: Fields, revision: u8) -> Option<Action> {
    let bypass = match revision {
        0 | 1 => false,
        2 => fields.u16(4)? != 0,
        3 => fields.u16(4)? & 1 != 0,
        _ => return None,
    };
    let number = fields.u16(0)?;
    Some(Action::Queue { number, bypass })
}

/// It answers a SYN itself and takes the last ACK; the rest goes on (`synproxy_tg4`).
fn synproxy(view: &View) -> TargetEffect {
    const FIN_SYN_RST: u8 = 0x07;
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    // Of what is no segment there are no flags.
    let flags = view.packet.flags;
    let opens = flags & (FIN_SYN_RST | ACK) == SYN;
    let confirms = flags & (FIN_SYN_RST | ACK) == ACK;
    if opens || confirms {
        TargetEffect::Ends(other("SYNPROXY"))
    } else {
        TargetEffect::Continues
    }
}

/// `struct xt_connmark_tginfo1` and `2`.
fn connmark(fields: Fields, mode: u8, shifts: bool) -> Option<TargetEffect> {
    let (value, connection_mask, packet_mask) = (fields.u32(0)?, fields.u32(4)?, fields.u32(8)?);
    Some(match mode {
        _ if shifts => TargetEffect::ConfusesMarks,
        0 => TargetEffect::SetsConnectionMark {
            value,
            mask: connection_mask,
        },
        1 => TargetEffect::SavesMark {
            connection_mask,
            packet_mask,
        },
        2 => TargetEffect::RestoresMark {
            connection_mask,
            packet_mask,
        },
        _ => return None,
    })
}
