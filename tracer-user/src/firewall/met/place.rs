//! From the place of an expression to the head of its rule.

use crate::case::{Memory, RuleEnd};

/// Bytes of a `struct nft_expr` before what its kind of expression keeps: `ops`.
const OPS: u64 = 8;
/// `nft_immediate_expr` is 24 bytes, `nft_reject` and `ipt_reject_info` are 4 and aligned to 8.
const DROP: u64 = OPS + 24;
const REJECT: u64 = OPS + 8;
/// `dlen` has 12 bits.
const LONGEST: u64 = 0xfff;
/// `handle` has 42 bits.
const HANDLE: u64 = (1 << 42) - 1;
/// Addresses of the kernel begin with these bits, on x86-64 and arm64 alike.
const KERNEL: u64 = 0xfff << 52;

/// Handles of rules that can begin in that memory and end with the expression at its place, which
/// is that of a target's data where a target ends the rule. `size` is what the kernel says of the
/// expression's length, 0 where it does not.
///
/// A rule of a packet's chain begins with `struct nft_rule_dp` (`is_last:1, dlen:12, handle:42`,
/// since 5.17) or `struct nft_rule` (`list_head`, then `handle:42, genmask:2, dlen:12, udata:1`),
/// and `dlen` bytes of expressions follow. Both are looked for, whatever the kernel.
pub fn handles(memory: &Memory, by: RuleEnd, size: u64) -> Vec<u64> {
    let (begin, length) = match by {
        RuleEnd::Drop => (Some(memory.place), DROP),
        RuleEnd::Reject => (Some(memory.place), REJECT),
        RuleEnd::RejectTarget => (memory.place.checked_sub(OPS), REJECT),
    };
    let end = begin.and_then(|begin| begin.checked_add(length));
    let (Some(expression), Some(end)) = (begin, end) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if size != 0 && size != length {
        return found;
    }
    let mut head = expression;
    while let Some(before) = head.checked_sub(8)
        && end - before <= LONGEST + 8
        && let Some(word) = memory.word(before)
    {
        head = before;
        let spanned = end - (head + 8);
        if !begins_with_an_expression(memory, head + 8) {
            continue;
        }
        // One word can be read in both ways: a handle may look like a length.
        for handle in [packed(word, spanned), listed(memory, head, word, spanned)] {
            found.extend(handle.filter(|handle| !found.contains(handle)));
        }
    }
    found
}

/// As a `struct nft_rule_dp`.
fn packed(word: u64, spanned: u64) -> Option<u64> {
    const BITS: u32 = 1 + 12 + 42;
    let (is_last, length, handle) = (word & 1, (word >> 1) & LONGEST, (word >> 13) & HANDLE);
    (is_last == 0 && word >> BITS == 0 && length == spanned && handle != 0).then_some(handle)
}

/// As the last word of a `struct nft_rule`, behind the links of its list.
fn listed(memory: &Memory, at: u64, word: u64, spanned: u64) -> Option<u64> {
    const BITS: u32 = 42 + 2 + 12 + 1;
    let (handle, length) = (word & HANDLE, (word >> 44) & LONGEST);
    let linked = [16, 8].into_iter().all(|before| {
        let link = at.checked_sub(before).and_then(|at| memory.word(at));
        link.is_some_and(is_of_the_kernel)
    });
    (word >> BITS == 0 && length == spanned && handle != 0 && linked).then_some(handle)
}

fn begins_with_an_expression(memory: &Memory, at: u64) -> bool {
    memory.word(at).is_some_and(is_of_the_kernel)
}

