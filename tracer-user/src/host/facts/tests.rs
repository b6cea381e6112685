use std::net::{TcpListener, UdpSocket};

use super::*;
use crate::case::Family;
use crate::host::testing::{Sandbox, root_or_skip};

fn attempt(dialled: &str, ending: Ending) -> Attempt {
    Attempt {
        family: Family::Ipv4,
        dialled: Some(Endpoint::Inet(dialled.parse().unwrap())),
        local: None,
        remote: None,
        bound: None,
        started: clock::monotonic(),
        ended: clock::monotonic(),
        ending,
        upstream_name: None,
        upstream_server: None,
        connect_timeout_ms: None,
    }
}

fn worker(pid: u32, netns: Netns) -> Worker {
    Worker {
        pid,
        master_pid: None,
        exe: None,
        config: None,
        netns,
        container: None,
        uid: Some(0),
    }
}

const REFUSED: Ending = Ending::SocketError {
    errno: libc::ECONNREFUSED,
};

#[test]
fn a_refused_loopback_dial_is_told_with_what_else_stands_there() {
    if !root_or_skip() {
        return;
    }
    let (own, other) = (Sandbox::new(), Sandbox::new());
    let (holder, _elsewhere) = (own.hold(), other.hold());
    let _held = own.run(|| {
        let near = TcpListener::bind("127.0.0.1:9102").unwrap();
        (near, UdpSocket::bind("127.0.0.1:9101").unwrap())
    });
    let _far = other.run(|| TcpListener::bind("127.0.0.1:9101").unwrap());
    let (mut host, _) = Host::read(Duration::from_secs(10)).unwrap();
    let worker = worker(holder.pid(), own.inode());
    let gathered = host.facts(&worker, &attempt("127.0.0.1:9101", REFUSED), None);
    assert!(gathered.unread.is_empty(), "{:?}", gathered.unread);
    let facts = gathered.facts;
    assert_eq!(facts.owners, [own.inode()]);
    let places: Vec<_> = facts
        .listeners
        .iter()
        .filter(|l| [own.inode(), other.inode()].contains(&l.netns))
        .map(|l| (l.netns, l.address.port()))
        .collect();
    assert_eq!(places, [(other.inode(), 9101), (own.inode(), 9102)]);
    assert!(facts.udp_on_port);
    assert_eq!(facts.route.unwrap().kind.as_deref(), Some("local"));
    assert_eq!(
        (facts.neighbour, facts.ports, facts.descriptors),
        (None, None, None)
    );
    assert_eq!(facts.seccomp_filter, Some(false));
    assert_eq!(facts.far_end, None);
    let of_this_process = Namespace::of_process(std::process::id()).unwrap();
    assert_eq!(facts.tool_netns, Some(of_this_process.inode));
}

#[test]
fn a_listener_that_came_since_the_snapshot_is_found_with_its_time() {
    if !root_or_skip() {
        return;
    }
    let own = Sandbox::new();
    let holder = own.hold();
    let (mut host, _) = Host::read(Duration::from_secs(10)).unwrap();
    let attempt = attempt("127.0.0.1:9101", REFUSED);
    let _late = own.run(|| TcpListener::bind("127.0.0.1:9101").unwrap());
    let worker = worker(holder.pid(), own.inode());
    let facts = host.facts(&worker, &attempt, None).facts;
    let late = facts.listeners.iter().find(|l| l.netns == own.inode());
    assert!(late.unwrap().since.unwrap() > attempt.ended);
}

#[test]
fn a_way_through_a_gateway_is_told_with_its_neighbour() {
    if !root_or_skip() {
        return;
    }
    let own = Sandbox::new();
    let holder = own.hold();
    own.ip("link add v0 type veth peer name v1");
    own.ip("link set v1 up");
    own.ip("link set v0 up");
    own.ip("addr add 10.9.0.1/24 dev v0");
    own.ip("route add default via 10.9.0.2");
    own.ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev v0");
    let (mut host, _) = Host::read(Duration::from_secs(10)).unwrap();
    let ending = Ending::ConnectFailed {
        errno: libc::EADDRNOTAVAIL,
        reached_syn_sent: true,
    };
    let worker = worker(holder.pid(), own.inode());
    let facts = host
        .facts(&worker, &attempt("192.0.2.1:80", ending), None)
        .facts;
    assert!(facts.owners.is_empty());
    let neighbour = facts.neighbour.unwrap();
    assert_eq!(neighbour.address, "10.9.0.2".parse::<IpAddr>().unwrap());
    assert_eq!(neighbour.state, "permanent");
    assert!(facts.ports.unwrap().first > 0);
}

#[test]
fn a_network_that_is_routed_to_this_host_is_its_own() {
    if !root_or_skip() {
        return;
    }
    let own = Sandbox::new();
    let holder = own.hold();
    own.ip("route add local 192.0.2.0/24 dev lo");
    let (mut host, _) = Host::read(Duration::from_secs(10)).unwrap();
    let worker = worker(holder.pid(), own.inode());
    let facts = host
        .facts(&worker, &attempt("192.0.2.9:80", REFUSED), None)
        .facts;
    assert_eq!(facts.owners, [own.inode()]);
    assert_eq!(host.device(own.inode(), 1).as_deref(), Some("lo"));
    assert_eq!(host.device(own.inode(), 0), None);
}

