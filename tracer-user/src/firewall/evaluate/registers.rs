//! The register file, each bit known or not.

use crate::firewall::expression::{REGISTERS, Register};

use super::bits::Bits;

const BYTES: usize = REGISTERS * 4;

/// `struct nft_regs` of one rule.
///
/// The kernel keeps registers across rules, but refuses rules that read what they did not load
/// (`nft_parse_register_load`), so each rule begins with nothing known.
#[derive(Debug, Clone)]
pub struct Registers<'r> {
    bytes: [Bits; BYTES],
    /// What each word was loaded from, for the words of a doubt.
    origins: [&'r str; REGISTERS],
}

impl<'r> Registers<'r> {
    pub fn new() -> Self {
        Self {
            bytes: [Bits::UNKNOWN; BYTES],
            origins: ["a register"; REGISTERS],
        }
    }

    /// `length` bytes from `from` on. What reaches beyond the file, which the kernel refuses, is
    /// not known.
    pub fn read(&self, from: Register, length: usize) -> &[Bits] {
        const NOTHING: [Bits; BYTES] = [Bits::UNKNOWN; BYTES];
        let start = start(from);
        let bytes = self.bytes.get(start..start.saturating_add(length));
        bytes.unwrap_or(&NOTHING[..length.min(BYTES)])
    }

    /// Stores bytes and clears the rest of their last word, as `nft_data_copy`,
    /// `nft_reg_store8` and `nft_payload_eval` do.
    pub fn load(&mut self, to: Register, bytes: &[Bits], origin: &'r str) {
        self.overwrite(to, bytes);
        let start = start(to);
        let end = start + bytes.len();
        for at in end..end.next_multiple_of(4).min(BYTES) {
            self.bytes[at] = Bits::known(0);
        }
        self.name(to, bytes.len(), origin);
    }

    /// Notes what `length` bytes were loaded from.
    pub fn name(&mut self, to: Register, length: usize, origin: &'r str) {
        let start = start(to);
        for word in start / 4..(start + length).div_ceil(4).min(REGISTERS) {
            self.origins[word] = origin;
        }
    }

    /// Stores bytes and nothing else.
    pub fn overwrite(&mut self, to: Register, bytes: &[Bits]) {
        let start = start(to);
        for (offset, byte) in bytes.iter().enumerate() {
            if let Some(place) = self.bytes.get_mut(start + offset) {
                *place = *byte;
            }
        }
    }

    /// What the first word of these that is not known throughout was loaded from.
    pub fn unknown_origin(&self, from: Register, length: usize) -> &'r str {
        let unknown = self
            .read(from, length)
            .iter()
            .position(|byte| !byte.is_known())
            .unwrap_or(0);
        let word = usize::from(from.0) + unknown / 4;
        self.origins.get(word).copied().unwrap_or("a register")
    }
}

fn start(register: Register) -> usize {
    usize::from(register.0) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_clears_the_rest_of_its_word() {
        let mut registers = Registers::new();
        registers.load(Register(2), &[Bits::known(7)], "x");
        let word = registers.read(Register(2), 4);
        assert_eq!(
            word,
            [7, 0, 0, 0].map(Bits::known),
            "as nft_reg_store8 does"
        );
    }

    #[test]
    fn what_lies_beyond_the_file_is_neither_read_nor_written() {
        let mut registers = Registers::new();
        registers.load(Register(15), &[Bits::known(1); 16], "x");
        assert_eq!(registers.read(Register(15), 4), [Bits::known(1); 4]);
        assert_eq!(registers.read(Register(15), 8), [Bits::UNKNOWN; 8]);
        registers.load(Register(255), &[Bits::known(1); 3], "x");
        assert_eq!(registers.read(Register(255), 2), [Bits::UNKNOWN; 2]);
    }
}
