//! Bytes and words of which some bits are known.

use std::cmp::Ordering;

use crate::firewall::truth::Truth;

/// A byte; a bit of `value` counts only where `mask` has it, and is zero elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bits {
    value: u8,
    mask: u8,
}

impl Bits {
    pub const UNKNOWN: Self = Self { value: 0, mask: 0 };

    pub const fn known(value: u8) -> Self {
        Self { value, mask: 0xff }
    }

    /// Known where `mask` has a bit.
    pub const fn partly(value: u8, mask: u8) -> Self {
        Self {
            value: value & mask,
            mask,
        }
    }

    pub fn is_known(self) -> bool {
        self.mask == 0xff
    }

    pub fn get(self) -> Option<u8> {
        self.is_known().then_some(self.value)
    }

    /// `(self & mask) ^ xor`.
    pub fn masked(self, mask: u8, xor: u8) -> Self {
        let known = self.mask | !mask;
        Self::partly((self.value & mask) ^ xor, known)
    }

    fn xor(self, other: Self) -> Self {
        Self::partly(self.value ^ other.value, self.mask & other.mask)
    }

    /// What is known either way.
    pub fn join(self, other: Self) -> Self {
        let agreed = self.mask & other.mask & !(self.value ^ other.value);
        Self::partly(self.value, agreed)
    }

    fn highest(self) -> u8 {
        self.value | !self.mask
    }
}

/// All bytes, where each is known.
pub fn known(bytes: &[Bits]) -> Option<Vec<u8>> {
    bytes.iter().map(|byte| byte.get()).collect()
}

/// The bytes of `value`.
pub fn of(value: &[u8]) -> Vec<Bits> {
    value.iter().copied().map(Bits::known).collect()
}

/// `length` bytes of which nothing is known.
pub fn unknown(length: usize) -> Vec<Bits> {
    vec![Bits::UNKNOWN; length]
}

/// Whether the bytes are those of `data`.
pub fn equal(bytes: &[Bits], data: &[u8]) -> Truth {
    let mut every = bytes.len() == data.len();
    for (byte, expected) in bytes.iter().zip(data) {
        if (byte.value ^ expected) & byte.mask != 0 {
            return Truth::No;
        }
        every &= byte.is_known();
    }
    if every { Truth::Yes } else { Truth::Unknown }
}

/// Whether `memcmp` with `data` comes out as one that `wanted` accepts, which must accept a
/// contiguous part of less, equal, greater.
pub fn compare(bytes: &[Bits], data: &[u8], wanted: fn(Ordering) -> bool) -> Truth {
    let lowest = wanted(lowest_against(bytes, data));
    let highest = wanted(highest_against(bytes, data));
    if lowest == highest {
        lowest.into()
    } else {
        Truth::Unknown
    }
}

/// Whether the bytes lie from `low` to `high`, both included.
pub fn within(bytes: &[Bits], low: &[u8], high: &[u8]) -> Truth {
    if low == high {
        return equal(bytes, low);
    }
    compare(bytes, low, Ordering::is_ge).and(compare(bytes, high, Ordering::is_le))
}

fn lowest_against(bytes: &[Bits], data: &[u8]) -> Ordering {
    bytes.iter().map(|byte| &byte.value).cmp(data)
}

fn highest_against(bytes: &[Bits], data: &[u8]) -> Ordering {
    bytes
        .iter()
        .map(|byte| byte.highest())
        .cmp(data.iter().copied())
}

/// A word that packets and connections carry, such as a mark, in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub [Bits; 4]);

impl Word {
    pub const UNKNOWN: Self = Self([Bits::UNKNOWN; 4]);

    pub fn from(value: Option<u32>) -> Self {
        value.map_or(Self::UNKNOWN, |value| {
            Self(value.to_ne_bytes().map(Bits::known))
        })
    }

    /// `self & mask`.
    pub fn and(self, mask: u32) -> Self {
        let mask = mask.to_ne_bytes();
        Self(std::array::from_fn(|at| self.0[at].masked(mask[at], 0)))
    }

    /// `self ^ other`.
    pub fn xor(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].xor(other.0[at])))
    }

    pub fn get(self) -> Option<u32> {
        let bytes = known(&self.0)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    pub fn join(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].join(other.0[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_makes_known_what_it_clears() {
        assert_eq!(Bits::UNKNOWN.masked(0, 3), Bits::known(3));
        let fragment = Bits::partly(0, 0x1f).masked(0x1f, 0);
        assert_eq!(fragment, Bits::known(0), "the unknown flags are masked out");
        assert_eq!(Bits::UNKNOWN.masked(0x0f, 0).get(), None);
    }

    #[test]
    fn a_known_bit_that_differs_decides() {
        assert_eq!(equal(&[Bits::partly(0x40, 0xf0)], &[0x65]), Truth::No);
        assert_eq!(equal(&[Bits::partly(0x40, 0xf0)], &[0x45]), Truth::Unknown);
        assert_eq!(equal(&of(&[1, 2]), &[1, 2]), Truth::Yes);
    }

    #[test]
    fn an_order_is_decided_where_both_extremes_agree() {
        let partly = [Bits::partly(0x40, 0xf0)];
        assert_eq!(compare(&partly, &[0x50], Ordering::is_lt), Truth::Yes);
        assert_eq!(compare(&partly, &[0x45], Ordering::is_lt), Truth::Unknown);
        assert_eq!(compare(&partly, &[0x40], Ordering::is_lt), Truth::No);
        assert_eq!(within(&partly, &[0x40], &[0x4f]), Truth::Yes);
        assert_eq!(within(&partly, &[0x10], &[0x3f]), Truth::No);
        assert_eq!(within(&partly, &[0x44], &[0x8f]), Truth::Unknown);
    }

    #[test]
    fn the_bytes_compare_as_memcmp_does() {
        assert_eq!(
            compare(&of(&[1, 0xff]), &[2, 0], Ordering::is_lt),
            Truth::Yes
        );
    }
}
