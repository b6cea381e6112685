//! Which programs of other people a case asks for.

use std::collections::BTreeSet;

use crate::{
    case::{
        AttachedProgram, Attempt, Device, Ending, Endpoint, Fact, HostFacts, Netns, Observed,
        Worker,
    },
    correlate::Ended,
    host::{facts::Host, programs},
};

/// What is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Suspects {
    /// Namespaces whose devices may have a program that ate a packet.
    namespaces: BTreeSet<Netns>,
    /// The packet ended on a device that nobody told: ask the far end too.
    silent: bool,
    /// A program of nginx's own cgroup may have refused, rewritten or eaten.
    nginx: bool,
    /// One of the listener's cgroup.
    listener: bool,
}

impl Suspects {
    /// What the kernel's evidence points to; nothing for most failures.
    pub fn of(ended: &Ended, worker: &Worker) -> Self {
        let mut suspects = Self {
            nginx: is_refused_call(ended.attempt.ending) || is_rewritten(&ended.attempt),
            ..Self::default()
        };
        for seen in &ended.timeline {
            suspects.add(seen, worker.netns);
        }
        let dropped = ended
            .timeline
            .iter()
            .any(|seen| matches!(seen.fact, Fact::Dropped { .. }));
        if is_silence(ended.attempt.ending) && !dropped {
            suspects.silent = true;
            suspects.namespaces.insert(worker.netns);
        }
        suspects
    }

    fn add(&mut self, seen: &Observed, own: Netns) {
        match &seen.fact {
            Fact::Dropped {
                netns,
                reason,
                location,
                answer,
                ..
            } => match reason.as_str() {
                "BPF_CGROUP_EGRESS" if *answer => self.listener = true,
                "BPF_CGROUP_EGRESS" => self.nginx = true,
                reason if may_be_of_socket(reason, location.as_deref()) => {
                    self.nginx |= *answer;
                    self.listener |= !answer;
                }
                // A program sees what asks for the neighbour as well.
                reason if reason.starts_with("NEIGH_") => {
                    self.namespaces.insert(*netns);
                }
                reason if is_of_device(reason, location.as_deref()) => {
                    self.namespaces.insert(*netns);
                }
                _ => {}
            },
            // What a discipline or a program on the way out drops (`NET_XMIT_DROP`).
            Fact::Retransmitted { error: Some(1) } => {
                self.namespaces.insert(own);
            }
            _ => {}
        }
    }

    /// Reads them. What could not be read takes no certainty from a verdict: it says by itself
    /// where no program was found.
    pub fn read(&self, host: &Host, worker: &Worker, facts: &HostFacts) -> Vec<AttachedProgram> {
        let mut found = Vec::new();
        let far_end = facts.far_end.filter(|_| self.silent);
        for netns in self.namespaces.iter().copied().chain(far_end) {
            if let Some(namespace) = host.namespaces.get(netns) {
                found.push(programs::of_namespace(namespace));
            }
        }
        if self.nginx {
            found.push(programs::of_process(worker.pid));
            found.push(programs::at_connect());
        }
        if self.listener {
            let owners = facts.listeners.iter().flat_map(|it| it.owners.first());
            let pids: BTreeSet<u32> = owners.map(|owner| owner.pid).take(MOST_OWNERS).collect();
            found.extend(pids.into_iter().map(programs::of_process));
        }
        let mut listed: Vec<AttachedProgram> = Vec::new();
        for found in found {
            for unread in found.unread {
                log::debug!("{unread}");
            }
            for program in found.programs {
                if !listed.contains(&program) {
                    listed.push(program);
                }
            }
        }
        listed
    }
}

/// The names of the interfaces on which packets were dropped, where these explain something.
pub fn devices(host: &Host, timeline: &[Observed]) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    for seen in timeline {
        let Fact::Dropped {
            netns,
            reason,
            circumstances: Some(circumstances),
            ..
        } = &seen.fact
        else {
            continue;
        };
        let index = circumstances.device;
        let told = devices
            .iter()
            .any(|device| device.netns == *netns && device.index == index);
        if told || devices.len() >= MOST_DEVICES || is_of_no_device(reason) {
            continue;
        }
        devices.extend(host.device(*netns, index).map(|name| Device {
            netns: *netns,
            index,
            name,
        }));
    }
    devices
}

/// The namespaces that dropped a packet as one whose source has no place there, and that own it.
pub fn sources_at_home(host: &Host, timeline: &[Observed]) -> Vec<Netns> {
    let mut at_home: Vec<Netns> = Vec::new();
    for seen in timeline {
        if let Fact::Dropped {
            netns,
            reason,
            segment,
            ..
        } = &seen.fact
            && matches!(reason.as_str(), "NOT_SPECIFIED" | "IP_RPFILTER")
            && at_home.len() < MOST_DEVICES
            && !at_home.contains(netns)
            && host.owns(*netns, segment.from.ip())
        {
            at_home.push(*netns);
        }
    }
    at_home
}

/// Reasons that are explained without the device.
fn is_of_no_device(reason: &str) -> bool {
    matches!(reason, "NETFILTER_DROP" | "NO_SOCKET" | "TCP_RESET") || reason.starts_with("NEIGH_")
}

/// Devices that are named.
const MOST_DEVICES: usize = 4;
/// Listeners whose cgroups are looked into.
const MOST_OWNERS: usize = 16;

/// Reasons of XDP and tc. XDP frees packets without one, in the generic mode (`do_xdp_generic`)
/// and on a veth device (`veth_xdp_rcv_skb`).
fn is_of_device(reason: &str, location: Option<&str>) -> bool {
    matches!(
        reason,
        "XDP" | "TC_INGRESS" | "TC_EGRESS" | "TC_CLS_ERROR" | "TC_CHAIN_NOTFOUND" | "QDISC_DROP"
    ) || location.is_some_and(|place| place.contains("xdp"))
        || (reason == "NOT_SPECIFIED" && location.is_none_or(|place| place == "veth_poll"))
}

/// `sk_filter_trim_cap`, which a kernel without reasons does not tell from the other checks of a
/// socket.
fn may_be_of_socket(reason: &str, location: Option<&str>) -> bool {
    reason == "SOCKET_FILTER"
        || (reason == "NOT_SPECIFIED" && matches!(location, Some("tcp_v4_rcv" | "tcp_v6_rcv")))
}

/// Refused before a packet was made, as `BPF_CGROUP_INET4_CONNECT` and its kin do, by any error.
fn is_refused_call(ending: Ending) -> bool {
    match ending {
        Ending::ConnectFailed { errno, .. } => errno != libc::EADDRNOTAVAIL,
        Ending::BindFailed { errno } | Ending::SocketFailed { errno } => {
            [libc::EPERM, libc::EACCES].contains(&errno)
        }
        _ => false,
    }
}

fn is_rewritten(attempt: &Attempt) -> bool {
    let canonical = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
    match (&attempt.dialled, attempt.remote) {
        (Some(Endpoint::Inet(dialled)), Some(remote)) => {
            remote.port() != 0 && canonical(*dialled) != canonical(remote)
        }
        _ => false,
    }
}

fn is_silence(ending: Ending) -> bool {
    match ending {
        Ending::GaveUp => true,
        Ending::SocketError { errno } => errno == libc::ETIMEDOUT,
        _ => false,
    }
}
