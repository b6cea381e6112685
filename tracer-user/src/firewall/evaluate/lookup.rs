//! Lookups in sets and maps (`nft_lookup_eval`).

use std::collections::{HashMap, HashSet};
use std::ptr;

use crate::firewall::expression::{Expression, Verdict};
use crate::firewall::ruleset::{Element, Set, Table, Value};
use crate::firewall::truth::Truth;

use super::bits::{Bits, unknown, within};

/// More bytes than a key can have (`NFT_DATA_VALUE_MAXLEN`).
const LONGEST_KEY: usize = 64;

/// What a lookup of one key comes to.
#[derive(Debug, Clone)]
pub struct Found<'r> {
    /// Whether the set has the key.
    pub contained: Truth,
    /// The elements that can be the one.
    pub candidates: Vec<&'r Element>,
    /// Packets can have put elements there that are not among these.
    pub open: bool,
}

/// Lookups of one evaluation: rules ask the same sets for the same keys again and again.
#[derive(Debug, Default)]
pub struct Lookups<'r> {
    found: HashMap<(*const Set, Vec<Bits>), Found<'r>>,
    /// Sets that rules change as packets pass.
    updated: HashSet<*const Set>,
}

impl<'r> Lookups<'r> {
    pub fn new(tables: &'r [Table]) -> Self {
        Self {
            found: HashMap::new(),
            updated: tables.iter().flat_map(updated).collect(),
        }
    }

    /// Looks the key up whose bytes `read` gives.
    pub fn find(&mut self, set: &'r Set, read: impl FnOnce(usize) -> Vec<Bits>) -> Found<'r> {
        let key = read((set.key_length as usize).min(LONGEST_KEY));
        let updated = self.updated.contains(&ptr::from_ref(set));
        let found = self.found.entry((ptr::from_ref(set), key));
        found
            .or_insert_with_key(|(_, key)| in_set(set, key, updated))
            .clone()
    }
}

fn updated(table: &Table) -> impl Iterator<Item = *const Set> {
    let rules = table.chains.iter().flat_map(|chain| &chain.rules);
    rules
        .flat_map(|rule| &rule.expressions)
        .filter_map(|expression| match expression {
            Expression::UpdateSet { set, .. } => table.sets.get(set).map(ptr::from_ref),
            _ => None,
        })
}

/// What a set that changes was found to hold need not have been there when the packet passed.
/// What it does not hold can have been there only where packets change it: elements that time
/// out live longer than the moment between the packet and the reading.
fn in_set<'r>(set: &'r Set, key: &[Bits], updated: bool) -> Found<'r> {
    let mut contained = Truth::No;
    let mut candidates = Vec::new();
    let mut catch_all = None;
    for element in &set.elements {
        let Some((low, high)) = &element.range else {
            catch_all = Some(element);
            continue;
        };
        match holds(set, key, low, high) {
            Truth::No => {}
            Truth::Unknown => {
                contained = Truth::Unknown;
                candidates.push(element);
            }
            Truth::Yes => {
                contained = Truth::Yes;
                candidates = vec![element];
                break;
            }
        }
    }
    if contained == Truth::Yes && set.changes {
        contained = Truth::Unknown;
    }
    if let Some(element) = catch_all
        && contained != Truth::Yes
    {
        candidates.push(element);
        contained = Truth::Yes;
    }
    if contained == Truth::No && updated {
        contained = Truth::Unknown;
    }
    Found {
        contained,
        candidates,
        open: updated,
    }
}

fn holds(set: &Set, key: &[Bits], low: &[u8], high: &[u8]) -> Truth {
    if low.len() != key.len() || high.len() != key.len() {
        return Truth::Unknown;
    }
    if set.fields.is_empty() {
        return within(key, low, high);
    }
    let mut all = Truth::Yes;
    let mut start = 0;
    for field in &set.fields {
        let end = start + *field as usize;
        let (Some(key), Some(low), Some(high)) = (
            key.get(start..end),
            low.get(start..end),
            high.get(start..end),
        ) else {
            return Truth::Unknown;
        };
        all = all.and(within(key, low, high));
        if all == Truth::No {
            return all;
        }
        start = end.next_multiple_of(4);
    }
    all
}

impl<'r> Found<'r> {
    /// The data of a map, as far as the candidates agree.
    pub fn data(&self) -> Vec<Bits> {
        let mut all = self.candidates.iter().map(|element| match &element.value {
            Some(Value::Data(data)) => super::bits::of(data),
            _ => Vec::new(),
        });
        let Some(first) = all.next() else {
            return Vec::new();
        };
        if self.open {
            return unknown(first.len());
        }
        all.fold(first, |joined, other| {
            (0..joined.len().max(other.len()))
                .map(|at| match (joined.get(at), other.get(at)) {
                    (Some(one), Some(two)) => one.join(*two),
                    _ => Bits::UNKNOWN,
                })
                .collect()
        })
    }

