//! Where the three families keep what in their structures, of 64-bit kernels.

use crate::case::{FilterFamily, Hook};
use crate::firewall::ruleset::ChainKind;

/// One family's structures (`include/uapi/linux/netfilter_ipv4/ip_tables.h`, `ip6_tables.h`,
/// `netfilter_arp/arp_tables.h`).
#[derive(Debug)]
pub struct Layout {
    pub family: FilterFamily,
    /// The file below `/proc/net` that lists the tables.
    pub names: &'static str,
    /// Address family of the socket.
    pub domain: libc::c_int,
    pub level: libc::c_int,
    /// `IPT_SO_GET_INFO`; `IPT_SO_GET_ENTRIES` is the next.
    pub get_info: libc::c_int,
    /// Hooks by number, with the names of their chains.
    pub hooks: &'static [(Hook, &'static str)],
    /// Bytes of an entry before its matches.
    pub size: usize,
    /// Offset of `target_offset`, with `next_offset` two bytes on.
    pub offsets: usize,
    /// Offset of the packet counter.
    pub packets: usize,
    /// Offset of the flag byte, and the bit in it that makes a jump a goto.
    pub goto: Option<(usize, u8)>,
}

/// `enum nf_inet_hooks`.
const INET_HOOKS: &[(Hook, &str)] = &[
    (Hook::Prerouting, "PREROUTING"),
    (Hook::Input, "INPUT"),
    (Hook::Forward, "FORWARD"),
    (Hook::Output, "OUTPUT"),
    (Hook::Postrouting, "POSTROUTING"),
];

/// `NF_ARP_IN`, `NF_ARP_OUT`, `NF_ARP_FORWARD`.
const ARP_HOOKS: &[(Hook, &str)] = &[
    (Hook::Input, "INPUT"),
    (Hook::Output, "OUTPUT"),
    (Hook::Forward, "FORWARD"),
];

pub const IP: Layout = Layout {
    family: FilterFamily::Ip,
    names: "ip_tables_names",
    domain: libc::AF_INET,
    level: libc::SOL_IP,
    get_info: 64,
    hooks: INET_HOOKS,
    size: 112,
    offsets: 88,
    packets: 96,
    goto: Some((82, 0x02)),
};

pub const IP6: Layout = Layout {
    family: FilterFamily::Ip6,
    names: "ip6_tables_names",
    domain: libc::AF_INET6,
    level: libc::SOL_IPV6,
    get_info: 64,
    hooks: INET_HOOKS,
    size: 168,
    offsets: 140,
    packets: 152,
    goto: Some((131, 0x04)),
};

pub const ARP: Layout = Layout {
    family: FilterFamily::Arp,
    names: "arp_tables_names",
    domain: libc::AF_INET,
    level: libc::SOL_IP,
    get_info: 96,
    hooks: ARP_HOOKS,
    size: 192,
    offsets: 164,
    packets: 176,
    goto: None,
};

/// The priority of a table at a hook and the kind of its chains there (`iptable_raw.c`,
/// `iptable_mangle.c`, `iptable_nat.c`, `iptable_filter.c`, `iptable_security.c`).
pub fn place(table: &str, hook: Hook) -> Option<(i32, ChainKind)> {
    let source = matches!(hook, Hook::Input | Hook::Postrouting);
    match table {
        "raw" => Some((-300, ChainKind::Filter)),
        // `ipt_mangle_out` looks the route up again.
        "mangle" if hook == Hook::Output => Some((-150, ChainKind::Route)),
        "mangle" => Some((-150, ChainKind::Filter)),
        "nat" => Some((if source { 100 } else { -100 }, ChainKind::Nat)),
        "filter" => Some((0, ChainKind::Filter)),
        "security" => Some((50, ChainKind::Filter)),
        _ => None,
    }
}
