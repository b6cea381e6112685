//! Counts what the `end` event sums up.

use std::collections::BTreeMap;

use crate::event::{End, Failure, Lost, SCHEMA};
use crate::verdict::Code;

/// Addresses that are counted one by one.
const LIMIT: usize = 4096;

/// The name under which upstreams are counted that found no room of their own.
const OTHERS: &str = "(others)";

/// The name for attempts of which nobody says whom they were meant for.
const UNKNOWN: &str = "(unknown)";

/// Failed attempts by verdict code and by upstream address.
#[derive(Debug, Default)]
pub struct Totals {
    verdicts: BTreeMap<Code, u64>,
    upstreams: BTreeMap<String, u64>,
}

impl Totals {
    /// Adds the attempts that a failure stands for.
    pub fn add(&mut self, failure: &Failure) {
        let address = failure.upstream.address.as_deref();
        self.add_counted(failure.verdict.code, address, failure.count);
    }

    /// The attempts counted so far.
    pub fn attempts(&self) -> u64 {
        self.verdicts.values().sum()
    }

    /// The last event of a trace.
    pub fn into_end(self, time: String, host: String, losses: Vec<Lost>) -> End {
        End {
            schema: SCHEMA.to_owned(),
            time,
            host,
            verdicts: self.verdicts,
            upstreams: self.upstreams,
            losses,
        }
    }

    fn add_counted(&mut self, code: Code, address: Option<&str>, count: u64) {
        *self.verdicts.entry(code).or_default() += count;
        let address = address.unwrap_or(UNKNOWN);
        if let Some(counted) = self.upstreams.get_mut(address) {
            *counted += count;
            return;
        }
        let has_room = self.upstreams.len() < LIMIT;
        let name = if has_room { address } else { OTHERS };
        *self.upstreams.entry(name.to_owned()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(totals: &mut Totals, address: Option<&str>, count: u64) {
        totals.add_counted(Code::NoListener, address, count);
    }

    #[test]
    fn counts_are_added_by_code_and_by_address() {
        let mut totals = Totals::default();
        count(&mut totals, Some("127.0.0.1:1"), 2);
        count(&mut totals, Some("127.0.0.1:1"), 3);
        count(&mut totals, None, 1);
        assert_eq!(totals.attempts(), 6);
        let end = totals.into_end(String::new(), String::new(), Vec::new());
        assert_eq!(end.verdicts, [(Code::NoListener, 6)].into());
        let wanted = [("(unknown)".to_owned(), 1), ("127.0.0.1:1".to_owned(), 5)];
        assert_eq!(end.upstreams, wanted.into());
    }

    #[test]
    fn addresses_past_the_bound_are_counted_together() {
        let mut totals = Totals::default();
        for number in 0..LIMIT + 10 {
            count(&mut totals, Some(&number.to_string()), 1);
        }
        assert_eq!(totals.upstreams.len(), LIMIT + 1);
        assert_eq!(totals.upstreams[OTHERS], 10);
    }
}
