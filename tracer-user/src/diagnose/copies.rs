//! Packets that were freed and need not have been the attempt's own, but copies of them.
//!
//! A bridge that is promiscuous passes up a copy of what it forwards, as one does under `tcpdump`
//! (`br_handle_frame_finish`), and floods what it has not learned the port for: `ip_rcv_core` frees
//! both, as their link-layer address is another's (`OTHERHOST`). A packet socket with a full ring
//! frees the copy that it was given (`packet_rcv`, `tpacket_rcv`). Copies have the sequence number
//! of what they were made of.

use crate::case::{Case, Fact, Observed};
use crate::diagnose::finding::Finding;
use crate::diagnose::programs;

/// Where copies are freed; kernels before 5.18 give no reason there, those before 6.11 none in
/// packet sockets.
const PLACES: [&str; 5] = [
    "ip_rcv_core",
    "ip6_rcv_core",
    "packet_rcv",
    "packet_rcv_spkt",
    "tpacket_rcv",
];

/// Whether the record of a freed packet may be that of a copy.
pub(super) fn may_be_a_copy(case: &Case, fact: &Fact) -> bool {
    let Fact::Dropped {
        netns,
        reason,
        location,
        ..
    } = fact
    else {
        return false;
    };
    match (reason.as_str(), location.as_deref()) {
        ("OTHERHOST" | "PACKET_SOCK_ERROR", _) => true,
        ("NOT_SPECIFIED", Some(place)) => PLACES.contains(&place),
        // XDP in a driver frees packets without a word as well.
        ("NOT_SPECIFIED", None) => {
            programs::of_xdp(case, *netns, |mode| mode != "generic").is_empty()
        }
        _ => false,
    }
}

/// Packets of the attempt itself that were freed.
pub(super) fn drops_of_originals(case: &Case) -> impl Iterator<Item = &Observed> {
    case.timeline.iter().filter(|observed| {
        matches!(observed.fact, Fact::Dropped { .. }) && !may_be_a_copy(case, &observed.fact)
    })
}

/// Why a packet was freed that may have been a copy; null where none was.
pub(super) fn freed(case: &Case) -> Option<&str> {
    case.timeline
        .iter()
        .find_map(|observed| match &observed.fact {
            Fact::Dropped { reason, .. } if may_be_a_copy(case, &observed.fact) => {
                Some(reason.as_str())
            }
            _ => None,
        })
}

/// Says where a packet was freed that another cause takes for a copy.
pub(super) fn set_aside(case: &Case, finding: Finding) -> Finding {
    finding.with(freed(case), |finding, reason| {
        finding.because(format!(
            "what was freed ({reason}) can have been a copy, made by a bridge or for a packet socket: it does not show that the packet itself was lost"
        ))
    })
}
