//! How much of a ruleset is read at most.

use crate::host::packet_filter::message::Message;

/// More than this of one kind is counted, and not kept: a ruleset must not take the host's
/// memory.
const RULES: usize = 200_000;
const ELEMENTS: usize = 1_000_000;
const OTHERS: usize = 100_000;
/// Bytes of messages. An element takes some 40, a rule some 300.
const BYTES: usize = 256 << 20;

/// How much was read, against the limits.
#[derive(Default)]
pub struct Measure {
    bytes: usize,
    others: usize,
    rules: usize,
    elements: usize,
    left_out_rules: usize,
    left_out_elements: usize,
    left_out_others: usize,
}

impl Measure {
    pub fn admits(&mut self, message: &Message) -> bool {
        self.bytes = self.bytes.saturating_add(message.size());
        self.bytes <= BYTES
    }

    pub fn admits_other(&mut self, message: &Message) -> bool {
        self.others += 1;
        let admitted = self.admits(message) && self.others <= OTHERS;
        self.left_out_others += usize::from(!admitted);
        admitted
    }

    pub fn admits_rule(&mut self, message: &Message) -> bool {
        self.rules += 1;
        let admitted = self.admits(message) && self.rules <= RULES;
        self.left_out_rules += usize::from(!admitted);
        admitted
    }

    pub fn admits_element(&mut self) -> bool {
        self.elements += 1;
        let admitted = self.bytes <= BYTES && self.elements <= ELEMENTS;
        self.left_out_elements += usize::from(!admitted);
        admitted
    }

    /// What was left out, in words.
    pub fn left_out(&self) -> impl Iterator<Item = String> {
        [
            (self.left_out_rules, "rules"),
            (self.left_out_elements, "elements of sets"),
            (self.left_out_others, "tables, chains and sets"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what} of nftables: more than are read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::packet_filter::message::Request;

    #[test]
    fn what_is_beyond_the_limit_is_counted() {
        let mut measure = Measure {
            rules: RULES - 1,
            ..Measure::default()
        };
        let rule = Message::asking(Request::Rules, 0);
        assert!(measure.admits_rule(&rule));
        assert!(!measure.admits_rule(&rule));
        assert!(measure.admits_element());
        measure.bytes = BYTES + 1;
        assert!(!measure.admits_element());
        assert_eq!(
            measure.left_out().collect::<Vec<_>>(),
            [
                "1 rules of nftables: more than are read",
                "1 elements of sets of nftables: more than are read"
            ]
        );
    }
}
