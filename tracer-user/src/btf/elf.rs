//! What a kernel's ELF file, its `vmlinux`, tells beside its code.
//!
//! `object` knows the format; the parts are read one by one and with a bound each, for such a file
//! may have a gigabyte.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID, SectionHeader64};
use object::pod::slice_from_bytes;
use object::read::elf::{FileHeader, NoteIterator};
use object::{Endian, Endianness, NativeEndian};

pub const MAGIC: &[u8] = b"\x7fELF";

const HEADER: usize = size_of::<FileHeader64<Endianness>>();
const SECTION: usize = size_of::<SectionHeader64<Endianness>>();
/// Bytes of section names; a kernel has some thousand.
const MOST_NAMES: u64 = 1 << 20;
/// Bytes of notes; a kernel has some hundred.
pub const MOST_NOTES: u64 = 1 << 16;

/// The sections of an ELF file for 64-bit machines.
pub struct Sections<'a> {
    file: &'a File,
    endian: Endianness,
    headers: Vec<u8>,
    names: Vec<u8>,
}

/// A section's content cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// There is no such section, or it is empty.
    Absent,
    /// It has more bytes than were asked for at most.
    TooLarge,
    /// It lies beyond the end of the file.
    Truncated,
}

impl<'a> Sections<'a> {
    /// `None` where the file is no such ELF file, or a damaged one.
    pub fn of(file: &'a File) -> Option<Self> {
        let head = bytes_at(file, 0, HEADER)?;
        let header = FileHeader64::<Endianness>::parse(&head[..]).ok()?;
        let endian = header.endian().ok()?;
        if usize::from(header.e_shentsize.get(endian)) != SECTION {
            return None;
        }
        let count = usize::from(header.e_shnum.get(endian));
        let headers = bytes_at(file, header.e_shoff.get(endian), count * SECTION)?;
        let mut sections = Self {
            file,
            endian,
            headers,
            names: Vec::new(),
        };
        let names = sections.at(usize::from(header.e_shstrndx.get(endian)))?;
        sections.names = sections.content(names, MOST_NAMES).ok()?;
        Some(sections)
    }

    /// Whether the file is for machines of this byte order.
    pub fn is_native(&self) -> bool {
        self.endian.is_little_endian() == NativeEndian.is_little_endian()
    }

    /// The bytes of the section of that name, if it has no more than `most`.
    pub fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, Unread> {
        let section = self
            .all()
            .iter()
            .find(|section| self.name(section) == Some(name.as_bytes()))
            .ok_or(Unread::Absent)?;
        self.content(section, most)
    }

    fn all(&self) -> &[SectionHeader64<Endianness>] {
        slice_from_bytes(&self.headers, self.headers.len() / SECTION)
            .map_or(&[][..], |(sections, _)| sections)
    }

    fn at(&self, index: usize) -> Option<&SectionHeader64<Endianness>> {
        self.all().get(index)
    }

    fn name(&self, section: &SectionHeader64<Endianness>) -> Option<&[u8]> {
        let from = section.sh_name.get(self.endian) as usize;
        let name = self.names.get(from..)?;
        name.split(|byte| *byte == 0).next()
    }

    fn content(&self, section: &SectionHeader64<Endianness>, most: u64) -> Result<Vec<u8>, Unread> {
        let length = section.sh_size.get(self.endian);
        if length == 0 {
            return Err(Unread::Absent);
        }
        if length > most {
            return Err(Unread::TooLarge);
        }
        bytes_at(
            self.file,
            section.sh_offset.get(self.endian),
            length as usize,
        )
        .ok_or(Unread::Truncated)
    }
}

/// The linker's fingerprint of a kernel among its notes: those of its file, or of
/// /sys/kernel/notes.
pub fn build_id(notes: &[u8]) -> Option<Vec<u8>> {
    let endian = native();
    let notes = NoteIterator::<FileHeader64<Endianness>>::new(endian, 4, notes).ok()?;
    notes
        .map_while(Result::ok)
        .find(|note| note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID)
        .map(|note| note.desc().to_vec())
}

fn native() -> Endianness {
    match NativeEndian.is_little_endian() {
        true => Endianness::Little,
        false => Endianness::Big,
    }
}

/// So many bytes from there; `None` where the file ends before.
fn bytes_at(file: &File, offset: u64, length: usize) -> Option<Vec<u8>> {
    let end = offset.checked_add(length as u64)?;
    if end > file.metadata().ok()?.len() {
        return None;
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}
