//! What the demo breaks.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Nginx;
use whyrefused_tests::patience::SOON;

/// The two namespaces of the demo, joined by a cable.
pub struct Stage {
    /// Where nginx runs: 10.1.0.1.
    pub web: Namespace,
    /// A second host or container: 10.1.0.2.
    pub app: Namespace,
}

/// One way to break an upstream.
pub struct Situation {
    /// The name of the upstream block.
    pub name: &'static str,
    pub caption: &'static str,
    pub address: &'static str,
    /// Breaks it. What is returned is kept until the request has failed.
    pub prepare: fn(&mut Stage, &Nginx) -> Result<Vec<Backend>>,
}

pub const SITUATIONS: &[Situation] = &[
    Situation {
        name: "never-started",
        caption: "Nobody ever started the application.",
        address: "127.0.0.1:9101",
        prepare: |_, _| Ok(Vec::new()),
    },
    Situation {
        name: "typo",
        caption: "nginx dials port 8010, the application listens on 8001.",
        address: "127.0.0.1:8010",
        prepare: |stage, _| Ok(vec![Backend::listen(&stage.web, "127.0.0.1:8001")?]),
    },
    Situation {
        name: "ipv6-only",
        caption: "The application listens on [::]:9103, for IPv6 alone; nginx dials IPv4.",
        address: "127.0.0.1:9103",
        prepare: |stage, _| {
            Ok(vec![Backend::start(
                &stage.web,
                &["tcp", "[::]:9103", "--v6only"],
            )?])
        },
    },
    Situation {
        name: "killed",
        caption: "The application answered a moment ago, then somebody ran `kill -9`.",
        address: "127.0.0.1:9104",
        prepare: |stage, nginx| {
            let mut backend = Backend::listen(&stage.web, "127.0.0.1:9104")?;
            ensure!(
                nginx.get(&stage.web, "killed")?.status == 200,
                "it never answered"
            );
            backend.process().signal(Signal::SIGKILL)?;
            backend.process().wait(SOON)?;
            Ok(vec![backend])
        },
    },
    Situation {
        name: "crashed",
        caption: "The application answered a moment ago, then gave up with status 3.",
        address: "127.0.0.1:9105",
        prepare: |stage, nginx| {
            let mut backend = Backend::listen(&stage.web, "127.0.0.1:9105")?;
            ensure!(
                nginx.get(&stage.web, "crashed")?.status == 200,
                "it never answered"
            );
            backend.end_by("exit 3")?;
            Ok(vec![backend])
        },
    },
    Situation {
        name: "firewalled",
        caption: "The application is healthy, and an nftables rule resets connections to it.",
        address: "127.0.0.1:9106",
        prepare: |stage, _| {
            let backend = Backend::listen(&stage.web, "127.0.0.1:9106")?;
            stage
                .web
                .filter("input", "tcp dport 9106 reject with tcp reset")?;
            Ok(vec![backend])
        },
    },
    Situation {
        name: "prohibited",
        caption: "A route says `prohibit`.",
        address: "10.66.0.7:9107",
        prepare: |stage, _| {
            stage.web.ip("route add prohibit 10.66.0.0/16")?;
            Ok(Vec::new())
        },
    },
    Situation {
        name: "in-a-container",
        caption: "The application listens on 127.0.0.1, but in its own container.",
        address: "127.0.0.1:9108",
        prepare: |stage, _| Ok(vec![Backend::listen(&stage.app, "127.0.0.1:9108")?]),
    },
    Situation {
        name: "half-started",
        caption: "The application has bound its port and never called listen().",
        address: "127.0.0.1:9109",
        prepare: |stage, _| {
            Ok(vec![Backend::start(
                &stage.web,
                &["tcp", "127.0.0.1:9109", "--bind-only"],
            )?])
        },
    },
    Situation {
        name: "unplugged",
        caption: "The machine 10.1.0.9 is gone (this takes nginx three seconds to find out).",
        address: "10.1.0.9:9110",
        prepare: |_, _| Ok(Vec::new()),
    },
];

impl Stage {
    /// Sets up both namespaces.
    pub fn set() -> Result<Self> {
        let (web, app) = (Namespace::new()?, Namespace::new()?);
        web.link(("eth0", &["10.1.0.1/24"]), &app, ("eth0", &["10.1.0.2/24"]))?;
        Ok(Self { web, app })
    }
}
