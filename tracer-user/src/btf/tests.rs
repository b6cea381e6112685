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
        if let Some(btf) = Btf::parse(bytes, Source::Kernel) {
            for id in 0..btf.types.len() as u32 {
                let _ = btf.argument(id);
                let _ = btf.member(id, "", DEPTH, &mut { MOST_MEMBERS });
            }
        }
    }
}

/// Raw BTF of one structure whose members are all anonymous and of its own type.
fn endless() -> Vec<u8> {
    let members = 1000_u32;
    let mut words = vec![1, (4 << 24) | members, 0];
    words.extend((0..members).flat_map(|_| [0, 1, 0]));
    let length = words.len() as u32 * 4;
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    let header = [24, 0, length, length, 3];
    bytes.extend(header.iter().chain(&words).flat_map(|w| w.to_ne_bytes()));
    bytes.extend(b"\0s\0");
    bytes
}

#[test]
fn anonymous_members_that_refer_to_each_other_are_given_up() {
    let btf = Btf::parse(endless(), Source::Kernel).expect("types");
    assert_eq!(btf.field("s", "absent"), None);
}
