use super::*;
use crate::host::testing::root_or_skip;

const FILE: &str = "\
ffffffff81000000 T _stext
ffffffff81001000 T ip_rcv
ffffffff81001100 t ip_rcv_options
ffffffff81002000 T ip_local_deliver
ffffffff81002200 D some_data
ffffffff81002300 t next
ffffffff81003000 t __netif_receive_skb_core.constprop.0
ffffffff81003800 T after
ffffffff81004000 T nf_hook_slow
ffffffff81004100 T behind
ffffffffc0001000 t nft_do_chain\t[nf_tables]
ffffffffc0000000 t elsewhere\t[other]
ffffffffc0001400 t beyond\t[nf_tables]
";

fn kallsyms() -> Kallsyms {
    let mut functions = starts(FILE.as_bytes()).unwrap();
    functions.sort_unstable_by_key(|function| function.start);
    ends(FILE.as_bytes(), &mut functions).unwrap();
    Kallsyms { functions }
}

#[test]
fn the_function_that_called_for_the_rules_names_the_hook() {
    let stack = [
        0xffff_ffff_c000_1010,
        0xffff_ffff_8100_4010,
        0xffff_ffff_8100_2010,
        0xffff_ffff_8100_1010,
        0xffff_ffff_8100_3010,
    ];
    assert_eq!(kallsyms().hook_of(&stack), Some(Hook::Input));
    let early = [stack[0], stack[1], stack[4]];
    assert_eq!(kallsyms().hook_of(&early), Some(Hook::Ingress));
}

#[test]
fn a_stack_outside_of_the_rules_names_no_hook() {
    assert_eq!(
        kallsyms().hook_of(&[0xffff_ffff_8100_2010, 0xffff_ffff_8100_1010]),
        None
    );
    assert_eq!(kallsyms().hook_of(&[0xffff_ffff_8100_4010]), None);
    let outside = [
        0xffff_ffff_8100_2010,
        0xffff_ffff_8100_4010,
        0xffff_ffff_8100_1010,
    ];
    assert_eq!(kallsyms().hook_of(&outside), None);
}

#[test]
fn a_function_ends_where_the_next_one_starts() {
    let kallsyms = kallsyms();
    let name = |address| kallsyms.function(address).map(|function| function.name);
    assert_eq!(name(0xffff_ffff_8100_10ff), Some("ip_rcv"));
    assert_eq!(name(0xffff_ffff_8100_1100), None);
    assert_eq!(name(0xffff_ffff_8100_22ff), Some("ip_local_deliver"));
    assert_eq!(name(0xffff_ffff_c000_1400), None);
    assert_eq!(name(0), None);
}

#[test]
fn hidden_addresses_and_junk_are_no_functions() {
    assert_eq!(function_line(b"0000000000000000 T ip_rcv"), None);
    assert_eq!(function_line(b"zz T ip_rcv"), None);
    assert_eq!(function_line(b"ffffffff81000000 T"), None);
    assert_eq!(function_line(b"\xff\xfe"), None);
}

#[test]
fn the_running_kernel_has_the_hooks_of_both_families() {
    if !root_or_skip() {
        return;
    }
    let kallsyms = match Kallsyms::read() {
        Ok(kallsyms) => kallsyms,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let start = |name: &str| {
        let found = kallsyms.functions.iter().find(|f| f.name == name);
        found.unwrap().start + 4
    };
    for (name, hook) in [
        ("ip_local_deliver", Hook::Input),
        ("__ip_local_out", Hook::Output),
        ("ip6_input", Hook::Input),
        ("__netif_receive_skb_core", Hook::Ingress),
    ] {
        let function = kallsyms
            .functions
            .iter()
            .find(|function| function.name == name)
            .unwrap();
        assert!(function.end - function.start < LONGEST, "{function:?}");
        let stack = [start("nf_hook_slow"), function.start + 4];
        assert_eq!(kallsyms.hook_of(&stack), Some(hook));
    }
}
