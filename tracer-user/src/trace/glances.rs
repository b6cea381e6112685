//! How often the surveyor is told that a packet was stopped in a network namespace.

use std::collections::HashMap;

use crate::case::{KernelTime, Netns};

/// A storm of dropped packets must not keep the surveyor from its work.
const APART: KernelTime = 250_000_000;
/// Namespaces that are remembered.
const KEPT: usize = 1024;

/// When the surveyor was last told, by namespace.
#[derive(Debug, Default)]
pub struct Glances {
    told: HashMap<Netns, KernelTime>,
}

impl Glances {
    /// Whether it is time to tell; takes it as told.
    pub fn is_due(&mut self, netns: Netns, at: KernelTime) -> bool {
        let recent = self.told.get(&netns).is_some_and(|told| at < told + APART);
        if recent {
            return false;
        }
        if self.told.len() >= KEPT {
            self.told.clear();
        }
        self.told.insert(netns, at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_in_one_namespace_is_told_a_few_times_a_second() {
        let mut glances = Glances::default();
        let second = 1_000_000_000;
        let told = (0..1000).filter(|n| glances.is_due(1, n * second / 1000));
        assert_eq!(told.count(), 4);
        assert!(glances.is_due(2, second));
    }
}