#[test]
fn the_routes_lead_to_the_namespace_that_the_neighbour_entry_means() {
    if !root_or_skip() {
        return;
    }
    let (own, far, stranger, lone) = (
        Sandbox::new(),
        Sandbox::new(),
        Sandbox::new(),
        Sandbox::new(),
    );
    let holders = [&own, &far, &stranger, &lone].map(Sandbox::hold);
    own.ip("link add v0 type veth peer name v1");
    own.ip(&format!("link set v1 netns {}", holders[1].pid()));
    own.ip("addr add 10.9.0.1/24 dev v0");
    own.ip("link set v0 up");
    far.ip("addr add 10.9.0.2/24 dev v1");
    far.ip("link set v1 up");
    stranger.ip("link add s0 type veth peer name s1");
    stranger.ip("link set s0 up");
    stranger.ip("addr add 10.9.0.2/24 dev s0");
    lone.ip("addr add 10.9.0.2/24 dev lo");
    let _ = own.run(|| {
        let target = "10.9.0.2:9101".parse().unwrap();
        std::net::TcpStream::connect_timeout(&target, Duration::from_secs(2))
    });
    let (mut host, _) = Host::read(Duration::from_secs(10)).unwrap();
    let worker = worker(holders[0].pid(), own.inode());
    let attempt = attempt("10.9.0.2:9101", REFUSED);
    let facts = host.facts(&worker, &attempt, None).facts;
    assert_eq!(facts.far_end, Some(far.inode()));
    // Others of this host may have the address as well.
    let owns = [&far, &stranger, &lone].map(|sandbox| facts.owners.contains(&sandbox.inode()));
    assert_eq!(owns, [true, true, false]);
    own.ip("link set v0 down");
    own.ip("link add v2 type veth peer name v3");
    own.ip("link set v3 up");
    own.ip("link set v2 up");
    own.ip("route add 10.9.0.2/32 dev v2");
    own.ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev v2");
    let facts = host.facts(&worker, &attempt, None).facts;
    assert_eq!(facts.far_end, None);
    assert!(facts.owners.contains(&far.inode()));
}

#[test]
fn the_way_is_followed_through_a_router_namespace() {
    if !root_or_skip() {
        return;
    }
    let (own, router, far) = (Sandbox::new(), Sandbox::new(), Sandbox::new());
    let holders = [&own, &router, &far].map(Sandbox::hold);
    router.ip("link add r0 type veth peer name v0");
    router.ip("link add r1 type veth peer name v1");
    router.ip(&format!("link set v0 netns {}", holders[0].pid()));
    router.ip(&format!("link set v1 netns {}", holders[2].pid()));
    for (sandbox, device, address) in [
        (&own, "v0", "10.9.0.1/24"),
        (&router, "r0", "10.9.0.2/24"),
        (&router, "r1", "10.9.1.1/24"),
        (&far, "v1", "10.9.1.2/24"),
    ] {
        sandbox.ip(&format!("addr add {address} dev {device}"));
        sandbox.ip(&format!("link set {device} up"));
    }
    own.ip("route add default via 10.9.0.2");
    far.ip("route add default via 10.9.1.1");
    router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    let _ = own.run(|| {
        let target = "10.9.1.2:9101".parse().unwrap();
        std::net::TcpStream::connect_timeout(&target, Duration::from_secs(2))
    });
    let (mut host, _) = Host::read(Duration::from_secs(10)).unwrap();
    let worker = worker(holders[0].pid(), own.inode());
    let attempt = attempt("10.9.1.2:9101", REFUSED);
    let facts = host.facts(&worker, &attempt, None).facts;
    assert!(facts.owners.contains(&far.inode()));
    assert_eq!(facts.far_end, Some(far.inode()));
    router.ip("route add blackhole 10.9.1.2/32");
    let facts = host.facts(&worker, &attempt, None).facts;
    assert_eq!(facts.far_end, None);
}

#[test]
fn a_vanished_namespace_and_worker_are_told_in_words() {
    let (mut host, _) = Host::read(Duration::ZERO).unwrap();
    let ending = Ending::SocketFailed {
        errno: libc::EMFILE,
    };
    let mut nowhere = attempt("127.0.0.1:80", ending);
    let gathered = host.facts(&worker(u32::MAX, 1), &nowhere, None);
    let words = gathered.unread.join("\n");
    assert!(
        words.contains("network namespace 1 is not known"),
        "{words}"
    );
    assert!(words.contains("descriptors: "), "{words}");
    nowhere.dialled = None;
    assert!(
        host.facts(&worker(u32::MAX, 1), &nowhere, None)
            .facts
            .owners
            .is_empty()
    );
}

#[test]
fn a_namespace_that_vanished_matters_where_the_attempt_was_seen_there() {
    if !root_or_skip() {
        return;
    }
    let (own, gone) = (Sandbox::new(), Sandbox::new());
    let (holder, of_gone) = (own.hold(), gone.hold());
    gone.ip("link add s0 type veth peer name s1");
    gone.ip("link set s1 up");
    gone.ip("link set s0 up");
    gone.ip("addr add 10.9.0.2/24 dev s0");
    let (mut host, _) = Host::read(Duration::from_secs(10)).unwrap();
    let netns = gone.inode();
    assert_eq!(
        host.owners("10.9.0.2".parse().unwrap(), own.inode()),
        [netns]
    );
    drop((of_gone, gone));
    let worker = worker(holder.pid(), own.inode());
    let attempt = attempt("10.9.0.2:9101", REFUSED);
    let gathered = host.facts(&worker, &attempt, None);
    assert_eq!(gathered.facts.owners, [netns]);
    assert!(gathered.unread.is_empty(), "{:?}", gathered.unread);
    let target = "10.9.0.2:9101".parse().unwrap();
    let gathered = host.facts(&worker, &attempt, Some((netns, target)));
    assert_eq!(
        gathered.unread,
        [format!("network namespace {netns} is gone")]
    );
}
