//! Debian's policy and the domain that it puts nginx into, `httpd_t`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Upstream};
use whyrefused_tests::scene::{Scene, denied, refused};
use whyrefused_tests::scratch;
use whyrefused_tests::selinux::{Selinux, ensure_in_domain};

use super::{PROHIBITED, ensure_fix, ensure_policy, ensure_routing, opening, prohibiting};

/// Whose type is `postgresql_port_t`.
const DATABASE: u16 = 5432;

macro_rules! enforced {
    () => {{
        let Some(host) = Host::find() else {
            return Ok(());
        };
        let Some(selinux) = Selinux::find() else {
            return Ok(());
        };
        (host, selinux)
    }};
}

fn scene(host: &Host, here: Namespace, config: &Config) -> Result<Scene> {
    let scene = Scene::new(host, here, config)?;
    ensure_in_domain(scene.nginx.pid(), "httpd_t")?;
    Ok(scene)
}

#[test]
fn a_port_that_the_domain_may_not_connect_to_is_explained_and_the_boolean_lets_it() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(28100);
    let (host, mut selinux) = enforced!();
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", ADDRESSES[0].1, ADDRESSES[1].1])?;
    let mut scene = scene(&host, here, &Config::passing(&ADDRESSES))?;
    for (name, _) in ADDRESSES {
        let expected = denied("policy-denied", "EACCES")
            .because("{ name_connect }")
            .because("scontext=system_u:system_r:httpd_t:s0")
            .because("tcontext=system_u:object_r:unreserved_port_t:s0")
            .because("tclass=tcp_socket");
        let failure = scene.fails(name, &expected)?;
        ensure_policy(&failure, "selinux", "certain")?;
        ensure_fix(&failure.verdict, "setsebool -P httpd_can_network_connect 1")?;
    }
    selinux.allow("httpd_can_network_connect")?;
    for (name, _) in ADDRESSES {
        scene.succeeds(name)?;
    }
    scene.end().map(drop)
}

#[test]
fn a_type_of_port_that_a_boolean_of_its_own_allows_is_explained_with_that_boolean() -> Result<()> {
    const BOOLEANS: [(&str, &str); 3] = [
        ("127.0.0.1:5432", "httpd_can_network_connect_db"),
        ("127.0.0.1:11211", "httpd_can_network_connect_memcache"),
        ("127.0.0.1:8008", "httpd_can_network_relay"),
    ];
    let (host, mut selinux) = enforced!();
    let here = Namespace::new()?;
    let addresses = BOOLEANS.map(|(address, _)| address);
    let _backend = Backend::start(&here, &[&["tcp"], &addresses[..]].concat())?;
    let config = Config::passing(&BOOLEANS.map(|(address, boolean)| (boolean, address)));
    let mut scene = scene(&host, here, &config)?;
    for (_, boolean) in BOOLEANS {
        let failure = scene.fails(boolean, &denied("policy-denied", "EACCES"))?;
        ensure_policy(&failure, "selinux", "certain")?;
        ensure_fix(&failure.verdict, &format!("setsebool -P {boolean} 1"))?;
        selinux.allow(boolean)?;
        scene.succeeds(boolean)?;
    }
    scene.end().map(drop)
}

#[test]
fn unix_sockets_are_explained_by_what_the_policy_denies_on_the_way_to_them() -> Result<()> {
    let (host, _selinux) = enforced!();
    let here = Namespace::new()?;
    // What is made there has a type that `httpd_t` may write, and its maker's domain is another.
    let peer = scratch::directory("selinux-")?;
    fs::set_permissions(peer.path(), Permissions::from_mode(0o755))?;
    // What is made there has the type of the maker's runtime files.
    let runtime = tempfile::tempdir_in("/run")?;
    fs::set_permissions(runtime.path(), Permissions::from_mode(0o755))?;
    let paths = [
        (
            "connectto",
            "unix_stream_socket",
            peer.path().join("app.sock"),
        ),
        ("search", "dir", runtime.path().join("app.sock")),
    ];
    let mut upstreams = Vec::new();
    let mut backends = Vec::new();
    for (permission, _, path) in &paths {
        let path = path.to_string_lossy();
        backends.push(Backend::start(&here, &["unix", &path])?);
        upstreams.push(Upstream::new(permission, &format!("unix:{path}")));
    }
    let mut scene = scene(&host, here, &Config::of(upstreams))?;
    for (permission, class, _) in &paths {
        let expected = denied("policy-denied", "EACCES")
            .because(&format!("{{ {permission} }}"))
            .because(&format!("tclass={class}"));
        let failure = scene.fails(permission, &expected)?;
        ensure_policy(&failure, "selinux", "certain")?;
    }
    scene.end().map(drop)
}

