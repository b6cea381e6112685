//! The entries of a table, one behind the other.

use super::LegacyError;
use super::layout::Layout;
use crate::firewall::expression::Extension;
use crate::firewall::fields::Fields;

/// Bytes of `struct xt_entry_match` and `struct xt_entry_target` before their data.
const EXTENSION: usize = 32;

/// Bytes of an extension's name, its NUL included (`XT_EXTENSION_MAXNAMELEN`).
const NAME: usize = 29;

/// The target that begins a user's chain, and ends the table (`XT_ERROR_TARGET`).
const ERROR: &str = "ERROR";

/// `struct ipt_entry` and its likes, with what follows it.
#[derive(Debug, Clone)]
pub struct Entry<'b> {
    pub offset: usize,
    /// Where the next entry begins.
    pub next: usize,
    /// The structure before the matches.
    pub fixed: Fields<'b>,
    pub matches: Vec<Extension>,
    pub target: Extension,
    pub packets: u64,
    pub goto: bool,
}

impl Entry<'_> {
    /// The verdict of the standard target: a jump's offset, or a negative number.
    pub fn verdict(&self) -> Option<i32> {
        let standard = self.target.name.is_empty();
        standard.then(|| Fields(&self.target.data).i32(0)).flatten()
    }

    /// The chain that this entry begins.
    pub fn chain_name(&self) -> Option<String> {
        let error = self.target.name == ERROR;
        error
            .then(|| Fields(&self.target.data).text(0, self.target.data.len()))
            .flatten()
    }
}

/// Splits a table into its entries.
pub fn entries<'b>(layout: &Layout, blob: &'b [u8]) -> Result<Vec<Entry<'b>>, LegacyError> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < blob.len() {
        let what = "an entry that does not fit";
        let entry = entry(layout, blob, at).ok_or(LegacyError::Malformed { at, what })?;
        at = entry.next;
        entries.push(entry);
    }
    Ok(entries)
}

fn entry<'b>(layout: &Layout, blob: &'b [u8], offset: usize) -> Option<Entry<'b>> {
    let rest = Fields(blob.get(offset..)?);
    let target = usize::from(rest.u16(layout.offsets)?);
    let length = usize::from(rest.u16(layout.offsets + 2)?);
    let fixed = Fields(rest.bytes(0, layout.size)?);
    if target < layout.size || length < target + EXTENSION {
        return None;
    }
    let mut matches = Vec::new();
    let mut at = layout.size;
    while at < target {
        let (size, extension) = extension(Fields(rest.bytes(at, target - at)?))?;
        matches.push(extension);
        at += size;
    }
    let (_, target) = extension(Fields(rest.bytes(target, length - target)?))?;
    Some(Entry {
        offset,
        next: offset + length,
        fixed,
        matches,
        target,
        packets: fixed.u64(layout.packets)?,
        goto: layout
            .goto
            .is_some_and(|(at, bit)| fixed.u8(at).is_some_and(|flags| flags & bit != 0)),
    })
}

/// The extension at the beginning of `fields`, and how long it is.
fn extension(fields: Fields) -> Option<(usize, Extension)> {
    let size = usize::from(fields.u16(0)?);
    let data = fields.bytes(EXTENSION, size.checked_sub(EXTENSION)?)?;
    Some((
        size,
        Extension {
            name: fields.text(2, NAME)?,
            revision: fields.u8(2 + NAME)?,
            data: data.to_vec(),
        },
    ))
}
