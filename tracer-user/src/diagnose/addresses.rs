//! Which address the SYN went to, and which listener takes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::case::{Case, Endpoint, Fact, Listener, Netns};
use crate::diagnose::evidence;

/// The address that nginx handed to `connect()`.
pub(super) fn dialled(case: &Case) -> Option<SocketAddr> {
    match case.attempt.dialled {
        Some(Endpoint::Inet(address)) => Some(address),
        _ => None,
    }
}

/// A listener in nginx's own namespace on the dialled address, past which a translation of the
/// destination sent the SYN.
pub(super) fn bypassed(case: &Case) -> Option<&Listener> {
    translated_to(case)?;
    let dialled = meant(dialled(case)?);
    case.host
        .listeners
        .iter()
        .filter(|listener| listener.netns == case.worker.netns)
        .find(|listener| covers(listener, dialled))
}

/// The address that the socket itself is connected to: what was dialled, unless a cgroup program
/// rewrote it.
pub(super) fn destination(case: &Case) -> Option<SocketAddr> {
    case.attempt.remote.or_else(|| dialled(case)).map(meant)
}

/// The real destination where it differs from the dialled address.
pub(super) fn translated_to(case: &Case) -> Option<SocketAddr> {
    let dialled = meant(dialled(case)?);
    case.timeline
        .iter()
        .rev()
        .filter_map(|observed| own_packet_target(&observed.fact))
        .chain(case.attempt.remote)
        .chain(case.host.tracked_to)
        .map(meant)
        .find(|target| *target != dialled)
}

/// Where the SYN went in the end, as far as the case knows.
pub(super) fn target(case: &Case) -> Option<SocketAddr> {
    translated_to(case).or_else(|| destination(case))
}

/// A cgroup program, not NAT, changed the destination: the socket itself knows the new one.
pub(super) fn rewritten_at_connect(case: &Case) -> bool {
    match (dialled(case), case.attempt.remote) {
        (Some(dialled), Some(remote)) => meant(dialled) != meant(remote),
        _ => false,
    }
}

/// Why a listener does not take connections to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    Port,
    Address,
    Family,
    /// It listens on `::` and takes no IPv4.
    V6Only,
}

/// Why the listener's address does not cover the target; null where it does. A bound device is
/// not looked at: by which device a SYN arrives is not part of a case.
pub(super) fn miss(listener: &Listener, target: SocketAddr) -> Option<Miss> {
    if listener.address.port() != target.port() {
        return Some(Miss::Port);
    }
    match (
        listener.address.ip().to_canonical(),
        target.ip().to_canonical(),
    ) {
        (IpAddr::V4(own), IpAddr::V4(wanted)) => {
            address_miss(own.is_unspecified() || own == wanted)
        }
        (IpAddr::V6(own), IpAddr::V6(wanted)) => {
            address_miss(own.is_unspecified() || own == wanted)
        }
        (IpAddr::V6(own), IpAddr::V4(_)) if own.is_unspecified() => {
            listener.v6only.then_some(Miss::V6Only)
        }
        _ => Some(Miss::Family),
    }
}

pub(super) fn covers(listener: &Listener, target: SocketAddr) -> bool {
    miss(listener, target).is_none()
}

/// Whether the target lies on this host, in any of its network namespaces.
pub(super) fn is_on_this_host(case: &Case) -> bool {
    let loopback = target(case).is_some_and(|address| is_loopback(address.ip()));
    loopback || stays(case) || owners(case).next().is_some()
}

/// The network namespaces in which the target's address is at home.
pub(super) fn homes(case: &Case) -> Vec<Netns> {
    let homes: Vec<Netns> = owners(case).collect();
    if homes.is_empty() && is_on_this_host(case) {
        vec![case.worker.netns]
    } else {
        homes
    }
}

/// Network namespaces that own the address, while nothing tells whether the SYN went to one of
/// them: private addresses repeat from one unconnected namespace to the next, and beyond the host.
/// Empty where the address has a home.
pub(super) fn namesakes(case: &Case) -> Vec<Netns> {
    if is_on_this_host(case) {
        Vec::new()
    } else {
        case.host.owners.clone()
    }
}

/// Whether `netns` owns the address, be the SYN bound for it or not.
pub(super) fn is_owned_in(case: &Case, netns: Netns) -> bool {
    case.host.owners.contains(&netns) || homes(case).contains(&netns)
}

