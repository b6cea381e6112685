//! A table's entries as bytes, to be found again in the kernel's memory.
//!
//! The kernel evaluates the very entries that it hands out, but for what it keeps in them itself:
//! counters, pointers to extensions in place of their names, and what extensions note in their
//! own data.

use super::blob::{self, Entry};
use super::layout::Layout;
use super::sockopt::Info;
use crate::case::{FilterFamily, Memory};

/// Bytes of a match or target before its data; of these the kernel leaves its size alone.
const EXTENSION: usize = 32;
const SIZE: usize = 2;
/// Memory that could not be read is zero in pieces of this length.
const PIECE: usize = 256;
/// Extensions whose data the kernel only reads, up to its padding.
const UNCHANGED: [(&str, usize); 7] = [
    ("", 4),
    ("ERROR", 30),
    ("REJECT", 4),
    ("comment", 256),
    ("multiport", 48),
    ("tcp", 12),
    ("udp", 10),
];

/// A table of legacy iptables as bytes.
#[derive(Debug, Clone)]
pub struct Image {
    pub family: FilterFamily,
    pub table: String,
    bytes: Vec<u8>,
    /// What the kernel leaves as it is, as offsets from and to.
    steady: Vec<(usize, usize)>,
    rules: Vec<Place>,
}

/// A rule and where the data of its target lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub chain: String,
    /// One-based.
    pub position: u32,
    target_data: usize,
}

impl Image {
    pub(super) fn of(layout: &Layout, name: &str, info: &Info, bytes: Vec<u8>) -> Option<Self> {
        let entries = blob::entries(layout, &bytes).ok()?;
        let steady = entries.iter().flat_map(|entry| steady(layout, entry));
        let steady = steady.collect();
        let rules = places(layout, info, &entries);
        Some(Self {
            family: layout.family,
            table: name.to_owned(),
            steady,
            rules,
            bytes,
        })
    }

    /// Rules the data of whose target can lie at the memory's place: what lies around it is what
    /// lies around theirs.
    pub fn places(&self, memory: &Memory) -> Vec<&Place> {
        let rules = self.rules.iter();
        rules
            .filter(|place| self.agrees(place.target_data, memory))
            .collect()
    }

    fn agrees(&self, at: usize, memory: &Memory) -> bool {
        let Some(before) = memory.place.checked_sub(memory.base) else {
            return false;
        };
        let (Ok(before), length) = (usize::try_from(before), memory.bytes.len()) else {
            return false;
        };
        // Offsets in the table that the memory covers; a table may begin within it.
        let (first, last) = (
            at.saturating_sub(before),
            at + length.saturating_sub(before),
        );
        let covered = self.steady.iter().filter(|(_, to)| *to > first);
        let covered = covered.take_while(|(from, _)| *from < last);
        let mut same = covered.flat_map(|(from, to)| (*from).max(first)..(*to).min(last));
        let mut rule_seen = false;
        let agree = same.all(|offset| {
            let seen = offset + before - at;
            if is_unread(&memory.bytes, seen) {
                return true;
            }
            rule_seen |= offset >= at;
            memory.bytes.get(seen) == self.bytes.get(offset)
        });
        agree && rule_seen
    }
}

fn is_unread(bytes: &[u8], at: usize) -> bool {
    let from = at / PIECE * PIECE;
    let piece = bytes.get(from..bytes.len().min(from + PIECE));
    piece.is_none_or(|piece| piece.iter().all(|byte| *byte == 0))
}

fn steady(layout: &Layout, entry: &Entry) -> Vec<(usize, usize)> {
    // What the packet must be, up to `nfcache` (`unk`), which nobody uses any more, and the
    // offsets of the target and the next entry.
    let (at, offsets) = (entry.offset, entry.offset + layout.offsets);
    let mut steady = vec![(at, offsets - 4), (offsets, offsets + 4)];
    let mut at = at + layout.size;
    for extension in entry.matches.iter().chain([&entry.target]) {
        steady.push((at, at + SIZE));
        let known = UNCHANGED.iter().find(|(name, _)| *name == extension.name);
        if let Some((_, length)) = known {
            let length = (*length).min(extension.data.len());
            steady.push((at + EXTENSION, at + EXTENSION + length));
        }
        at += EXTENSION + extension.data.len();
    }
    steady
}

