//! A reader of the kernel's own description of its types (BTF).
//!
//! It answers five questions: where a field lies, how the values of an enum are called, which
//! arguments a tracepoint has, which number a function has, and whether there is a variable. The
//! one maintained crate that reads members is under the LGPL, which does not fit a static binary
//! under MIT or Apache-2.0; aya's reader keeps members to itself.

mod elf;
mod format;
mod module;
mod source;

use std::{collections::HashMap, path::Path};

use crate::bounded;
use format::{MAGIC, hash, kind, kind_of, u16_at, u32_at};
pub use source::{BtfError, Kinship, Source};

/// How deep anonymous members and type modifiers are followed.
const DEPTH: u32 = 16;
/// How many members are looked at for one field: those of a real structure with all that is
/// anonymous in it are some hundreds, but anonymous members may refer to each other without end.
const MOST_MEMBERS: u32 = 1 << 16;
/// No name is longer, its final 0 included (`KSYM_NAME_LEN`, Linux 6.1).
const LONGEST_NAME: usize = 512;

/// The types of one kernel.
pub struct Btf {
    bytes: Vec<u8>,
    source: Source,
    /// Where the strings begin.
    strings: usize,
    /// Where each type begins; type ids count from 1.
    types: Vec<u32>,
    /// Ids of structs, enums and typedefs by name.
    named: HashMap<(u32, u32), u32>,
}

/// Where a field lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// In bits from the start of the structure.
    pub bit_offset: u32,
    /// In bits where it is a bit field, else 0.
    pub bit_size: u32,
}

impl Field {
    /// In bytes from the start of the structure.
    pub fn offset(self) -> u32 {
        self.bit_offset / 8
    }
}

/// An argument of a tracepoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The name of its type without qualifiers; of the pointed-to type where it is a pointer.
    pub name: String,
    pub pointer: bool,
}

impl Btf {
    /// These types, where they are the running kernel's, with those of a module; `None` where the
    /// module is not loaded, or the kernel tells no types of modules.
    pub fn with_module(&self, name: &str) -> Option<Self> {
        if !self.is_the_kernels_own() {
            return None;
        }
        let path = Path::new("/sys/kernel/btf").join(name);
        let module = bounded::read(path, source::MOST_BTF).ok()?;
        let joined = module::joined(&self.bytes, &module)?;
        Self::parse(joined, self.source.clone())
    }

    /// Indexes raw BTF that came from there; `None` where the bytes are none.
    pub fn parse(bytes: Vec<u8>, source: Source) -> Option<Self> {
        if u16_at(&bytes, 0)? != MAGIC {
            return None;
        }
        let header = u32_at(&bytes, 4)? as usize;
        let begin = header.checked_add(u32_at(&bytes, 8)? as usize)?;
        let end = begin.checked_add(u32_at(&bytes, 12)? as usize)?;
        let strings = header.checked_add(u32_at(&bytes, 16)? as usize)?;
        if end > bytes.len() || strings > bytes.len() {
            return None;
        }
        let mut btf = Self {
            bytes,
            source,
            strings,
            types: vec![0],
            named: HashMap::new(),
        };
        let mut position = begin;
        while position < end {
            let id = btf.types.len() as u32;
            let (name, kind) = (btf.word(position)?, kind_of(btf.word(position + 4)?));
            if name != 0
                && matches!(
                    kind,
                    kind::STRUCT | kind::ENUM | kind::ENUM64 | kind::TYPEDEF
                )
            {
                btf.named
                    .entry((kind, hash(btf.string(name))))
                    .or_insert(id);
            }
            btf.types.push(position as u32);
            position = position.checked_add(btf.length(position)?)?;
        }
        Some(btf)
    }

    /// The raw BTF, as other readers of it take it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the running kernel says the very same of itself. Only then do the numbers of types
    /// and functions mean to it what they mean here.
    pub fn is_the_kernels_own(&self) -> bool {
        match &self.source {
            Source::Kernel => true,
            Source::File { kinship, .. } => *kinship == Kinship::SameTypes,
        }
    }

    /// Where the field lies that `path` names, such as `__sk_common.skc_dport`; members of
    /// anonymous structs and unions count as their parent's.
    pub fn field(&self, structure: &str, path: &str) -> Option<Field> {
        let mut id = self.find(kind::STRUCT, structure)?;
        let mut bits = 0_u32;
        let mut bit_size = 0;
        let mut budget = MOST_MEMBERS;
        for name in path.split('.') {
            let (field, member) = self.member(id, name, DEPTH, &mut budget)?;
            bits = bits.checked_add(field.bit_offset)?;
            bit_size = field.bit_size;
            id = member;
        }
        Some(Field {
            bit_offset: bits,
            bit_size,
        })
    }

    /// The names of an enum's values.
    pub fn enumerators(&self, name: &str) -> Option<HashMap<u32, String>> {
        let wide = self.find(kind::ENUM64, name);
        let id = wide.or_else(|| self.find(kind::ENUM, name))?;
        let step = if wide.is_some() { 12 } else { 8 };
        let position = self.position(id)?;
        (0..self.count(position)?)
            .map(|index| {
                let entry = position + 12 + index * step;
                let name = self.string(self.word(entry)?).to_owned();
                Some((self.word(entry + 4)?, name))
            })
            .collect()
    }

