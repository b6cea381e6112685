//! Any readings of packet filters.

use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::facts::any_netns;
use crate::case::*;

const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 1, 2));

pub(super) fn any_filtering() -> BoxedStrategy<Filtering> {
    let place = (any_netns(), any_hook(), any::<bool>());
    let purpose = prop_oneof![Just(Purpose::Stopped), Just(Purpose::Translated)];
    let words = || vec("\\PC{0,6}", 0..2);
    (
        place,
        purpose,
        vec(any_fitting(), 0..4),
        words(),
        any::<bool>(),
        words(),
    )
        .prop_map(
            |((netns, hook, answer), purpose, fitting, doubts, changed, unread)| Filtering {
                netns,
                hook,
                answer,
                neighbour: changed.then_some(NEIGHBOUR),
                purpose,
                fitting,
                doubts,
                changed,
                unread,
                known_by: match changed {
                    true => KnownBy::Silence,
                    false => KnownBy::Kernel,
                },
                disagreement: None,
            },
        )
        .boxed()
}

fn any_hook() -> BoxedStrategy<Hook> {
    prop_oneof![
        Just(Hook::Input),
        Just(Hook::Output),
        Just(Hook::Forward),
        Just(Hook::Ingress),
    ]
    .boxed()
}

fn any_fitting() -> BoxedStrategy<Fitting> {
    let backend = prop_oneof![
        Just(Backend::Nft),
        Just(Backend::IptablesNft),
        Just(Backend::IptablesLegacy),
    ];
    let family = prop_oneof![Just(FilterFamily::Ip), Just(FilterFamily::Inet)];
    let chain = "(input|KUBE-A|ufw-user-input|f2b-x|filter_IN_p_deny|\\PC{0,6})";
    let counted = (any::<bool>(), of(any::<u64>()), any::<bool>());
    (
        (backend, family, chain),
        (of(any::<u64>()), of(any::<u32>())),
        any_action(),
        "\\PC{0,12}",
        counted,
    )
        .prop_map(
            |((backend, family, chain), (handle, position), action, text, counted)| Fitting {
                backend,
                family,
                table: "filter".to_owned(),
                base_chain: chain.clone(),
                chain,
                handle,
                position,
                action,
                comment: Some(text.clone()),
                text,
                certain: counted.0,
                counted: counted.1,
                never_met: counted.2,
                leads_to: Vec::new(),
            },
        )
        .boxed()
}

fn any_action() -> BoxedStrategy<Action> {
    let icmp = (any::<u8>(), any::<u8>(), any::<bool>());
    prop_oneof![
        Just(Action::Accept),
        Just(Action::Drop),
        Just(Action::RejectWithReset),
        icmp.prop_map(|(kind, code, v6)| Action::RejectWithIcmp {
            icmp: Icmp { kind, code, v6 },
        }),
        any::<u16>().prop_map(|number| Action::Queue {
            number,
            bypass: false,
        }),
        Just(Action::Translate { to: None }),
        "\\PC{0,6}".prop_map(|name| Action::Other { name }),
    ]
    .boxed()
}
