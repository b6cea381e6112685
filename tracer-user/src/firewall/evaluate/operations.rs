//! Operations on registers (`nft_bitwise_eval`, `nft_byteorder_eval`, `nft_cmp_eval`,
//! `nft_range_eval`).

use std::cmp::Ordering;

use crate::firewall::expression::{Operator, Register};
use crate::firewall::truth::Truth;

use super::bits::{Bits, compare, equal, within};
use super::registers::Registers;

pub fn compares(registers: &Registers, operator: Operator, from: Register, data: &[u8]) -> Truth {
    let bytes = registers.read(from, data.len());
    match operator {
        Operator::Equal => equal(bytes, data),
        Operator::NotEqual => equal(bytes, data).not(),
        Operator::Less => compare(bytes, data, Ordering::is_lt),
        Operator::LessOrEqual => compare(bytes, data, Ordering::is_le),
        Operator::Greater => compare(bytes, data, Ordering::is_gt),
        Operator::GreaterOrEqual => compare(bytes, data, Ordering::is_ge),
    }
}

pub fn in_range(
    registers: &Registers,
    negated: bool,
    from: Register,
    low: &[u8],
    high: &[u8],
) -> Truth {
    let inside = within(registers.read(from, low.len()), low, high);
    if negated { inside.not() } else { inside }
}

/// Whole words are written: beyond the mask they become zero.
pub fn mask(registers: &mut Registers, from: Register, to: Register, mask: &[u8], xor: &[u8]) {
    let length = mask.len().next_multiple_of(4);
    let origin = registers.unknown_origin(from, length);
    let at = |bytes: &[u8], index: usize| bytes.get(index).copied().unwrap_or(0);
    let masked: Vec<Bits> = registers
        .read(from, length)
        .iter()
        .enumerate()
        .map(|(index, byte)| byte.masked(at(mask, index), at(xor, index)))
        .collect();
    registers.load(to, &masked, origin);
}

/// Words in host byte order, the first word the highest.
pub fn shift(
    registers: &mut Registers,
    from: Register,
    to: Register,
    length: u32,
    left: bool,
    bits: u32,
) {
    let length = (length as usize).min(256).next_multiple_of(4);
    let origin = registers.unknown_origin(from, length);
    let source = registers.read(from, length);
    let words: Option<Vec<u32>> = source.chunks(4).map(word).collect();
    let shifted = match words {
        Some(words) if bits < u32::BITS => shifted(&words, left, bits)
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .map(Bits::known)
            .collect(),
        _ => super::bits::unknown(length),
    };
    registers.load(to, &shifted, origin);
}

fn word(bytes: &[Bits]) -> Option<u32> {
    let bytes = super::bits::known(bytes)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn shifted(words: &[u32], left: bool, bits: u32) -> Vec<u32> {
    let carried = |neighbour: Option<&u32>| {
        let neighbour = neighbour.copied().unwrap_or(0);
        let away = u32::BITS - bits;
        let carry = if left {
            neighbour.checked_shr(away)
        } else {
            neighbour.checked_shl(away)
        };
        carry.unwrap_or(0)
    };
    (0..words.len())
        .map(|at| {
            if left {
                words[at] << bits | carried(words.get(at + 1))
            } else {
                words[at] >> bits | carried(at.checked_sub(1).and_then(|before| words.get(before)))
            }
        })
        .collect()
}

/// On a big-endian machine host order and network order are the same.
pub fn swap_bytes(registers: &mut Registers, from: Register, to: Register, length: u32, size: u32) {
    let length = (length as usize).min(256);
    let origin = registers.unknown_origin(from, length);
    let mut bytes = registers.read(from, length).to_vec();
    if cfg!(target_endian = "little") {
        let size = (size as usize).max(1);
        bytes.chunks_exact_mut(size).for_each(<[Bits]>::reverse);
    }
    registers.overwrite(to, &bytes);
    registers.name(to, length, origin);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::evaluate::bits::of;

    const A: Register = Register(0);

    fn holding(bytes: &[u8]) -> Registers<'static> {
        let mut registers = Registers::new();
        registers.load(A, &of(bytes), "x");
        registers
    }

    fn value(registers: &Registers, length: usize) -> Option<Vec<u8>> {
        super::super::bits::known(registers.read(A, length))
    }

    #[test]
    fn comparisons_are_those_of_memcmp() {
        let port = holding(&80_u16.to_be_bytes());
        let than = 256_u16.to_be_bytes();
        let compares = |operator| compares(&port, operator, A, &than);
        assert_eq!(compares(Operator::Less), Truth::Yes);
        assert_eq!(compares(Operator::LessOrEqual), Truth::Yes);
        assert_eq!(compares(Operator::Greater), Truth::No);
        assert_eq!(compares(Operator::GreaterOrEqual), Truth::No);
        assert_eq!(compares(Operator::Equal), Truth::No);
        assert_eq!(compares(Operator::NotEqual), Truth::Yes);
    }

    #[test]
    fn both_ends_belong_to_a_range() {
        for (value, inside) in [(9, false), (10, true), (20, true), (21, false)] {
            let registers = holding(&[value]);
            assert_eq!(in_range(&registers, false, A, &[10], &[20]), inside.into());
            assert_eq!(
                in_range(&registers, true, A, &[10], &[20]),
                (!inside).into()
            );
        }
    }

    #[test]
    fn a_mask_reaches_its_whole_last_word() {
        let mut registers = holding(&[0xff; 4]);
        mask(&mut registers, A, A, &[0x0f], &[0x80]);
        assert_eq!(value(&registers, 4), Some(vec![0x8f, 0, 0, 0]));
    }

    #[test]
    fn shifts_carry_from_word_to_word() {
        let words = [0x8000_0001_u32, 0x8000_0000];
        assert_eq!(shifted(&words, true, 1), [3, 0]);
        assert_eq!(shifted(&words, false, 1), [0x4000_0000, 0xc000_0000]);
        assert_eq!(shifted(&words, false, 0), words);
        assert_eq!(shifted(&words, true, 0), words);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn bytes_are_swapped_by_unit() {
        let mut registers = holding(&[1, 2, 3, 4]);
        swap_bytes(&mut registers, A, A, 4, 2);
        assert_eq!(value(&registers, 4), Some(vec![2, 1, 4, 3]));
        swap_bytes(&mut registers, A, A, 4, 4);
        assert_eq!(value(&registers, 4), Some(vec![3, 4, 1, 2]));
    }
}
