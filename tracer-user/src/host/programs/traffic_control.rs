//! Filters of tc at the way in and out of a device: programs, and actions of other kinds.

use netlink_packet_core::Nla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionOption, TcAttribute, TcFilterBpf, TcFilterBpfOption,
    TcFilterFlowerOption, TcFilterMatchAllOption, TcFilterU32Option, TcHandle, TcMessage, TcOption,
};

use super::Attached;
use super::devices::Device;
use crate::case::ProgramPlace;
use crate::host::netlink::{More, NetlinkError};
use crate::host::visit::Visit;

/// `TC_H_CLSACT` with `TC_H_MIN_INGRESS` and `TC_H_MIN_EGRESS` of include/uapi/linux/pkt_sched.h:
/// where `clsact` has its filters. The older `ingress` discipline answers to the first.
const WAYS: [(u32, bool); 2] = [(0xffff_fff2, true), (0xffff_fff3, false)];

/// Filters of one device that are listed at most.
const MOST_FILTERS: usize = 64;

/// `TCA_GACT_PARMS` and the place of the verdict in its `struct tc_gact`.
const GACT_PARAMETERS: u16 = 2;
const GACT_VERDICT: std::ops::Range<usize> = 8..12;
/// `TC_ACT_SHOT`.
const SHOT: i32 = 2;

/// The filters of a device. One that is no program has no id and is described.
pub(super) fn filters(visit: &mut Visit, device: &Device) -> Result<Vec<Attached>, NetlinkError> {
    let mut found: Vec<Attached> = Vec::new();
    let netns = visit.netns;
    for (parent, ingress) in WAYS {
        let mut request = TcMessage::with_index(device.index as i32);
        request.header.parent = TcHandle::from(parent);
        let request = RouteNetlinkMessage::GetTrafficFilter(request);
        visit.route.dump(request, |message| {
            if let RouteNetlinkMessage::NewTrafficFilter(filter) = message
                && let Some((id, name)) = filter_of(&filter)
            {
                let attached = Attached {
                    id,
                    name: Some(name),
                    place: ProgramPlace::TrafficControl {
                        netns,
                        device: device.name.clone(),
                        ingress,
                    },
                };
                // A filter of u32 comes with the tables that it hangs in.
                if found.last() != Some(&attached) {
                    found.push(attached);
                }
            }
            if found.len() < MOST_FILTERS {
                More::Yes
            } else {
                More::No
            }
        })?;
    }
    Ok(found)
}

/// A classifier announces itself once for its chain and once for each of its filters: only these
/// have options.
fn filter_of(message: &TcMessage) -> Option<(Option<u32>, String)> {
    let kind = message.attributes.iter().find_map(|it| match it {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    })?;
    let options = message.attributes.iter().find_map(|it| match it {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    if kind == TcFilterBpf::KIND {
        return program(options);
    }
    let actions: Vec<String> = options
        .iter()
        .filter_map(actions)
        .flatten()
        .filter_map(action)
        .collect();
    let words = match actions.is_empty() {
        true => format!("{kind} filter"),
        false => format!("{kind} filter with action {}", actions.join(", ")),
    };
    Some((None, words))
}

fn program(options: &[TcOption]) -> Option<(Option<u32>, String)> {
    let mut id = None;
    let mut name = String::new();
    for option in options {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(given)) => id = Some(*given),
            TcOption::Bpf(TcFilterBpfOption::ProgName(given)) => name.clone_from(given),
            _ => {}
        }
    }
    // Without an id it is a program of the old kind, made of instructions of classic BPF.
    (id.is_some() || !name.is_empty()).then_some((id, name))
}

fn actions(option: &TcOption) -> Option<&Vec<TcAction>> {
    match option {
        TcOption::MatchAll(TcFilterMatchAllOption::Action(actions))
        | TcOption::U32(TcFilterU32Option::Action(actions))
        | TcOption::Flower(TcFilterFlowerOption::Actions(actions)) => Some(actions),
        _ => None,
    }
}

/// The kind of an action as `tc` calls it, and for the generic one whether it drops.
fn action(action: &TcAction) -> Option<String> {
    let kind = action.attributes.iter().find_map(|it| match it {
        TcActionAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    })?;
    let drops = action.attributes.iter().any(|it| match it {
        TcActionAttribute::Options(options) => options.iter().any(drops),
        _ => false,
    });
    Some(if kind == "gact" && drops {
        "drop".to_owned()
    } else {
        kind
    })
}

fn drops(option: &TcActionOption) -> bool {
    let TcActionOption::Other(parameters) = option else {
        return false;
    };
    if parameters.kind() != GACT_PARAMETERS {
        return false;
    }
    let mut bytes = vec![0; parameters.value_len()];
    parameters.emit_value(&mut bytes);
    bytes
        .get(GACT_VERDICT)
        .and_then(|verdict| verdict.try_into().ok())
        .is_some_and(|verdict| i32::from_ne_bytes(verdict) == SHOT)
}
