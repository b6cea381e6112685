//! A security policy that denies nginx the call, beside whatever else gives the same error.

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::confinement::{self, Confinement};
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::{Host, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Upstream};
use whyrefused_tests::scene::{Scene, denied, failed_to_bind, no_socket};

fn ensure_policy(failure: &Failure, policy: &str, confidence: &str) -> Result<()> {
    let verdict = &failure.verdict;
    ensure!(
        verdict.policy.as_deref() == Some(policy) && verdict.confidence == confidence,
        "expected {policy}, {confidence}: {failure:#?}"
    );
    Ok(())
}

fn confined(config: Config, confinement: Confinement) -> Config {
    Config {
        confinement: Some(confinement),
        ..config
    }
}

#[test]
fn a_seccomp_filter_on_connect_is_explained_as_policy_denied_whatever_it_answers() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(23000);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (errno, name) in [
        (libc::EPERM, "EPERM"),
        (libc::EACCES, "EACCES"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
    ] {
        let here = Namespace::new()?;
        let _backend = Backend::start(&here, &["tcp", ADDRESSES[0].1, ADDRESSES[1].1])?;
        let call = libc::SYS_connect;
        let config = Config::of(vec![
            Upstream::new("four", ADDRESSES[0].1),
            Upstream::new("six", ADDRESSES[1].1),
            Upstream::new("path", "unix:/run/whyrefused-test-nobody.sock"),
        ]);
        let config = confined(config, Confinement::Seccomp { call, errno });
        let mut scene = Scene::new(&host, here, &config)?;
        for upstream in ["four", "six", "path"] {
            let failure = scene.fails(upstream, &denied("policy-denied", name))?;
            ensure_policy(&failure, "seccomp", "certain")?;
        }
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_seccomp_filter_on_a_family_is_told_from_a_closed_port() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(23010);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, ADDRESSES[0].1)?;
    let family = libc::AF_INET6;
    let errno = libc::EAFNOSUPPORT;
    let config = Config::passing(&ADDRESSES);
    let config = confined(config, Confinement::Family { family, errno });
    let mut scene = Scene::new(&host, here, &config)?;
    let failure = scene.fails("six", &no_socket("policy-denied", "EAFNOSUPPORT"))?;
    ensure_policy(&failure, "seccomp", "probable")?;
    scene.succeeds("four")?;
    scene.end().map(drop)
}

#[test]
fn landlock_is_explained_as_policy_denied_and_what_it_allows_is_not() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(23020);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    if !confinement::landlock_judges_connections() {
        skip("this kernel's Landlock knows no rules about ports");
        return Ok(());
    }
    let here = Namespace::new()?;
    let _backend = Backend::start(
        &here,
        &["tcp", ADDRESSES[0].1, ADDRESSES[1].1, "127.0.0.1:23021"],
    )?;
    let config = Config::passing(&[ADDRESSES[0], ADDRESSES[1], ("allowed", "127.0.0.1:23021")]);
    let config = confined(config, Confinement::Landlock { port: 23021 });
    let mut scene = Scene::new(&host, here, &config)?;
    let probes = &scene.tracer.session().probes;
    let answer = probes
        .iter()
        .find(|one| one.observation == "security-answer");
    // Where the kernel lends no program at the answer of its modules, it is inferred.
    let confidence = match answer.is_some_and(|answer| answer.via.is_some()) {
        true => "certain",
        false => "probable",
    };
    for (name, _) in ADDRESSES {
        let failure = scene.fails(name, &denied("policy-denied", "EACCES"))?;
        ensure_policy(&failure, "landlock", confidence)?;
    }
    scene.succeeds("allowed")?;
    scene.end().map(drop)
}

#[test]
fn a_prohibit_route_that_a_filtered_worker_meets_is_routing() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    here.ip("route add prohibit 10.7.0.9/32")?;
    let call = libc::SYS_sethostname;
    let errno = libc::EPERM;
    let config = Config::passing(&[("app", "10.7.0.9:23030")]);
    let config = confined(config, Confinement::Seccomp { call, errno });
    let mut scene = Scene::new(&host, here, &config)?;
    let failure = scene.fails("app", &denied("route-refused", "EACCES"))?;
    ensure!(failure.verdict.policy.is_none(), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn what_a_seccomp_filter_logs_and_lets_through_is_no_denial() -> Result<()> {
    const CALLS: [i64; 3] = [libc::SYS_socket, libc::SYS_bind, libc::SYS_connect];
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let here = Namespace::new()?;
    here.ip("route add prohibit 10.7.0.9/32")?;
    let config = Config::of(vec![
        Upstream::new("routed", "10.7.0.9:23040"),
        Upstream::new("bound", "127.0.0.1:23041").in_location("proxy_bind 192.0.2.7;"),
    ]);
    let config = confined(config, Confinement::Logged { calls: &CALLS });
    let mut scene = Scene::new(&host, here, &config)?;
    let failures = [
        scene.fails("routed", &denied("route-refused", "EACCES"))?,
        scene.fails("bound", &failed_to_bind("EADDRNOTAVAIL"))?,
    ];
    for failure in failures {
        ensure!(failure.verdict.policy.is_none(), "{failure:#?}");
    }
    scene.end().map(drop)
}
