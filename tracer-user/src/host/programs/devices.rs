//! Programs of the devices of a network namespace: XDP, tcx, netkit, and filters of tc.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};

use super::attachments::{self, AttachType};
use super::{Attached, Found, traffic_control};
use crate::case::{Netns, ProgramPlace};
use crate::host::netlink::{More, NetlinkError};
use crate::host::netns::{Namespace, within};
use crate::host::visit::Visit;

/// Devices that are looked at, of one namespace: a host of containers has thousands.
const MOST_DEVICES: usize = 256;

/// `BPF_TCX_INGRESS` and the like, and whether it is the way in. The peer of a netkit pair sends
/// what its namespace sends.
const CHAINS: [(AttachType, bool); 4] = [
    (kind(46, "tcx_ingress"), true),
    (kind(47, "tcx_egress"), false),
    (kind(54, "netkit_primary"), false),
    (kind(55, "netkit_peer"), false),
];

const fn kind(number: u32, name: &'static str) -> AttachType {
    AttachType { number, name }
}

/// What is attached to the devices of the namespace.
pub fn of_namespace(namespace: &Namespace) -> Found {
    // Devices are queried by their index in the caller's namespace (`tcx_prog_query`).
    let searched = within(namespace, || {
        Visit::here(namespace.inode)
            .map_err(|error| error.to_string())
            .and_then(|mut visit| search(&mut visit).map_err(|error| error.to_string()))
    });
    match searched {
        Ok(Ok((places, unread))) => Found::new(places, unread),
        Ok(Err(error)) => unreadable(namespace.inode, &error),
        Err(error) => unreadable(namespace.inode, &error.to_string()),
    }
}

fn unreadable(netns: Netns, error: &str) -> Found {
    Found {
        programs: Vec::new(),
        unread: vec![format!("programs of network namespace {netns}: {error}")],
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub index: u32,
    pub name: String,
}

fn search(visit: &mut Visit) -> Result<(Vec<Attached>, Vec<String>), NetlinkError> {
    let mut unread = Vec::new();
    let mut links = Vec::new();
    let mut beyond = 0;
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    visit.route.dump(request, |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            if links.len() < MOST_DEVICES {
                links.push(link);
            } else {
                beyond += 1;
            }
        }
        More::Yes
    })?;
    if beyond > 0 {
        unread.push(format!(
            "programs of {beyond} further devices of network namespace {}",
            visit.netns
        ));
    }
    let mut places = Vec::new();
    for link in &links {
        let Some(device) = device(link) else {
            continue;
        };
        places.extend(xdp(visit.netns, link, &device));
        places.extend(chains(visit.netns, &device));
        match traffic_control::filters(visit, &device) {
            Ok(filters) => places.extend(filters),
            Err(error) => unread.push(format!("tc filters of {}: {error}", device.name)),
        }
    }
    Ok((places, unread))
}

fn device(link: &LinkMessage) -> Option<Device> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(Device {
                index: link.header.index,
                name: name.clone(),
            }),
            _ => None,
        })
}

/// With several modes at once each has its own attribute; the id alone goes with the one mode.
fn xdp(netns: Netns, link: &LinkMessage, device: &Device) -> Vec<Attached> {
    link.attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(parts) => Some(parts),
            _ => None,
        })
        .flatten()
        .filter_map(|part| match part {
            LinkXdp::SkbProgId(id) => Some((*id, "generic")),
            LinkXdp::DrvProgId(id) => Some((*id, "native")),
            LinkXdp::HwProgId(id) => Some((*id, "offloaded")),
            _ => None,
        })
        .map(|(id, mode)| Attached {
            id: Some(id),
            name: None,
            place: ProgramPlace::Xdp {
                netns,
                device: device.name.clone(),
                mode: mode.to_owned(),
            },
        })
        .collect()
}

/// A kernel without tcx, or a device that is no netkit, refuses the question: there is no such
/// program then.
fn chains(netns: Netns, device: &Device) -> Vec<Attached> {
    CHAINS
        .iter()
        .flat_map(|(kind, ingress)| {
            let ids = attachments::at_device(device.index, *kind).unwrap_or_default();
            ids.into_iter().map(|id| (id, *ingress))
        })
        .map(|(id, ingress)| Attached {
            id: Some(id),
            name: None,
            place: ProgramPlace::TrafficControl {
                netns,
                device: device.name.clone(),
                ingress,
            },
        })
        .collect()
}
