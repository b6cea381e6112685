//! The types of a module, which go on where those of the kernel end.

use super::{MAGIC, u16_at, u32_at};

/// Bytes of a header.
const HEADER: u32 = 24;

/// The sections of raw BTF.
struct Sections<'b> {
    types: &'b [u8],
    strings: &'b [u8],
}

/// Types and strings of a module count from the end of the kernel's: behind one another they are
/// BTF like any other.
pub fn joined(kernel: &[u8], module: &[u8]) -> Option<Vec<u8>> {
    let (kernel, module) = (sections(kernel)?, sections(module)?);
    let types = length(kernel.types, module.types)?;
    let strings = length(kernel.strings, module.strings)?;
    let mut joined = Vec::with_capacity((HEADER + types + strings) as usize);
    joined.extend(MAGIC.to_ne_bytes());
    joined.extend([1, 0]);
    for word in [HEADER, 0, types, types, strings] {
        joined.extend(word.to_ne_bytes());
    }
    for part in [kernel.types, module.types, kernel.strings, module.strings] {
        joined.extend(part);
    }
    Some(joined)
}

fn sections(bytes: &[u8]) -> Option<Sections<'_>> {
    if u16_at(bytes, 0)? != MAGIC {
        return None;
    }
    let header = u32_at(bytes, 4)? as usize;
    let section = |at: usize| {
        let from = header.checked_add(u32_at(bytes, at)? as usize)?;
        let to = from.checked_add(u32_at(bytes, at + 4)? as usize)?;
        bytes.get(from..to)
    };
    Some(Sections {
        types: section(8)?,
        strings: section(16)?,
    })
}

fn length(one: &[u8], other: &[u8]) -> Option<u32> {
    u32::try_from(one.len().checked_add(other.len())?)
        .ok()
        .filter(|length| *length < u32::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::{Btf, Source};

    const STRUCT: u32 = 4 << 24;
    const INT: u32 = 1 << 24;

    fn raw(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (types_length, strings_length) = (types.len() as u32, strings.len() as u32);
        let mut bytes = Vec::from(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [HEADER, 0, types_length, types_length, strings_length] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_structure_of_a_module_has_members_of_the_kernel_s_types_and_names() {
        // The kernel: `int`, and the string "name". The module: a structure with a member of it.
        let kernel = raw(&[1, INT, 4, 32], b"\0int\0name\0");
        let module = raw(&[10, STRUCT | 2, 16, 5, 1, 32, 16, 1, 64], b"chain\0own\0");
        let joined = joined(&kernel, &module)
            .and_then(|bytes| Btf::parse(bytes, Source::Kernel))
            .expect("BTF");
        let offset = |name| joined.field("chain", name).map(|field| field.offset());
        assert_eq!(offset("name"), Some(4));
        assert_eq!(offset("own"), Some(8));
        assert_eq!(offset("int"), None);
    }
}
