//! The socket's owner (`xt_owner.c`).

use crate::firewall::fields::Fields;
use crate::firewall::packet::{Owner, Packet};
use crate::firewall::truth::Truth;

/// `XT_OWNER_*`.
const UID: u8 = 1;
const GID: u8 = 1 << 1;
const SOCKET: u8 = 1 << 2;
const SUPPLEMENTARY: u8 = 1 << 3;

/// `struct xt_owner_match_info`. Its numbers are those of the user namespace that owns the
/// network namespace (`owner_mt_check`), which are taken for the host's.
pub fn owner(fields: Fields, packet: &Packet) -> Option<Truth> {
    let (asked, inverted) = (fields.u8(16)?, fields.u8(17)?);
    let (uid, gid) = match packet.owner {
        Owner::Unknown => return Some(Truth::Unknown),
        Owner::Absent => return Some((asked == inverted).into()),
        Owner::User { uid, gid } => (uid, gid),
    };
    if asked & inverted & SOCKET != 0 {
        return Some(Truth::No);
    }
    let within = |at: usize, id| Some((fields.u32(at)?..=fields.u32(at + 4)?).contains(&id));
    let mut holds = Truth::Yes;
    if asked & UID != 0 {
        holds = holds.and((within(0, uid)? != (inverted & UID != 0)).into());
    }
    if asked & GID != 0 {
        let group = match gid {
            None => Truth::Unknown,
            Some(gid) if within(8, gid)? => Truth::Yes,
            // The other groups of the process are not known.
            Some(_) if asked & SUPPLEMENTARY != 0 => Truth::Unknown,
            Some(_) => Truth::No,
        };
        let not = inverted & GID != 0;
        holds = holds.and(if not { group.not() } else { group });
    }
    Some(holds)
}
