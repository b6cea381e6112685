//! One event of each kind, and failures of several.

use whyrefused::event::{
    End, Event, Loss, Lost, NginxInstance, ProbeReport, Recovery, RefusedCandidate, SCHEMA,
    Session, Upstream,
};
use whyrefused::verdict::Code;

use crate::cases;

const TIME: &str = "2026-11-22T06:10:00.123456789Z";

/// Every event, with the name of its snapshot.
pub fn all() -> Vec<(&'static str, Event)> {
    let failure = |failure| Event::Failure(Box::new(failure));
    vec![
        ("session", session()),
        ("killed", failure(cases::killed())),
        ("wrong_port", failure(cases::wrong_port())),
        ("rejected", failure(cases::rejected())),
        ("no_answer", failure(cases::no_answer())),
        ("fd_limit", failure(cases::fd_limit())),
        ("hostile", failure(cases::hostile())),
        ("recovery", recovery()),
        ("loss", loss()),
        ("end", end()),
    ]
}

pub fn probes() -> Vec<ProbeReport> {
    let refused = |candidate: &str| RefusedCandidate {
        candidate: candidate.into(),
        reason: "operation not permitted".into(),
    };
    vec![
        ProbeReport {
            observation: "socket-state".into(),
            via: Some("raw_tracepoint:inet_sock_set_state".into()),
            unavailable: Vec::new(),
        },
        ProbeReport {
            observation: "icmpv6-sent".into(),
            via: None,
            unavailable: vec![refused("fentry:icmp6_send"), refused("kprobe:icmp6_send")],
        },
    ]
}

pub fn instances() -> Vec<NginxInstance> {
    let host = NginxInstance {
        master_pid: Some(4200),
        workers: vec![4242, 4243],
        exe: Some("/usr/sbin/nginx".into()),
        config: Some("/etc/nginx/nginx.conf".into()),
        netns: 4_026_531_840,
        container: None,
    };
    let contained = NginxInstance {
        master_pid: None,
        workers: vec![77],
        config: None,
        container: Some("3f2a91bc77de".into()),
        ..host.clone()
    };
    vec![host, contained]
}

fn session() -> Event {
    Event::Session(Session {
        schema: SCHEMA.into(),
        time: TIME.into(),
        host: "edge-3".into(),
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        probes: probes(),
        nginx: instances(),
        limits: vec!["ICMPv6 errors that this host sends are not seen".into()],
    })
}

fn recovery() -> Event {
    Event::Recovery(Recovery {
        schema: SCHEMA.into(),
        time: TIME.into(),
        host: "edge-3".into(),
        upstream: Upstream {
            address: Some("127.0.0.1:9101".into()),
            name: Some("backend".into()),
            server: None,
        },
        down_for_ms: 12_345,
        failures: 1,
    })
}

fn loss() -> Event {
    Event::Loss(Loss {
        schema: SCHEMA.into(),
        time: TIME.into(),
        host: "edge-3".into(),
        place: "ring buffer".into(),
        what: "records of the kernel that found no room".into(),
        count: 12,
    })
}

fn end() -> Event {
    Event::End(End {
        schema: SCHEMA.into(),
        time: TIME.into(),
        host: "edge-3".into(),
        verdicts: [(Code::NoListener, 3), (Code::ListenerKilled, 1200)].into(),
        upstreams: [("127.0.0.1:9101".into(), 1201), ("10.0.0.1:80".into(), 2)].into(),
        losses: vec![Lost {
            place: "ring buffer".into(),
            what: "records of the kernel that found no room".into(),
            count: 12,
        }],
    })
}