    /// The verdicts of a verdict map, each once.
    pub fn verdicts(&self) -> Vec<&'r Verdict> {
        let mut seen = HashSet::new();
        self.candidates
            .iter()
            .filter_map(|element| match &element.value {
                Some(Value::Verdict(verdict)) => Some(verdict),
                _ => None,
            })
            .filter(|verdict| seen.insert(*verdict))
            .collect()
    }

    /// Statements of an element that can make the lookup fail.
    pub fn undecided_statement(&self) -> Option<&'r str> {
        self.candidates
            .iter()
            .flat_map(|element| &element.expressions)
            .find_map(undecided)
    }
}

/// The name of a statement of an element that holds for some packets only.
pub fn undecided(expression: &Expression) -> Option<&str> {
    match expression {
        Expression::Sometimes { name } | Expression::Unknown { name } => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::evaluate::bits::{known, of};
    use Truth::{No, Unknown, Yes};

    fn element(low: &[u8], high: &[u8]) -> Element {
        Element {
            range: Some((low.to_vec(), high.to_vec())),
            value: None,
            expressions: Vec::new(),
        }
    }

    fn set(key_length: u32, fields: &[u32], elements: Vec<Element>) -> Set {
        Set {
            key_length,
            fields: fields.to_vec(),
            is_map: false,
            intervals: true,
            elements,
            changes: false,
        }
    }

    fn contained(set: &Set, key: &[Bits]) -> Truth {
        in_set(set, key, false).contained
    }

    #[test]
    fn an_interval_includes_both_ends() {
        let set = set(2, &[], vec![element(&[1, 0], &[1, 9])]);
        assert_eq!(contained(&set, &of(&[1, 0])), Yes);
        assert_eq!(contained(&set, &of(&[1, 9])), Yes);
        assert_eq!(contained(&set, &of(&[1, 10])), No);
        assert_eq!(contained(&set, &[Bits::known(1), Bits::UNKNOWN]), Unknown);
        assert_eq!(contained(&set, &[Bits::known(2), Bits::UNKNOWN]), No);
    }

    #[test]
    fn each_field_of_a_concatenation_has_its_range() {
        let set = set(
            8,
            &[2, 4],
            vec![element(
                &[0, 80, 0, 0, 10, 0, 0, 0],
                &[0, 90, 0, 0, 10, 0, 0, 255],
            )],
        );
        assert_eq!(contained(&set, &of(&[0, 85, 0, 0, 10, 0, 0, 7])), Yes);
        assert_eq!(
            contained(&set, &of(&[0, 85, 7, 7, 10, 0, 0, 7])),
            Yes,
            "padding is nothing"
        );
        assert_eq!(contained(&set, &of(&[0, 85, 0, 0, 10, 0, 1, 7])), No);
        assert_eq!(contained(&set, &of(&[0, 95, 0, 0, 10, 0, 0, 7])), No);
    }

    #[test]
    fn a_catch_all_takes_what_no_other_element_has() {
        let mut all = element(&[], &[]);
        all.range = None;
        let set = set(1, &[], vec![all, element(&[5], &[5])]);
        let found = in_set(&set, &of(&[6]), false);
        assert_eq!(
            (found.contained, found.candidates),
            (Yes, vec![&set.elements[0]])
        );
        let found = in_set(&set, &of(&[5]), false);
        assert_eq!(
            (found.contained, found.candidates),
            (Yes, vec![&set.elements[1]])
        );
        let found = in_set(&set, &[Bits::UNKNOWN], false);
        assert_eq!((found.contained, found.candidates.len()), (Yes, 2));
    }

    #[test]
    fn what_a_changing_set_holds_need_not_have_been_there() {
        let mut set = set(1, &[], vec![element(&[5], &[5])]);
        set.changes = true;
        assert_eq!(contained(&set, &of(&[5])), Unknown);
        assert_eq!(contained(&set, &of(&[6])), No);
        assert_eq!(in_set(&set, &of(&[6]), true).contained, Unknown);
    }

    #[test]
    fn data_is_known_where_all_candidates_agree() {
        let mut one = element(&[1], &[1]);
        one.value = Some(Value::Data(vec![7, 1]));
        let mut two = element(&[2], &[2]);
        two.value = Some(Value::Data(vec![7, 2]));
        let set = set(1, &[], vec![one, two]);
        let data = in_set(&set, &[Bits::UNKNOWN], false).data();
        assert_eq!(data[0].get(), Some(7));
        assert_eq!(data[1].get(), None);
        assert_eq!(
            known(&in_set(&set, &of(&[2]), false).data()),
            Some(vec![7, 2])
        );
    }
}
