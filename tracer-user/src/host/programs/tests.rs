use super::*;
use crate::host::testing::{Sandbox, root_or_skip};

#[test]
fn a_filter_of_tc_that_is_no_program_is_described() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.ip("link add here type veth peer name there");
    for arguments in [
        "qdisc add dev here clsact",
        "filter add dev here ingress protocol ip u32 match u32 0 0 flowid 1:1",
    ] {
        sandbox.run(move || {
            let status = std::process::Command::new("tc")
                .args(arguments.split(' '))
                .status()
                .unwrap();
            assert!(status.success(), "tc {arguments}");
        });
    }
    let found = of_namespace(&sandbox.namespace());
    let place = |ingress| ProgramPlace::TrafficControl {
        netns: sandbox.inode(),
        device: "here".to_owned(),
        ingress,
    };
    let listed: Vec<_> = found
        .programs
        .iter()
        .map(|program| (program.id, program.name.as_str(), &program.place))
        .collect();
    assert_eq!(found.unread, Vec::<String>::new());
    assert_eq!(listed, [(0, "u32 filter", &place(true))]);
}

#[test]
fn a_namespace_without_programs_has_none() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    let found = of_namespace(&sandbox.namespace());
    assert!(found.programs.is_empty(), "{:?}", found.programs);
    assert!(found.unread.is_empty(), "{:?}", found.unread);
}