fn is_of_the_kernel(address: u64) -> bool {
    address & KERNEL == KERNEL
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: u64 = 0xffff_8880_0000_1000;
    const OPS_ADDRESS: u64 = 0xffff_ffff_c012_3400;

    /// A rule: its handle, and the lengths of what its expressions keep, in words.
    type Made = (u64, Vec<usize>);

    fn rules() -> impl Strategy<Value = Vec<Made>> {
        let lengths = prop::collection::vec(1..8_usize, 0..8);
        prop::collection::vec((1..1_u64 << 42, lengths), 1..8)
    }

    /// Expressions with any data, and at the end one that drops.
    fn expressions(lengths: &[usize], data: &mut impl Iterator<Item = u64>) -> Vec<u64> {
        let mut words = Vec::new();
        for length in lengths.iter().copied().chain([3]) {
            words.push(OPS_ADDRESS);
            words.extend(data.take(length));
        }
        words
    }

    /// Rules one behind the other, and where the last expression of each lies.
    fn packed_rules(made: &[Made], mut data: impl Iterator<Item = u64>) -> (Vec<u64>, Vec<u64>) {
        let (mut words, mut places) = (Vec::new(), Vec::new());
        for (handle, lengths) in made {
            let own = expressions(lengths, &mut data);
            words.push(handle << 13 | (own.len() as u64 * 8) << 1);
            words.extend(own);
            places.push(BASE + (words.len() as u64 - 4) * 8);
        }
        words.push(1);
        (words, places)
    }

    fn memory(words: &[u64], place: u64) -> Memory {
        Memory {
            base: BASE,
            bytes: words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
            place,
        }
    }

    #[test]
    fn a_handle_that_looks_like_the_length_of_its_rule_is_found() {
        // 64: twice the length, which is where `struct nft_rule_dp` keeps its length.
        let own = expressions(&[], &mut std::iter::repeat(7));
        let length = own.len() as u64 * 8;
        let words = [vec![BASE, BASE, length << 1 | length << 44], own].concat();
        let found = handles(&memory(&words, BASE + 24), RuleEnd::Drop, 32);
        assert!(found.contains(&(length << 1)), "{found:?}");
    }

    proptest! {
        #[test]
        fn the_rule_of_an_expression_is_found_among_others(
            made in rules(),
            data in prop::collection::vec(any::<u64>(), 1..32),
        ) {
            let (words, places) = packed_rules(&made, data.into_iter().cycle());
            for ((handle, _), place) in made.iter().zip(places) {
                let found = handles(&memory(&words, place), RuleEnd::Drop, 32);
                prop_assert!(found.contains(handle), "{found:?} lacks {handle}");
            }
        }

        #[test]
        fn nothing_but_the_rule_is_found_where_data_looks_like_nothing_of_the_kind(made in rules()) {
            let (words, places) = packed_rules(&made, std::iter::repeat(7));
            for ((handle, _), place) in made.iter().zip(places) {
                let memory = memory(&words, place);
                prop_assert_eq!(handles(&memory, RuleEnd::Drop, 0), vec![*handle]);
                // An expression of another length is none that this tool knows.
                prop_assert!(handles(&memory, RuleEnd::Drop, 40).is_empty());
            }
        }

        #[test]
        fn a_rule_in_a_list_is_found(handle in 1..1_u64 << 42, lengths in prop::collection::vec(1..8_usize, 0..8)) {
            let own = expressions(&lengths, &mut std::iter::repeat(7));
            let head = handle | 1 << 42 | (own.len() as u64 * 8) << 44;
            let words = [vec![BASE, BASE, head], own].concat();
            let place = BASE + (words.len() as u64 - 4) * 8;
            let found = handles(&memory(&words, place), RuleEnd::Drop, 32);
            prop_assert!(found.contains(&handle), "{found:?} lacks {handle}");
        }

        #[test]
        fn any_memory_is_looked_through(
            bytes in prop::collection::vec(any::<u8>(), 0..2048),
            base: u64,
            place: u64,
            inside in 0..2048_u64,
        ) {
            for place in [place, base.wrapping_add(inside)] {
                for by in [RuleEnd::Drop, RuleEnd::Reject, RuleEnd::RejectTarget] {
                    let _ = handles(&Memory { base, bytes: bytes.clone(), place }, by, 0);
                }
            }
        }
    }
}
