//! What owns a reason for which the kernel drops packets, and what helps against it.

use super::Dropped;
use crate::case::{AttachedProgram, Case, ProgramPlace};
use crate::diagnose::coverage::{Observation, is_unavailable};
use crate::diagnose::finding::Finding;
use crate::diagnose::{addresses, programs, wording};

/// Who ate the packet.
#[derive(Debug)]
pub(super) struct Eater<'a> {
    /// For the summary.
    pub words: String,
    /// Null where no program is among the suspects.
    programs: Option<Vec<&'a AttachedProgram>>,
    because: Vec<String>,
    /// Commands for the namespace of the drop, and advice.
    remedies: Vec<String>,
}

impl<'a> Eater<'a> {
    pub fn of(case: &'a Case, dropped: &Dropped<'_>) -> Self {
        let netns = dropped.netns;
        let own = |command: &str| wording::in_namespace(case, netns, command);
        let net_list = || vec![own("bpftool net list")];
        if let Some(found) = xdp(case, dropped) {
            return Self::program("an XDP program", found, net_list());
        }
        match dropped.reason {
            "TC_INGRESS" => Self::program(
                "a tc program or filter on its way in",
                of_device(
                    case,
                    dropped,
                    programs::of_traffic_control(case, netns, true),
                ),
                net_list(),
            ),
            "TC_EGRESS" => Self::program(
                "a tc program or filter on its way out",
                of_device(
                    case,
                    dropped,
                    programs::of_traffic_control(case, netns, false),
                ),
                net_list(),
            ),
            "BPF_CGROUP_EGRESS" => Self::program(
                "a cgroup BPF program on egress",
                programs::of_cgroups(case, &["cgroup_inet_egress"]),
                vec!["bpftool cgroup tree".to_owned()],
            ),
            "SOCKET_FILTER" => socket_filter(case, dropped),
            "NOT_SPECIFIED" if matches!(dropped.location, Some("tcp_v4_rcv" | "tcp_v6_rcv")) => {
                unread_by_socket(case, dropped)
            }
            _ => by_the_stack(case, dropped),
        }
    }

    fn program(words: &str, found: Vec<&'a AttachedProgram>, remedies: Vec<String>) -> Self {
        Self {
            words: match found[..] {
                [one] => format!("{words}, {}", programs::words(one)),
                _ => words.to_owned(),
            },
            programs: Some(found),
            because: Vec::new(),
            remedies,
        }
    }

    /// Adds what is known of the eater to a finding.
    pub fn explain(self, case: &Case, finding: Finding) -> Finding {
        let finding = self.because.into_iter().fold(finding, Finding::because);
        let finding = match &self.programs {
            Some(found) => programs::suspected(finding, case, found),
            None => finding,
        };
        self.remedies.into_iter().fold(finding, |finding, remedy| {
            let told = finding.fix.contains(&remedy);
            finding.when(!told, |finding| finding.fix(remedy))
        })
    }
}

/// The XDP programs that can have dropped it; null where none can. A driver that frees what a
/// program drops gives no reason, as veth does (`veth_xdp_rcv_skb`, inlined into `veth_poll`).
fn xdp<'a>(case: &'a Case, dropped: &Dropped<'_>) -> Option<Vec<&'a AttachedProgram>> {
    let on_device = |is_mode: fn(&str) -> bool| {
        of_device(
            case,
            dropped,
            programs::of_xdp(case, dropped.netns, is_mode),
        )
    };
    match dropped.location {
        Some("do_xdp_generic" | "netif_receive_generic_xdp") => {
            Some(on_device(|mode| mode == "generic"))
        }
        Some(place) if place.contains("xdp") => Some(on_device(|mode| mode != "generic")),
        _ if dropped.reason == "XDP" => Some(on_device(|_| true)),
        None | Some("veth_poll") if dropped.reason == "NOT_SPECIFIED" => {
            Some(on_device(|mode| mode != "generic")).filter(|found| !found.is_empty())
        }
        _ => None,
    }
}

/// Those on the device that the packet was on, where that is known.
fn of_device<'a>(
    case: &Case,
    dropped: &Dropped<'_>,
    mut found: Vec<&'a AttachedProgram>,
) -> Vec<&'a AttachedProgram> {
    if let Some(name) = device(case, dropped) {
        found.retain(|program| match &program.place {
            ProgramPlace::Xdp { device, .. } | ProgramPlace::TrafficControl { device, .. } => {
                *device == name
            }
            ProgramPlace::Cgroup { .. } | ProgramPlace::SecurityHook { .. } => true,
        });
    }
    found
}

