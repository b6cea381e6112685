//! A reader of the kernel's own description of its types (BTF).
//!
//! It answers four questions: where a field lies, how the values of an enum are called, which
//! arguments a tracepoint has, and which number a function has. The one maintained crate that reads members is under the
//! LGPL, which does not fit a static binary under MIT or Apache-2.0; aya's reader keeps members
//! to itself.

mod module;

use std::{collections::HashMap, path::Path};

/// The kinds of Documentation/bpf/btf.rst that are looked at.
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;
/// How deep anonymous members and type modifiers are followed.
const DEPTH: u32 = 16;

/// Why the kernel's types cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error(
        "reading the kernel's types from {path}: {error}; the kernel must be built with CONFIG_DEBUG_INFO_BTF"
    )]
    Unreadable { path: String, error: std::io::Error },
    #[error("{0}: these bytes are no BTF of this machine's byte order")]
    Malformed(String),
}

/// The types of one kernel.
pub struct Btf {
    bytes: Vec<u8>,
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
    /// Reads the types of the running kernel.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        Self::open(Path::new("/sys/kernel/btf/vmlinux"))
    }

    /// Reads types from a file that holds raw BTF.
    pub fn open(path: &Path) -> Result<Self, BtfError> {
        let bytes = std::fs::read(path).map_err(|error| BtfError::Unreadable {
            path: path.display().to_string(),
            error,
        })?;
        Self::parse(bytes).ok_or_else(|| BtfError::Malformed(path.display().to_string()))
    }

    /// These types, which are the running kernel's, with those of a module; `None` where the
    /// module is not loaded, or the kernel tells no types of modules.
    pub fn with_module(&self, name: &str) -> Option<Self> {
        let module = std::fs::read(Path::new("/sys/kernel/btf").join(name)).ok()?;
        module::joined(&self.bytes, &module).and_then(Self::parse)
    }

    /// Indexes raw BTF; `None` where the bytes are none.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
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

    /// The raw BTF.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the field lies that `path` names, such as `__sk_common.skc_dport`; members of
    /// anonymous structs and unions count as their parent's.
    pub fn field(&self, structure: &str, path: &str) -> Option<Field> {
        let mut id = self.find(kind::STRUCT, structure)?;
        let mut bits = 0;
        let mut bit_size = 0;
        for name in path.split('.') {
            let (field, member) = self.member(id, name, DEPTH)?;
            bits += field.bit_offset;
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

    fn member(&self, id: u32, name: &str, depth: u32) -> Option<(Field, u32)> {
        let position = self.position(self.unqualified(id)?)?;
        if depth == 0 || !matches!(self.kind(position)?, kind::STRUCT | kind::UNION) {
            return None;
        }
        let bit_fields = self.word(position + 4)? >> 31 == 1;
        for index in 0..self.count(position)? {
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
                && let Some((inner, member)) = self.member(member, name, depth - 1)
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
        let length = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        std::str::from_utf8(&rest[..length]).unwrap_or_default()
    }
}

fn kind_of(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

fn u16_at(bytes: &[u8], position: usize) -> Option<u16> {
    let bytes = bytes.get(position..position.checked_add(2)?)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], position: usize) -> Option<u32> {
    let bytes = bytes.get(position..position.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Names are kept as FNV-1a hashes: twenty thousand strings would outweigh all else; a find
/// compares the name itself.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn running() -> Option<Btf> {
        match Btf::of_running_kernel() {
            Ok(btf) => Some(btf),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }

    #[test]
    fn a_field_behind_anonymous_unions_is_found() {
        let Some(btf) = running() else { return };
        let family = btf.field("sock", "__sk_common.skc_family").expect("family");
        let dport = btf.field("sock", "__sk_common.skc_dport").expect("dport");
        let daddr = btf.field("sock", "__sk_common.skc_daddr").expect("daddr");
        assert_eq!(family.offset(), 16);
        assert_eq!(dport.offset(), 12);
        assert_eq!(daddr.offset(), 0);
        assert_eq!(btf.field("sock", "__sk_common.skc_nonsense"), None);
        assert_eq!(btf.field("no_such_structure", "field"), None);
    }

    #[test]
    fn a_bit_field_knows_its_bit() {
        let Some(btf) = running() else { return };
        let field = btf.field("sock", "__sk_common.skc_ipv6only").expect("bit");
        assert_eq!(field.bit_size, 1);
    }

    #[test]
    fn a_tracepoint_names_its_arguments() {
        let Some(btf) = running() else { return };
        let arguments = btf.tracepoint("inet_sock_set_state").expect("tracepoint");
        assert_eq!(
            arguments[0],
            Argument {
                name: "sock".to_owned(),
                pointer: true
            }
        );
        assert_eq!(arguments.len(), 3);
        assert_eq!(btf.tracepoint("no_such_tracepoint"), None);
    }

    #[test]
    fn the_values_of_an_enum_have_names() {
        let Some(btf) = running() else { return };
        let Some(reasons) = btf.enumerators("skb_drop_reason") else {
            println!("skipped: this kernel has no drop reasons");
            return;
        };
        assert!(
            reasons
                .values()
                .any(|name| name == "SKB_DROP_REASON_NO_SOCKET")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_header_are_read_or_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 24..600),
            types in 0u32..600,
            strings in 0u32..600,
        ) {
            bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
            bytes[4..8].copy_from_slice(&24u32.to_ne_bytes());
            bytes[8..12].copy_from_slice(&0u32.to_ne_bytes());
            bytes[12..16].copy_from_slice(&types.to_ne_bytes());
            bytes[16..20].copy_from_slice(&strings.to_ne_bytes());
            if let Some(btf) = Btf::parse(bytes) {
                for id in 0..btf.types.len() as u32 {
                    let _ = btf.argument(id);
                    let _ = btf.member(id, "", DEPTH);
                }
            }
        }
    }
}
