//! Any state of the host.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::connection::any_peer;
use super::facts::{any_address, any_errno, any_netns, any_time};
use super::filters::any_filtering;
use crate::case::*;
use crate::diagnose::example;

pub(super) fn any_host() -> BoxedStrategy<HostFacts> {
    let ended =
        (any_listener(), any_time(), any_death()).prop_map(|(listener, at, death)| EndedListener {
            listener,
            at,
            death,
        });
    let bound = (any_address(), any_netns(), vec(any_process(), 0..2)).prop_map(
        |(address, netns, owners)| BoundSocket {
            address,
            netns,
            owners,
        },
    );
    let ports =
        (any::<u16>(), any::<u16>(), any::<u32>()).prop_map(|(first, last, count)| LocalPorts {
            first,
            last,
            by_state: vec![("TIME_WAIT".to_owned(), count)],
            holders: Vec::new(),
        });
    let neighbour = prop::sample::select(vec!["incomplete", "failed", "reachable"])
        .prop_map(|state| example::neighbour("10.99.1.2", state));
    let lists = (
        (vec(any_netns(), 0..3), of(any_netns()), of(any_netns())),
        vec(any_listener(), 0..4),
        vec(ended, 0..2),
        vec(bound, 0..2),
        of(any_route()),
        of(neighbour),
        of(ports),
    );
    (
        lists,
        (any::<bool>(), any::<bool>(), any::<bool>()),
        of(any::<bool>()),
        of((any::<u64>(), any::<u64>())),
        vec(any_program(), 0..3),
        vec(any_filtering(), 0..3),
        of(any_peer()),
        of(any_names()),
    )
        .prop_map(
            |(
                ((owners, far_end, tool_netns), listeners, ended, bound, route, neighbour, ports),
                (udp_on_port, bound_unlisted, end_lost),
                seccomp_filter,
                descriptors,
                programs,
                filterings,
                peer,
                names,
            )| HostFacts {
                owners,
                far_end,
                tool_netns,
                entrances: Vec::new(),
                listeners,
                ended,
                end_lost,
                bound,
                bound_unlisted,
                udp_on_port,
                route,
                neighbour,
                filterings,
                iptables: None,
                tracked_to: None,
                policies: None,
                waiting: Vec::new(),
                programs,
                devices: Vec::new(),
                sources_at_home: far_end.into_iter().collect(),
                unix: None,
                peer,
                ports,
                seccomp_filter,
                descriptors: descriptors.map(|(limit, open)| Descriptors { limit, open }),
                ports_spoken_for: Vec::new(),
                names,
                unread: Vec::new(),
            },
        )
        .boxed()
}

fn any_names() -> BoxedStrategy<Names> {
    let source = prop_oneof![
        of(any::<bool>()).prop_map(|changed| NameSource::Hosts { changed }),
        (any_address(), any::<bool>())
            .prop_map(|(server, steady)| NameSource::Dns { server, steady }),
    ];
    let resolved = (
        vec(any_address(), 0..3),
        source,
        any_time(),
        vec("[a-z]{3}", 0..2),
    )
        .prop_map(|(addresses, source, at, passed_over)| Resolved {
            addresses: addresses.iter().map(|address| address.ip()).collect(),
            source,
            at,
            passed_over,
        });
    let now = prop_oneof![
        resolved.prop_map(Resolution::Resolved),
        "[a-z ]{0,8}".prop_map(Resolution::Unresolved),
    ];
    let name = ("[a-z.]{0,8}", of("[a-z]{1,4}"), any::<bool>(), now).prop_map(
        |(host, upstream, had_it, now)| ConfiguredName {
            host,
            upstream,
            places: vec!["/etc/nginx/nginx.conf:3".to_owned()],
            had_it,
            now,
        },
    );
    (
        vec(name, 0..3),
        vec("[a-z]{1,4}", 0..2),
        any::<bool>(),
        of(any::<bool>()),
    )
        .prop_map(
            |(at_start, at_work, open_ended, configuration_changed)| Names {
                at_start,
                at_work,
                open_ended,
                configuration_changed,
            },
        )
        .boxed()
}

fn any_program() -> BoxedStrategy<AttachedProgram> {
    let place = prop_oneof![
        (any_netns(), "(generic|native)").prop_map(|(netns, mode)| ProgramPlace::Xdp {
            netns,
            device: "eth0".to_owned(),
            mode,
        }),
        (any_netns(), any::<bool>()).prop_map(|(netns, ingress)| ProgramPlace::TrafficControl {
            netns,
            device: "eth0".to_owned(),
            ingress,
        }),
        "cgroup_inet(_ingress|_egress|4_connect)".prop_map(|attach_type| ProgramPlace::Cgroup {
            cgroup: "/system.slice".to_owned(),
            attach_type,
        }),
    ];
    (any::<u32>(), "\\PC{0,15}", place)
        .prop_map(|(id, name, place)| AttachedProgram { id, name, place })
        .boxed()
}

pub(super) fn any_listener() -> BoxedStrategy<Listener> {
    let queue =
        of((any::<u32>(), any::<u32>()).prop_map(|(length, limit)| Queue { length, limit }));
    (
        any_address(),
        any::<bool>(),
        of("\\PC{0,4}"),
        any_netns(),
        queue,
        of(any_time()),
        vec(any_process(), 0..2),
    )
        .prop_map(
            |(address, v6only, device, netns, queue, since, owners)| Listener {
                address,
                v6only,
                device,
                netns,
                queue,
                since,
                owners,
            },
        )
        .boxed()
}

pub(super) fn any_process() -> BoxedStrategy<Process> {
    (
        any::<u32>(),
        "(python3|sshd|\\PC{0,6})",
        of("\\PC{0,8}"),
        of("\\PC{0,8}"),
        any::<bool>(),
    )
        .prop_map(|(pid, comm, unit, container, nginx)| Process {
            pid,
            comm,
            exe: container.clone(),
            unit,
            container,
            nginx,
        })
        .boxed()
}

pub(super) fn any_death() -> impl Strategy<Value = Death> {
    prop_oneof![
        Just(Death::Closed),
        any::<i32>().prop_map(|status| Death::Exited { status }),
        (any::<i32>(), any::<bool>()).prop_map(|(signal, core)| Death::Killed {
            signal,
            core,
            sender: None
        }),
        Just(Death::OomKilled),
    ]
}

pub(super) fn any_route() -> BoxedStrategy<Route> {
    let kind = prop::sample::select(vec![
        "unicast",
        "local",
        "broadcast",
        "unreachable",
        "prohibit",
        "?",
    ]);
    (
        of(any_errno()),
        of(kind),
        of(any::<bool>()),
        of("\\PC{0,12}"),
        any::<bool>(),
    )
        .prop_map(|(error, kind, link_up, line, by_rule)| Route {
            link_up,
            by_rule,
            device: line.clone(),
            ..example::route(error, kind.unwrap_or_default(), line.as_deref())
        })
        .boxed()
}
