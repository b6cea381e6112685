//! XDP in a driver drops packets before the kernel has made them one: no record tells.

use crate::case::Case;
use crate::diagnose::coverage::Observation;
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, evidence, programs, wording};
use crate::verdict::{Code, Confidence};

/// The SYN went to a listener of this host that never answered, nothing was seen to drop it, and
/// an XDP program stands on the way.
pub(super) fn by_native_xdp(case: &Case) -> Option<Finding> {
    let quiet = evidence::retransmissions(case).all(|error| error == 0)
        && !evidence::reset_received(case)
        && evidence::icmp_sent(case).next().is_none();
    let far_end = case
        .host
        .far_end
        .filter(|netns| *netns != case.worker.netns)?;
    let listener = addresses::covering_listener(case, Some(far_end))?;
    let full = listener
        .queue
        .as_ref()
        .is_some_and(|queue| queue.length > queue.limit);
    if !quiet || full || !evidence::listened_then(case, listener) {
        return None;
    }
    let in_driver = |mode: &str| mode != "generic";
    let mut found = programs::of_xdp(case, far_end, in_driver);
    found.extend(programs::of_xdp(case, case.worker.netns, in_driver));
    let confidence = match found.len() {
        0 => return None,
        1 => Confidence::Probable,
        _ => Confidence::Possible,
    };
    let who = match found[..] {
        [one] => programs::words(one),
        _ => "an XDP program in a driver".to_owned(),
    };
    let finding = Finding::new(
        Code::PacketDropped,
        confidence,
        format!(
            "the SYN to {} left, {} listens in {}, and no answer came: {who} stands on the way and may have dropped it",
            wording::dialled(case),
            wording::owner(&listener.owners),
            wording::namespace(case, far_end)
        ),
    )
    .because("no drop of a packet of this attempt was seen, and what XDP drops in a driver leaves no trace")
    .missing("the drop itself: the kernel reports none for XDP in a driver")
    .relies_on(&[Observation::PacketDrop, Observation::ResetReceived])
    .rule_out(Code::NoListener, "a socket listens on the target address")
    .listener(Some(listener));
    Some(programs::suspected(finding, case, &found))
}
