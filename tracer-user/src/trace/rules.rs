//! When the probe at the verdicts of nftables is worth its cost: while packets are dropped.

use crate::{
    case::{KernelTime, RuleEnd},
    correlate::Symbols,
    evidence::{Evidence, What},
    probes::Probes,
};

/// How long it stays after the last drop. A SYN is sent again within this time.
const STAYS: KernelTime = 30_000_000_000;
/// A rule that rejects frees its packet within this time, and needs no other probe.
const AT_ONCE: KernelTime = 10_000_000;

/// The reason of a packet that a hook freed.
const NETFILTER: &str = "NETFILTER_DROP";

/// See the module's description.
#[derive(Debug, Default)]
pub struct RuleWatch {
    /// When a packet was dropped last, while the probe is wanted.
    dropped: Option<KernelTime>,
    /// When a rule was last seen to reject a packet.
    rejected: KernelTime,
}

impl RuleWatch {
    /// Asks for the probe where a packet of an attempt was dropped by a hook; of the drop it is
    /// told whether the probe was there.
    pub fn note(&mut self, evidence: &mut Evidence, probes: &Probes, symbols: &impl Symbols) {
        let at = evidence.at;
        match &mut evidence.what {
            What::RuleMet { by, .. } if *by != RuleEnd::Drop => self.rejected = at,
            What::Dropped {
                reason,
                frames,
                circumstances,
                ..
            } => {
                circumstances.rules_watched = probes.saw_drops_at(at);
                let is_rejected = at < self.rejected.saturating_add(AT_ONCE);
                // Reading the kernel's symbols may take until the SYN has been sent again.
                let is_filtered = match reason {
                    Some(reason) => reason == NETFILTER,
                    None => symbols.hook(frames).is_some(),
                };
                if !is_rejected && is_filtered {
                    if self.dropped.is_none() {
                        probes.demand_rules(true);
                    }
                    self.dropped = Some(at);
                }
            }
            _ => {}
        }
    }

    /// Gives the probe up where nothing was dropped for long.
    pub fn rest(&mut self, now: KernelTime, probes: &Probes) {
        if self
            .dropped
            .is_some_and(|at| at.saturating_add(STAYS) < now)
        {
            self.dropped = None;
            probes.demand_rules(false);
        }
    }
}
