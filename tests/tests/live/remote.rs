//! The answer, or its absence, comes from off this host.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use whyrefused_tests::host::{Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::patience::{SOON, wait_for};
use whyrefused_tests::scene::{Scene, refused, reported, timed_out};
use whyrefused_tests::tracer::Tracer;
use whyrefused_tests::wire::Wire;

/// Much less than the tool waits between two looks for what nobody announced.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A namespace with a cable to machines that answer as `arguments` say.
fn wired(arguments: &[&str]) -> Result<Option<(Host, Namespace, Wire)>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    if fs::metadata("/dev/net/tun").is_err() {
        skip("this host has no /dev/net/tun");
        return Ok(None);
    }
    let here = Namespace::new()?;
    let wire = Wire::stretch(&here, arguments)?;
    Ok(Some((host, here, wire)))
}

#[test]
fn a_reset_from_off_this_host_is_explained_as_remote_refused() -> Result<()> {
    let Some((host, here, _wire)) = wired(&["--port", "20000=reset"])? else {
        return Ok(());
    };
    let config = Config::passing(&[("four", "10.77.0.2:20000"), ("six", "[fd77::2]:20000")]);
    let mut scene = Scene::new(&host, here, &config)?;
    for name in ["four", "six"] {
        let failure = scene.fails(name, &refused("remote-refused"))?;
        ensure!(
            failure.listener.is_none() && failure.rule.is_none(),
            "{failure:#?}"
        );
    }
    scene.end().map(drop)
}

#[test]
fn an_icmp_error_from_off_this_host_is_explained_as_icmp_unreachable() -> Result<()> {
    let answers = [
        "20020=3/0",
        "20021=3/1",
        "20022=3/3",
        "20023=3/13@10.77.0.254",
        "20024=3/10",
        "20025=1/0@fd77::fe",
        "20026=1/3",
        "20027=1/4",
        "20028=1/1@fd77::fe",
    ];
    let arguments: Vec<&str> = answers
        .iter()
        .flat_map(|answer| ["--port", *answer])
        .collect();
    let Some((host, here, _wire)) = wired(&arguments)? else {
        return Ok(());
    };
    // The numbers' meanings are those of icmp_err_convert and tab_unreach in the kernel.
    let table = [
        ("net", "10.77.0.2:20020", "ENETUNREACH", "10.77.0.2"),
        ("host", "10.77.0.2:20021", "EHOSTUNREACH", "10.77.0.2"),
        ("port", "10.77.0.2:20022", "ECONNREFUSED", "10.77.0.2"),
        ("filtered", "10.77.0.2:20023", "EHOSTUNREACH", "10.77.0.254"),
        ("prohibited", "10.77.0.2:20024", "EHOSTUNREACH", "10.77.0.2"),
        ("net-six", "[fd77::2]:20025", "ENETUNREACH", "fd77::fe"),
        ("host-six", "[fd77::2]:20026", "EHOSTUNREACH", "fd77::2"),
        ("port-six", "[fd77::2]:20027", "ECONNREFUSED", "fd77::2"),
        ("filtered-six", "[fd77::2]:20028", "EACCES", "fd77::fe"),
    ];
    let upstreams = table.map(|(name, address, _, _)| (name, address));
    let mut scene = Scene::new(&host, here, &Config::passing(&upstreams))?;
    for (name, _, errno, sender) in table {
        let failure = scene.fails(name, &reported("icmp-unreachable", errno))?;
        let told = failure.verdict.because.join("\n");
        ensure!(
            told.contains(sender),
            "the sender {sender} is not told: {failure:#?}"
        );
    }
    scene.end().map(drop)
}

#[test]
fn icmp_errors_are_heard_at_once_where_an_nginx_starts_later() -> Result<()> {
    let Some((host, here, _wire)) = wired(&["--port", "20060=3/13@10.77.0.254"])? else {
        return Ok(());
    };
    let mut tracer = Tracer::start(&host, &["--coalesce", "0"])?;
    let nginx = Nginx::start(
        &host,
        &here,
        &Config::passing(&[("app", "10.77.0.2:20060")]),
    )?;
    wait_for("the tool to listen", AT_ONCE, || {
        let table = here.inside(|| Ok(fs::read_to_string("/proc/thread-self/net/raw")?))?;
        // The first line is the head of the table.
        Ok((table.lines().count() > 1).then_some(()))
    })?;
    ensure!(nginx.get(&here, "app")?.status >= 500);
    let failure = tracer.failure(SOON, |failure| failure.nginx.netns == here.inode())?;
    let verdict = &failure.verdict;
    ensure!(verdict.code == "icmp-unreachable", "{failure:#?}");
    ensure!(verdict.confidence == "certain", "{failure:#?}");
    let told = verdict.because.join("\n");
    ensure!(told.contains("10.77.0.254"), "{failure:#?}");
    Ok(())
}

