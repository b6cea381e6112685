//! The other end is another namespace of this host.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
use whyrefused_tests::patience::SOON;
use whyrefused_tests::scene::{Scene, refused};

/// The addresses of the far namespace.
fn two_namespaces() -> Result<(Namespace, Namespace)> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &there,
        ("eth0", &["10.1.0.2/24", "fd01::2/64"]),
    )?;
    Ok((here, there))
}

#[test]
fn a_listener_in_another_namespace_is_explained_as_other_netns() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let backend = Backend::start(&there, &["tcp", "127.0.0.1:19000", "[::1]:19001"])?;
    let config = Config::passing(&[("four", "127.0.0.1:19000"), ("six", "[::1]:19001")]);
    let mut scene = Scene::new(&host, here, &config)?;
    for name in ["four", "six"] {
        let failure = scene.fails(name, &refused("other-netns"))?;
        let candidate = failure.candidates.first().context("no candidate")?;
        ensure!(
            Some(&candidate.address) == failure.upstream.address.as_ref(),
            "{failure:#?}"
        );
        ensure!(candidate.netns == there.inode(), "{failure:#?}");
        ensure!(candidate.pid == Some(backend.pid()), "{failure:#?}");
    }
    scene.end().map(drop)
}

#[test]
fn a_closed_port_of_another_namespace_is_explained_as_no_listener_there() -> Result<()> {
    const THERE: [(&str, &str); 2] = far!(19500);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = two_namespaces()?;
    let mut scene = Scene::new(&host, here, &Config::passing(&THERE))?;
    for (name, _) in THERE {
        let failure = scene.fails(name, &refused("no-listener"))?;
        let told = format!("{:?}", failure.verdict);
        ensure!(
            told.contains(&there.inode().to_string()),
            "the namespace is not told: {failure:#?}"
        );
    }
    scene.end().map(drop)
}

#[test]
fn a_listener_killed_in_another_namespace_is_explained_as_listener_killed() -> Result<()> {
    const THERE: [(&str, &str); 2] = far!(19510);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    for (name, address) in THERE {
        let (here, there) = two_namespaces()?;
        let mut backend = Backend::listen(&there, address)?;
        let mut scene = Scene::new(&host, here, &Config::passing(&[(name, address)]))?;
        scene.succeeds(name)?;
        backend.process().signal(Signal::SIGKILL)?;
        backend.process().wait(SOON)?;
        let failure = scene.fails(name, &refused("listener-killed"))?;
        let listener = failure.listener.as_ref().context("no listener")?;
        ensure!(listener.netns == there.inode(), "{failure:#?}");
        ensure!(listener.pid == Some(backend.pid()), "{failure:#?}");
        scene.end()?;
    }
    Ok(())
}

#[test]
fn a_listener_on_loopback_of_another_namespace_is_explained_as_wrong_address() -> Result<()> {
    const THERE: [(&str, &str); 2] = far!(19520);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = two_namespaces()?;
    let backend = Backend::start(&there, &["tcp", "127.0.0.1:19520", "[::1]:19520"])?;
    let mut scene = Scene::new(&host, here, &Config::passing(&THERE))?;
    for (name, _) in THERE {
        let failure = scene.fails(name, &refused("wrong-address"))?;
        let candidate = failure.candidates.first().context("no candidate")?;
        ensure!(candidate.netns == there.inode(), "{failure:#?}");
        ensure!(candidate.pid == Some(backend.pid()), "{failure:#?}");
    }
    scene.end().map(drop)
}

#[test]
fn a_listener_in_another_namespace_that_answers_is_no_failure() -> Result<()> {
    const THERE: [(&str, &str); 2] = far!(19530);
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = two_namespaces()?;
    let addresses = THERE.map(|(_, address)| address);
    let _backend = Backend::start(&there, &[&["tcp"], &addresses[..]].concat())?;
    let scene = Scene::new(&host, here, &Config::passing(&THERE))?;
    for (name, _) in THERE {
        scene.succeeds(name)?;
    }
    scene.end().map(drop)
}