/// The rules of all chains as `chains::table` counts them.
fn places(layout: &Layout, info: &Info, entries: &[Entry]) -> Vec<Place> {
    let hooks = layout.hooks.iter().zip(&info.hooks);
    let bases: Vec<(&str, usize, usize)> = hooks
        .filter_map(|((_, name), place)| {
            place.map(|(first, underflow)| (*name, first as usize, underflow as usize))
        })
        .collect();
    let mut places = Vec::new();
    let (mut chain, mut position) = (String::new(), 0);
    for entry in entries {
        if let Some((name, ..)) = bases.iter().find(|(_, first, _)| *first == entry.offset) {
            (chain, position) = ((*name).to_owned(), 0);
        } else if let Some(name) = entry.chain_name() {
            (chain, position) = (name, 0);
            continue;
        }
        if bases
            .iter()
            .any(|(.., underflow)| *underflow == entry.offset)
        {
            continue;
        }
        position += 1;
        places.push(Place {
            chain: chain.clone(),
            position,
            target_data: entry.next - entry.target.data.len(),
        });
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::packet_filter::legacy::layout::IP;

    /// An entry for TCP to that address, with a target of that name and data.
    fn entry(address: u8, target: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; IP.size];
        bytes[4] = address;
        let length = (IP.size + EXTENSION + data.len()) as u16;
        bytes[IP.offsets..IP.offsets + 2].copy_from_slice(&(IP.size as u16).to_ne_bytes());
        bytes[IP.offsets + 2..IP.offsets + 4].copy_from_slice(&length.to_ne_bytes());
        let mut head = vec![0; EXTENSION];
        head[..2].copy_from_slice(&((EXTENSION + data.len()) as u16).to_ne_bytes());
        head[2..2 + target.len()].copy_from_slice(target.as_bytes());
        bytes.extend(head);
        bytes.extend(data);
        bytes
    }

    /// INPUT with rules for these addresses, its policy, and the end.
    fn image(addresses: &[u8]) -> Image {
        let rules = addresses.iter();
        let mut bytes: Vec<u8> = rules
            .flat_map(|address| entry(*address, "REJECT", &[7, 0, 0, 0, 0, 0, 0, 0]))
            .collect();
        let underflow = bytes.len() as u32;
        bytes.extend(entry(0, "", &[0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
        bytes.extend(entry(0, "ERROR", &[0; 32]));
        let mut hooks = vec![None; 5];
        hooks[1] = Some((0, underflow));
        let info = Info {
            hooks,
            size: bytes.len() as u32,
        };
        Image::of(&IP, "filter", &info, bytes).expect("a table")
    }

    /// The kernel's memory around a rule's target: counters and pointers are its own.
    fn memory(image: &Image, place: &Place, around: usize) -> Memory {
        let base = 0xffff_8880_0000_0000 + place.target_data as u64;
        let mut bytes = vec![0xaa; around];
        let mut table = image.bytes.clone();
        for (at, byte) in table.iter_mut().enumerate() {
            let mut steady = image.steady.iter();
            if !steady.any(|(from, to)| (*from..*to).contains(&at)) {
                *byte = 0x5a;
            }
        }
        bytes.extend(table);
        bytes.resize(bytes.len() + around, 0xaa);
        Memory {
            base,
            place: base + (around + place.target_data) as u64,
            bytes,
        }
    }

    #[test]
    fn a_rule_is_found_by_itself_and_its_neighbours() {
        let image = image(&[1, 2, 2, 3]);
        assert_eq!(image.rules.len(), 4);
        for place in &image.rules {
            let found = image.places(&memory(&image, place, 64));
            assert_eq!(found, [place]);
        }
        let mut other = memory(&image, &image.rules[1], 0);
        other.bytes[4] = 9;
        assert_eq!(image.places(&other), Vec::<&Place>::new());
    }

    #[test]
    fn of_rules_that_are_alike_all_around_each_is_found() {
        let image = image(&[2; 30]);
        let place = &image.rules[15];
        let whole = memory(&image, place, 0);
        let start = place.target_data - 512;
        let cut = Memory {
            base: whole.base + start as u64,
            bytes: whole.bytes[start..start + 1024].to_vec(),
            place: whole.place,
        };
        let found = image.places(&cut);
        assert!(found.contains(&place) && found.len() > 1, "{}", found.len());
    }

    proptest! {
        #[test]
        fn any_memory_is_compared(
            bytes in prop::collection::vec(any::<u8>(), 0..2048),
            base: u64,
            place: u64,
            inside in 0..2048_u64,
        ) {
            let image = image(&[1, 2]);
            for place in [place, base.wrapping_add(inside)] {
                let _ = image.places(&Memory { base, bytes: bytes.clone(), place });
            }
        }
    }
}