#[test]
fn a_socket_without_the_bit_is_unix_permission_though_selinux_enforces() -> Result<()> {
    let (host, _selinux) = enforced!();
    let here = Namespace::new()?;
    let directory = scratch::directory("selinux-")?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    let path = directory.path().join("app.sock");
    let path = path.to_string_lossy();
    let _backend = Backend::start(&here, &["unix", &path, "--mode", "600"])?;
    let config = Config::passing(&[("app", &format!("unix:{path}"))]);
    let mut scene = scene(&host, here, &config)?;
    let failure = scene.fails("app", &denied("unix-permission", "EACCES"))?;
    ensure!(failure.verdict.policy.is_none(), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn a_prohibit_route_is_routing_whatever_else_selinux_denied_the_worker() -> Result<()> {
    let (host, mut selinux) = enforced!();
    selinux.allow("httpd_can_network_connect_db")?;
    let closed = tempfile::tempdir_in("/run")?;
    fs::set_permissions(closed.path(), Permissions::from_mode(0o755))?;
    let file = closed.path().join("file");
    fs::write(&file, "")?;
    let [plain, other] = PROHIBITED.map(|address| format!("{address}:{DATABASE}"));
    let config = Config::of(vec![
        Upstream::new("plain", &plain),
        opening(Upstream::new("file", &other), &file.to_string_lossy()),
    ]);
    let mut scene = scene(&host, prohibiting()?, &config)?;
    ensure_routing(&mut scene, "plain")?;
    ensure_routing(&mut scene, "file")?;
    scene.end().map(drop)
}

#[test]
fn of_two_servers_of_an_upstream_the_denied_one_is_told_from_the_one_without_a_route() -> Result<()>
{
    let (host, mut selinux) = enforced!();
    selinux.allow("httpd_can_network_connect_db")?;
    let [routed, other] = PROHIBITED.map(|address| format!("{address}:{DATABASE}"));
    let config = Config::of(vec![
        Upstream::new("first", "127.0.0.1:28130").or(&routed),
        Upstream::new("second", &other).or("127.0.0.1:28131"),
    ]);
    let mut scene = scene(&host, prohibiting()?, &config)?;
    for (name, barred, routed) in [
        ("first", "127.0.0.1:28130", routed),
        ("second", "127.0.0.1:28131", other),
    ] {
        let response = scene.get(name)?;
        ensure!(response.status == 502, "{response:?}");
        let mut answers = Vec::new();
        for (address, code) in [(barred, "policy-denied"), (&*routed, "route-refused")] {
            let failure = scene.explained_at(name, address, &denied(code, "EACCES"))?;
            answers.push(failure.verdict.policy);
        }
        ensure!(answers == [Some("selinux".to_owned()), None], "{answers:?}");
    }
    scene.end().map(drop)
}

#[test]
fn what_selinux_logs_and_allows_is_no_denial() -> Result<()> {
    let (host, selinux) = enforced!();
    selinux.be_permissive()?;
    let here = prohibiting()?;
    let _backend = Backend::listen(&here, "127.0.0.1:28140")?;
    let routed = format!("{}:28141", PROHIBITED[0]);
    let config = Config::passing(&[
        ("healthy", "127.0.0.1:28140"),
        ("closed", "127.0.0.1:28142"),
        ("routed", &routed),
    ]);
    let mut scene = scene(&host, here, &config)?;
    scene.succeeds("healthy")?;
    let failure = scene.fails("closed", &refused("no-listener"))?;
    ensure!(failure.verdict.policy.is_none(), "{failure:#?}");
    ensure_routing(&mut scene, "routed")?;
    scene.end().map(drop)
}