/// `sk_filter_trim_cap` runs the socket's own filter and the programs of its cgroup, and gives one
/// reason for both.
fn socket_filter<'a>(case: &'a Case, dropped: &Dropped<'_>) -> Eater<'a> {
    let found = programs::of_cgroups(case, &["cgroup_inet_ingress"]);
    let port = dropped.segment.to.port();
    let filters =
        wording::in_namespace(case, dropped.netns, &format!("ss -ltneb 'sport = :{port}'"));
    let remedies = vec![filters, "bpftool cgroup tree".to_owned()];
    let receiver_is_known = dropped.answer
        || addresses::covering_listener(case, Some(dropped.netns))
            .is_some_and(|listener| !listener.owners.is_empty());
    if found.is_empty() && receiver_is_known {
        return Eater {
            words: "a filter of the socket itself (SO_ATTACH_FILTER or SO_ATTACH_BPF)".to_owned(),
            programs: None,
            because: vec![
                "no cgroup program on ingress was found for the receiving process".to_owned(),
            ],
            remedies,
        };
    }
    Eater::program(
        "a cgroup BPF program on ingress or a filter of the socket itself",
        found,
        remedies,
    )
}

/// Newer kernels give each check that a socket makes a reason of its own.
fn unread_by_socket<'a>(case: &'a Case, dropped: &Dropped<'_>) -> Eater<'a> {
    let port = dropped.segment.to.port();
    let own = |command: &str| wording::in_namespace(case, dropped.netns, command);
    let remedies = vec![
        "bpftool cgroup tree".to_owned(),
        own(&format!("ss -ltnebi 'sport = :{port}'")),
        own("nstat -az 'TcpExtTCPMD5*' TcpExtTCPMinTTLDrop TcpExtTCPBacklogDrop TcpInCsumErrors"),
    ];
    let found = programs::of_cgroups(case, &["cgroup_inet_ingress"]);
    if !found.is_empty() {
        return Eater::program("a cgroup BPF program on ingress", found, remedies);
    }
    Eater {
        words: "a check of the receiving socket: it asks for TCP MD5 signatures (TCP_MD5SIG) or a time to live (IP_MINTTL) that the packet lacks, has a filter (SO_ATTACH_FILTER), is full, or an IPsec policy or the checksum forbids".to_owned(),
        programs: None,
        because: vec!["no cgroup program on ingress was found for the receiving process".to_owned()],
        remedies,
    }
}

/// The reason, where it speaks of a source and the place alone gave it: an address of the namespace
/// itself is refused before reverse paths are looked at (`__fib_validate_source`).
fn reason_of<'d>(case: &Case, dropped: &Dropped<'d>) -> &'d str {
    let unrouted = dropped
        .location
        .is_some_and(|place| place.starts_with("ip_rcv_finish") || place == "ip_sublist_rcv");
    let by_place = dropped.reason == "NOT_SPECIFIED"
        || is_unavailable(&case.coverage, Observation::DropReason);
    if !(unrouted && by_place) {
        return dropped.reason;
    }
    let from = dropped.segment.from.ip().to_canonical();
    if from.is_loopback() {
        "IP_LOCALNET"
    } else if from.is_multicast() || from.is_unspecified() {
        "IP_INVALID_SOURCE"
    } else if case.host.sources_at_home.contains(&dropped.netns) {
        "IP_LOCAL_SOURCE"
    } else {
        dropped.reason
    }
}