    /// The number of a function among the types. Every type is looked at: functions are many, and
    /// hardly ever asked for.
    pub fn function(&self, name: &str) -> Option<u32> {
        (1..self.types.len() as u32).find(|id| {
            self.position(*id).is_some_and(|position| {
                self.kind(position) == Some(kind::FUNC)
                    && self
                        .word(position)
                        .is_some_and(|at| self.string(at) == name)
            })
        })
    }

    /// Whether there is a variable of that name. BTF has those of which every processor has one.
    pub fn has_variable(&self, name: &str) -> bool {
        self.types.iter().skip(1).any(|position| {
            let position = *position as usize;
            self.kind(position) == Some(kind::VAR)
                && self
                    .word(position)
                    .is_some_and(|at| self.string(at) == name)
        })
    }

    /// Whether there is a structure of that name.
    pub fn has_structure(&self, name: &str) -> bool {
        self.find(kind::STRUCT, name).is_some()
    }

    /// The arguments of a tracepoint; `None` where the kernel has no such tracepoint.
    pub fn tracepoint(&self, name: &str) -> Option<Vec<Argument>> {
        let typedef = self.find(kind::TYPEDEF, &format!("btf_trace_{name}"))?;
        let pointer = self.target(typedef)?;
        let prototype = self.position(self.target(pointer)?)?;
        if self.kind(prototype)? != kind::FUNC_PROTO {
            return None;
        }
        // The first parameter is the context of the probe itself.
        (1..self.count(prototype)?)
            .map(|index| {
                let parameter = self.word(prototype + 12 + index * 8 + 4)?;
                self.argument(parameter)
            })
            .collect()
    }

    fn argument(&self, id: u32) -> Option<Argument> {
        let id = self.unqualified(id)?;
        let pointer = id != 0 && self.kind(self.position(id)?)? == kind::PTR;
        let id = if pointer {
            self.unqualified(self.target(id)?)?
        } else {
            id
        };
        let name = match id {
            0 => "void".to_owned(),
            id => self.string(self.word(self.position(id)?)?).to_owned(),
        };
        Some(Argument { name, pointer })
    }

    fn member(&self, id: u32, name: &str, depth: u32, budget: &mut u32) -> Option<(Field, u32)> {
        let position = self.position(self.unqualified(id)?)?;
        if depth == 0 || !matches!(self.kind(position)?, kind::STRUCT | kind::UNION) {
            return None;
        }
        let bit_fields = self.word(position + 4)? >> 31 == 1;
        for index in 0..self.count(position)? {
            *budget = budget.checked_sub(1)?;
            let entry = position + 12 + index * 12;
            let (member_name, member) = (self.string(self.word(entry)?), self.word(entry + 4)?);
            let offset = self.word(entry + 8)?;
            let field = match bit_fields {
                true => Field {
                    bit_offset: offset & 0xff_ffff,
                    bit_size: offset >> 24,
                },
                false => Field {
                    bit_offset: offset,
                    bit_size: 0,
                },
            };
            if member_name == name {
                return Some((field, member));
            }
            if member_name.is_empty()
                && let Some((inner, member)) = self.member(member, name, depth - 1, budget)
            {
                let bit_offset = field.bit_offset.checked_add(inner.bit_offset)?;
                return Some((
                    Field {
                        bit_offset,
                        ..inner
                    },
                    member,
                ));
            }
        }
        None
    }

    /// Follows typedefs and qualifiers.
    fn unqualified(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH {
            if id == 0 {
                return Some(0);
            }
            match self.kind(self.position(id)?)? {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = self.target(id)?
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn find(&self, kind: u32, name: &str) -> Option<u32> {
        let id = *self.named.get(&(kind, hash(name)))?;
        (self.string(self.word(self.position(id)?)?) == name).then_some(id)
    }

    fn position(&self, id: u32) -> Option<usize> {
        match id {
            0 => None,
            id => self
                .types
                .get(id as usize)
                .map(|position| *position as usize),
        }
    }

    fn kind(&self, position: usize) -> Option<u32> {
        Some(kind_of(self.word(position + 4)?))
    }

    fn count(&self, position: usize) -> Option<usize> {
        Some((self.word(position + 4)? & 0xffff) as usize)
    }

    /// The type that a pointer, typedef or qualifier refers to.
    fn target(&self, id: u32) -> Option<u32> {
        self.word(self.position(id)? + 8)
    }

    /// How many bytes the type takes.
    fn length(&self, position: usize) -> Option<usize> {
        let count = self.count(position)?;
        Some(
            12 + match self.kind(position)? {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => count * 12,
                kind::ENUM | kind::FUNC_PROTO => count * 8,
                _ => 0,
            },
        )
    }

    fn word(&self, position: usize) -> Option<u32> {
        u32_at(&self.bytes, position)
    }

    fn string(&self, offset: u32) -> &str {
        let from = self.strings.saturating_add(offset as usize);
        let rest = self.bytes.get(from..).unwrap_or_default();
        let length = rest
            .iter()
            .take(LONGEST_NAME)
            .position(|byte| *byte == 0)
            .unwrap_or(0);
        std::str::from_utf8(&rest[..length]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
