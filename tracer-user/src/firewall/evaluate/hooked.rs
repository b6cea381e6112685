//! Which base chains a packet meets at a hook, and in which order.

use crate::case::{FilterFamily as Family, Hook};
use crate::firewall::packet::{Packet, Side};
use crate::firewall::ruleset::{Base, Chain, ChainKind, Ruleset, Table};

/// `NF_IP_PRI_NAT_DST`.
pub const DESTINATION_NAT: i32 = -100;
/// `NF_IP_PRI_NAT_SRC`.
const SOURCE_NAT: i32 = 100;

/// A base chain at the hook.
#[derive(Debug, Clone, Copy)]
pub struct Hooked<'r> {
    pub table: &'r Table,
    pub chain: &'r Chain,
    pub base: &'r Base,
    /// At which the chain is run.
    pub priority: i32,
}

/// The families whose chains a packet meets at the hook; a bridge's own where it is `bridged`.
pub fn families(packet: &Packet, hook: Hook, bridged: bool) -> &'static [Family] {
    match hook {
        _ if bridged => &[Family::Bridge],
        // Ingress chains of the family `inet` let pass what is not IP
        // (`nft_do_chain_inet_ingress`).
        Hook::Ingress | Hook::Egress if packet.kind.is_arp() => &[Family::Netdev],
        _ if packet.kind.is_arp() => &[Family::Arp],
        Hook::Ingress => &[Family::Netdev, Family::Inet],
        Hook::Egress => &[Family::Netdev],
        _ if packet.to.is_ipv4() => &[Family::Ip, Family::Inet],
        _ => &[Family::Ip6, Family::Inet],
    }
}

/// Chains in the order of their priorities, those of the same priority together and in the order
/// in which they were read.
pub fn groups<'r>(
    ruleset: &'r Ruleset,
    packet: &Packet,
    hook: Hook,
    families: &[Family],
) -> Vec<Vec<Hooked<'r>>> {
    let tables = ruleset.tables.iter();
    let mut hooked: Vec<Hooked<'r>> = tables
        .filter(|table| !table.dormant && families.contains(&table.family))
        .flat_map(|table| {
            let chains = table.chains.iter();
            chains.filter_map(move |chain| Some((table, chain, chain.base.as_ref()?)))
        })
        .filter(|(_, _, base)| base.hook == hook && on_device(base, packet))
        .map(|(table, chain, base)| Hooked {
            table,
            chain,
            base,
            priority: priority(base),
        })
        .collect();
    hooked.sort_by_key(order);
    hooked
        .chunk_by(|one, other| order(one) == order(other))
        .map(<[_]>::to_vec)
        .collect()
}

fn order(hooked: &Hooked) -> (i32, bool, i32) {
    let nat = hooked.base.kind == ChainKind::Nat;
    (
        hooked.priority,
        nat,
        if nat { hooked.base.priority } else { 0 },
    )
}

/// Chains of the kind nat are called by the hook of address translation, whose priority is fixed;
/// their own only orders them among themselves (`nf_nat_register_fn`).
fn priority(base: &Base) -> i32 {
    match (base.kind, base.hook) {
        (ChainKind::Nat, Hook::Prerouting | Hook::Output) => DESTINATION_NAT,
        (ChainKind::Nat, _) => SOURCE_NAT,
        _ => base.priority,
    }
}

/// Chains at ingress and egress belong to interfaces; where the packet's is not known, all of
/// them count.
fn on_device(base: &Base, packet: &Packet) -> bool {
    let side = match base.hook {
        Hook::Ingress => &packet.input,
        Hook::Egress => &packet.output,
        _ => return true,
    };
    match side {
        Side::Device { name, .. } => base.devices.contains(name),
        Side::Unknown => true,
        Side::Absent => false,
    }
}