#[test]
fn a_router_without_a_way_is_explained_as_icmp_unreachable() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (name, address, errno) in [
        ("unreachable", "10.66.1.9:20040", "EHOSTUNREACH"),
        ("prohibit", "10.66.2.9:20040", "EHOSTUNREACH"),
        ("no-way", "10.66.3.9:20040", "ENETUNREACH"),
        ("unreachable-six", "[fd66:1::9]:20040", "ENETUNREACH"),
        ("prohibit-six", "[fd66:2::9]:20040", "EACCES"),
    ] {
        // A router tells the same host only so many times (inet_peer_xrlim_allow).
        let (here, _router) = behind_a_router()?;
        let mut scene = Scene::new(&host, here, &Config::passing(&[(name, address)]))?;
        scene.fails(name, &reported("icmp-unreachable", errno))?;
        scene.end()?;
    }
    Ok(())
}

fn behind_a_router() -> Result<(Namespace, Namespace)> {
    let (here, router) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &router,
        ("lan0", &["10.1.0.254/24", "fd01::fe/64"]),
    )?;
    router.forward()?;
    here.ip("route add default via 10.1.0.254")?;
    here.ip6("route add default via fd01::fe")?;
    router.ip("route add unreachable 10.66.1.0/24\nroute add prohibit 10.66.2.0/24")?;
    router.ip6("route add unreachable fd66:1::/64\nroute add prohibit fd66:2::/64")?;
    Ok((here, router))
}

#[test]
fn a_remote_host_that_swallows_the_syn_is_explained_as_no_answer() -> Result<()> {
    let Some((host, here, _wire)) = wired(&[])? else {
        return Ok(());
    };
    let config = Config::passing(&[("four", "10.77.0.2:20060"), ("six", "[fd77::2]:20060")])
        .connect_timeout("2500ms");
    let mut scene = Scene::new(&host, here, &config)?;
    for name in ["four", "six"] {
        let failure = scene.fails(name, &timed_out("no-answer"))?;
        ensure!(failure.attempt.duration_us > 2_000_000, "{failure:#?}");
    }
    scene.end().map(drop)
}

#[test]
fn a_timeout_before_the_first_retransmission_is_explained_as_no_answer() -> Result<()> {
    let Some((host, here, _wire)) = wired(&[])? else {
        return Ok(());
    };
    let config = Config::passing(&[("app", "10.77.0.2:20080")]).connect_timeout("400ms");
    let mut scene = Scene::new(&host, here, &config)?;
    let failure = scene.fails("app", &timed_out("no-answer"))?;
    ensure!(failure.attempt.duration_us < 2_000_000, "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn syns_that_the_kernel_gives_up_on_are_explained_as_no_answer() -> Result<()> {
    let Some((host, here, _wire)) = wired(&[])? else {
        return Ok(());
    };
    here.sysctl("ipv4/tcp_syn_retries", "1")?;
    here.sysctl("ipv4/tcp_syn_linear_timeouts", "0").ok();
    let config = Config::passing(&[("app", "10.77.0.2:20100")]).connect_timeout("15s");
    let mut scene = Scene::new(&host, here, &config)?;
    scene.fails("app", &reported("no-answer", "ETIMEDOUT"))?;
    scene.end().map(drop)
}

#[test]
fn a_reset_of_the_second_syn_is_not_told_of_the_rule_that_dropped_the_first() -> Result<()> {
    let Some((host, here, _wire)) = wired(&["--port", "20090=reset"])? else {
        return Ok(());
    };
    if program("nft", "nftables").is_err() {
        skip("nft is not installed");
        return Ok(());
    }
    let config = Config::passing(&[("app", "10.77.0.2:20090")]).connect_timeout("3s");
    // The first SYN of a connection is dropped, and the one sent a second later passes.
    here.filter(
        "output",
        "tcp dport 20090 tcp flags & (syn|ack) == syn numgen inc mod 2 == 0 drop",
    )?;
    let mut scene = Scene::new(&host, here, &config)?;
    let failure = scene.fails("app", &refused("remote-refused"))?;
    ensure!(failure.rule.is_none(), "{failure:#?}");
    scene.end().map(drop)
}