/// What the network stack itself drops.
fn by_the_stack<'a>(case: &'a Case, dropped: &Dropped<'_>) -> Eater<'a> {
    let device = device(case, dropped);
    let named = device
        .as_deref()
        .map_or("<device>".to_owned(), wording::shell_word);
    let (from, to) = (dropped.segment.from.ip(), dropped.segment.to.ip());
    let port = dropped.segment.to.port();
    let came = device
        .as_ref()
        .map(|device| format!("the packet came in by {device}"));
    let (words, commands): (String, Vec<String>) = match reason_of(case, dropped) {
        "IP_RPFILTER" => (
            format!("reverse path filtering: the answer to its source {from} would leave by another device"),
            vec![
                format!("ip route get {from}"),
                format!("sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.{named}.rp_filter"),
                format!("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{named}.rp_filter=2  # loose; 0 turns it off"),
            ],
        ),
        "IP_LOCAL_SOURCE" => (
            format!("a martian: its source {from} is an address of this namespace itself, and it came from outside"),
            vec![
                format!("ip route get {from}"),
                format!("sysctl -w net.ipv4.conf.{named}.accept_local=1"),
            ],
        ),
        "IP_INVALID_SOURCE" => (
            format!("a martian: {from} can be nobody's source address"),
            vec![format!("ip route get {to} from {from} iif {named}")],
        ),
        "IP_LOCALNET" => (
            "a martian: an address of 127.0.0.0/8 came by a device that is not loopback".to_owned(),
            vec![format!("sysctl -w net.ipv4.conf.{named}.route_localnet=1")],
        ),
        "IP_INVALID_DEST" => (
            format!("a martian: {to} can be nobody's destination address"),
            vec![format!("ip route get {to} from {from} iif {named}")],
        ),
        reason if reason.starts_with("TCP_MD5") => (
            md5(reason).to_owned(),
            vec![format!("ss -ltni 'sport = :{port}'"), format!("nstat -az 'TcpExtTCPMD5*'")],
        ),
        reason if reason.starts_with("TCP_AO") || reason == "TCP_AUTH_HDR" => (
            "the TCP authentication option is missing, unexpected or wrong: nginx sends none, so the listener must not ask for one".to_owned(),
            vec![format!("ss -ltni 'sport = :{port}'"), "nstat -az 'TcpExtTCPAO*'".to_owned()],
        ),
        reason if reason.ends_with("CSUM") => (
            "its checksum was wrong".to_owned(),
            vec![format!("ethtool -k {named} | grep checksum"), "nstat -az 'TcpInCsumErrors' 'IpExtInCsumErrors'".to_owned()],
        ),
        "QDISC_DROP" | "QDISC_OVERLIMIT" | "QDISC_CONGESTED" | "CAKE_FLOOD" | "FQ_BAND_LIMIT"
        | "FQ_HORIZON_LIMIT" | "FQ_FLOW_LIMIT" => (
            "a queueing discipline on its way out was full or told to drop".to_owned(),
            vec![format!("tc -s qdisc show dev {named}"), format!("tc -s class show dev {named}")],
        ),
        "FULL_RING" => ("the ring of a device was full".to_owned(), vec![format!("ip -s link show {named}"), format!("ethtool -g {named}")]),
        "CPU_BACKLOG" => (
            "the backlog of a processor was full".to_owned(),
            vec!["sysctl net.core.netdev_max_backlog".to_owned(), "cat /proc/net/softnet_stat".to_owned()],
        ),
        "SOCKET_BACKLOG" | "SOCKET_RCVBUFF" | "PROTO_MEM" => (
            "the socket, or TCP's memory, was full".to_owned(),
            vec![format!("ss -ltnm 'sport = :{port}'"), "sysctl net.ipv4.tcp_mem".to_owned()],
        ),
        "IP_INADDRERRORS" | "IP_INNOROUTES" | "IP_OUTNOROUTES" => (
            "the namespace has no way for it".to_owned(),
            vec!["sysctl net.ipv4.ip_forward".to_owned(), format!("ip route get {to} from {from} iif {named}")],
        ),
        "IPV6DISABLED" => (
            "IPv6 is turned off there".to_owned(),
            vec!["sysctl net.ipv6.conf.all.disable_ipv6".to_owned(), format!("sysctl net.ipv6.conf.{named}.disable_ipv6")],
        ),
        "XFRM_POLICY" => (
            "an IPsec policy asks for encryption that the packet does not have".to_owned(),
            vec!["ip xfrm policy".to_owned(), "ip xfrm state".to_owned()],
        ),
        "SECURITY_HOOK" => (
            "a security module".to_owned(),
            vec!["ausearch -m avc -ts recent".to_owned(), "journalctl -k | grep -i denied".to_owned()],
        ),
        "OTHERHOST" => (
            "its link-layer address is not that of the device".to_owned(),
            vec![format!("ip link show {named}"), format!("ip neigh show {to}")],
        ),
        "TCP_MINTTL" => (
            "its time to live is below what the listener asks for (IP_MINTTL)".to_owned(),
            vec![format!("ss -ltne 'sport = :{port}'")],
        ),
        "NOT_SPECIFIED" => ("the kernel gives no reason, the place tells".to_owned(), Vec::new()),
        _ => ("the reason is the kernel's own word".to_owned(), Vec::new()),
    };
    let remedies = commands
        .iter()
        .map(|command| wording::in_namespace(case, dropped.netns, command))
        .collect();
    Eater {
        words,
        programs: None,
        because: came.into_iter().collect(),
        remedies,
    }
}

fn md5(reason: &str) -> &'static str {
    match reason {
        "TCP_MD5NOTFOUND" => {
            "the listener asks for a TCP MD5 signature (TCP_MD5SIG) of this peer, and nginx sends none"
        }
        "TCP_MD5UNEXPECTED" => {
            "it carries a TCP MD5 signature, and the receiving socket has no key for this peer"
        }
        _ => "its TCP MD5 signature is wrong",
    }
}

/// The device that the packet was on.
fn device(case: &Case, dropped: &Dropped<'_>) -> Option<String> {
    let circumstances = dropped.circumstances?;
    case.host
        .devices
        .iter()
        .find(|device| device.netns == dropped.netns && device.index == circumstances.device)
        .map(|device| device.name.clone())
}
