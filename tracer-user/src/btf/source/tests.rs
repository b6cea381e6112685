use std::fs;

use proptest::prelude::*;

use super::*;

const NATIVE: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), bytes).expect("written");
    file
}

/// What is said of a file with these bytes.
fn refused(bytes: &[u8]) -> String {
    match Btf::of_file(file(bytes).path()) {
        Ok(_) => panic!("{} bytes are taken for a kernel's types", bytes.len()),
        Err(error) => error.to_string(),
    }
}

/// The running kernel's own types; `None` where it has none.
fn running() -> Option<Vec<u8>> {
    let bytes = fs::read(KERNEL).ok();
    if bytes.is_none() {
        println!("skipped: this kernel has no {KERNEL}");
    }
    bytes
}

/// Raw BTF of some structures without members.
fn structures(names: &[&str]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut types: Vec<u8> = Vec::new();
    for name in names {
        for word in [strings.len() as u32, 4 << 24, 0] {
            types.extend(word.to_ne_bytes());
        }
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    let lengths = [24, 0, types.len(), types.len(), strings.len()];
    bytes.extend(lengths.iter().flat_map(|word| (*word as u32).to_ne_bytes()));
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}

fn kernel() -> Vec<u8> {
    structures(&["task_struct", "sock", "sk_buff"])
}

fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = [name.len() as u32, content.len() as u32, kind]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    for part in [name, content] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// An ELF file with these sections behind an empty first one and the names.
fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut names = b"\0.shstrtab\0".to_vec();
    let mut content: Vec<u8> = Vec::new();
    let mut headers = vec![0; 64];
    let mut push = |name: u32, bytes: &[u8]| {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_ne_bytes());
        header[24..32].copy_from_slice(&(64 + content.len() as u64).to_ne_bytes());
        header[32..40].copy_from_slice(&(bytes.len() as u64).to_ne_bytes());
        headers.extend(header);
        content.extend(bytes);
    };
    for (name, bytes) in sections {
        push(names.len() as u32, bytes);
        names.extend(name.as_bytes());
        names.push(0);
    }
    push(1, &names);
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, NATIVE, 1]);
    bytes[40..48].copy_from_slice(&(64 + content.len() as u64).to_ne_bytes());
    for (at, word) in [(58, 64), (60, sections.len() + 2), (62, sections.len() + 1)] {
        bytes[at..at + 2].copy_from_slice(&(word as u16).to_ne_bytes());
    }
    bytes.extend(content);
    bytes.extend(headers);
    bytes
}

#[test]
fn a_copy_of_the_kernels_own_types_is_without_doubt() {
    let Some(own) = running() else { return };
    for bytes in [own.clone(), elf(&[(".text", b"code"), (".BTF", &own)])] {
        let file = file(&bytes);
        let btf = Btf::of_file(file.path()).expect("types");
        assert_eq!(btf.doubt(), None);
        assert!(btf.is_the_kernels_own());
        assert_eq!(btf.bytes(), own);
        let family = btf.field("sock", "__sk_common.skc_family");
        assert_eq!(family.map(|field| field.offset()), Some(16));
    }
}

#[test]
fn types_of_another_kernel_are_told_where_the_kernel_has_its_own() {
    let btf = Btf::of_file(file(&kernel()).path()).expect("types");
    assert!(!btf.is_the_kernels_own());
    let doubt = btf.doubt().expect("a doubt");
    let expected = match running() {
        Some(_) => "those of another kernel",
        None => "nothing tells",
    };
    assert!(doubt.contains(expected), "{doubt}");
}

#[test]
fn a_build_id_tells_the_kernel_where_it_has_no_types_of_its_own() {
    let notes = [
        note(b"Xen\0", 6, b"linux\0"),
        note(b"GNU\0", 3, b"0123456789abcdefghij"),
    ]
    .concat();
    let file = file(&elf(&[(".notes", &notes), (".BTF", &kernel())]));
    let content = Content::read(file.path()).expect("types");
    assert_eq!(content.types, kernel());
    let own = |build_id: Option<&[u8]>| Content {
        types: Vec::new(),
        build_id: build_id.map(<[u8]>::to_vec),
    };
    for (build_id, kinship) in [
        (Some(&b"0123456789abcdefghij"[..]), Kinship::SameBuild),
        (Some(b"another"), Kinship::OtherBuild),
        (None, Kinship::Untold),
    ] {
        assert_eq!(content.kinship(&own(build_id)), kinship);
    }
    assert_eq!(own(None).kinship(&own(Some(b"raw"))), Kinship::Untold);
}

#[test]
fn the_running_kernels_notes_have_a_build_id() {
    let Ok(notes) = fs::read(NOTES) else {
        println!("skipped: this kernel has no {NOTES}");
        return;
    };
    let build_id = elf::build_id(&notes).expect("a build id");
    assert!(build_id.len() >= 8, "{build_id:?}");
}

/// An ELF file of the other byte order, of an empty section and the names.
fn foreign_elf() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 3 - NATIVE, 1]);
    bytes[40..48].copy_from_slice(&64_u64.swap_bytes().to_ne_bytes());
    for (at, word) in [(58, 64_u16), (60, 2), (62, 1)] {
        bytes[at..at + 2].copy_from_slice(&word.swap_bytes().to_ne_bytes());
    }
    bytes.resize(64 + 2 * 64, 0);
    bytes[128 + 32..128 + 40].copy_from_slice(&1_u64.swap_bytes().to_ne_bytes());
    bytes
}

#[test]
fn what_holds_no_kernels_types_is_refused_with_the_reason() {
    let mut swapped = kernel();
    swapped.swap(0, 1);
    let whole = elf(&[(".BTF", &kernel())]);
    for (bytes, reason) in [
        (&b""[..], "empty or truncated"),
        (b"\x1f\x8b\x08\x00gzip", "unpacked"),
        (&swapped, "other byte order"),
        (&foreign_elf(), "an ELF file of the other byte order"),
        (&kernel()[..40], "truncated"),
        (&whole[..whole.len() - 1], "damaged"),
        (&structures(&["nft_chain"]), "a module"),
        (&elf(&[(".text", b"code")]), "without a section .BTF"),
        (&elf(&[(".BTF", b"")]), "without a section .BTF"),
        (&elf(&[(".BTF", b"none")]), "truncated or damaged"),
    ] {
        let message = refused(bytes);
        assert!(message.contains(reason), "{reason}: {message}");
    }
}

#[test]
fn what_is_no_regular_file_is_neither_waited_for_nor_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    for path in [&fifo, folder.path(), Path::new("/dev/zero")] {
        let error = Btf::of_file(path).err().expect("refused").to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
    let error = Btf::of_file(&folder.path().join("absent")).err();
    let error = error.expect("refused").to_string();
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_not_read_to_its_end() {
    let file = file(&kernel());
    let sparse = File::options().write(true).open(file.path()).expect("open");
    sparse.set_len(MOST_BTF + 1).expect("sparse");
    let error = Btf::of_file(file.path())
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("64 MiB"), "{error}");
}

proptest! {
    #[test]
    fn any_damage_to_a_file_is_survived(
        in_elf in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = match in_elf {
            true => elf(&[(".notes", &note(b"GNU\0", 3, b"id")), (".BTF", &kernel())]),
            false => kernel(),
        };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(length.index(bytes.len()) + 1);
        if let Ok(btf) = Btf::of_file(file(&bytes).path()) {
            let _ = btf.field("sock", "__sk_common.skc_dport");
        }
    }

    #[test]
    fn any_notes_are_survived(notes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = elf::build_id(&notes);
    }
}