/// Nothing leaves the namespace by a local route, and nobody is asked for a link-layer address.
pub(super) fn stays(case: &Case) -> bool {
    let route = case.host.route.as_ref();
    route.is_some_and(|route| route.kind.as_deref() == Some("local"))
}

/// Owners of the address that the SYN was bound for: nginx's own namespace, the one that its
/// routes lead to, and those in which a packet of the attempt was seen. What is translated on the
/// way may get an address that nginx's namespace has as well.
fn owners(case: &Case) -> impl Iterator<Item = Netns> {
    let own = stays(case) || translated_to(case).is_none();
    case.host.owners.iter().copied().filter(move |netns| {
        (own && *netns == case.worker.netns)
            || case.host.far_end == Some(*netns)
            || case
                .timeline
                .iter()
                .any(|observed| is_in(&observed.fact, *netns))
    })
}

fn is_in(fact: &Fact, place: Netns) -> bool {
    match fact {
        Fact::ResetSent { netns, .. }
        | Fact::Dropped { netns, .. }
        | Fact::IcmpSent { netns, .. } => *netns == place,
        Fact::PeerEnded(ended) => !ended.how.is_filtered() && ended.netns == place,
        _ => false,
    }
}

/// A listener that takes connections to the target in a namespace where a SYN may have arrived.
pub(super) fn covering_listener(case: &Case, arrived: Option<Netns>) -> Option<&Listener> {
    let target = target(case)?;
    let homes = homes(case);
    case.host
        .listeners
        .iter()
        .filter(|listener| covers(listener, target) && evidence::listened_then(case, listener))
        .find(|listener| Some(listener.netns) == arrived || homes.contains(&listener.netns))
}

/// Whether the nginx of this case holds the listener itself.
pub(super) fn is_own(case: &Case, listener: &Listener) -> bool {
    listener
        .owners
        .iter()
        .any(|owner| owner.pid == case.worker.pid || Some(owner.pid) == case.worker.master_pid)
}

pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn address_miss(covered: bool) -> Option<Miss> {
    (!covered).then_some(Miss::Address)
}

/// The address as the kernel takes it: an unspecified one means loopback (`tcp_v6_connect`,
/// `ip_route_output_key_hash`), a mapped one means IPv4.
fn meant(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn own_packet_target(fact: &Fact) -> Option<SocketAddr> {
    match fact {
        Fact::ResetSent { segment, .. } if !evidence::is_answer(*segment) => Some(segment.to),
        Fact::Dropped {
            segment,
            answer: false,
            ..
        }
        | Fact::IcmpSent { segment, .. } => Some(segment.to),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::*;
    use crate::diagnose::example::*;

    #[test]
    fn wildcards_cover_their_family_and_ipv6_both_unless_told_otherwise() {
        let v4 = address("10.0.0.1:80");
        let v6 = address("[2001:db8::1]:80");
        let mapped = address("[::ffff:10.0.0.1]:80");
        let four = listener("0.0.0.0:80", OWN, "app");
        let mut six = listener("[::]:80", OWN, "app");
        assert!(covers(&four, v4) && covers(&four, mapped) && covers(&six, v4) && covers(&six, v6));
        assert_eq!(miss(&four, v6), Some(Miss::Family));
        six.v6only = true;
        assert_eq!(miss(&six, v4), Some(Miss::V6Only));
        assert_eq!(miss(&six, address("[::1]:81")), Some(Miss::Port));
    }

    #[test]
    fn an_unspecified_address_means_loopback_and_is_no_translation() {
        let mut case = refused("127.0.0.1:9101", OWN);
        case.attempt.dialled = Some(Endpoint::Inet(address("0.0.0.0:9101")));
        assert_eq!(translated_to(&case), None);
        assert_eq!(target(&case), Some(address("127.0.0.1:9101")));
    }

    #[test]
    fn the_answered_segment_shows_where_nat_sent_the_syn() {
        let mut case = refused("10.99.1.2:80", OTHER);
        case.attempt.dialled = Some(Endpoint::Inet(address("127.0.0.1:8090")));
        case.attempt.remote = Some(address("127.0.0.1:8090"));
        assert_eq!(translated_to(&case), Some(address("10.99.1.2:80")));
        assert!(!rewritten_at_connect(&case));
    }
}
