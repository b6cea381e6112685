//! AppArmor asks for the family when a socket is made, so `socket()` is what it denies.

use anyhow::{Result, ensure};
use whyrefused_tests::apparmor::Profile;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Upstream};
use whyrefused_tests::scene::{Scene, no_socket, refused};

use super::{PROHIBITED, ensure_fix, ensure_policy, ensure_routing, opening, prohibiting};

/// The host with a confined nginx, and the profile that confines it.
macro_rules! confined {
    ($flags:literal, $rules:expr) => {{
        let Some(host) = Host::find() else {
            return Ok(());
        };
        let Some(profile) = Profile::load(&host, $flags, $rules)? else {
            return Ok(());
        };
        (profile.confined(&host), profile)
    }};
}

#[test]
fn a_family_that_the_profile_lacks_is_explained_and_the_fix_is_the_rule_that_it_lacks() -> Result<()>
{
    const ADDRESSES: [(&str, &str); 2] = loopback!(28000);
    let (host, profile) = confined!("", "");
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", ADDRESSES[0].1, ADDRESSES[1].1])?;
    let mut scene = Scene::new(&host, here, &Config::passing(&ADDRESSES))?;
    scene.succeeds("four")?;
    let expected = no_socket("policy-denied", "EACCES").because(profile.name());
    let failure = scene.fails("six", &expected)?;
    ensure_policy(&failure, "apparmor", "certain")?;
    ensure_fix(&failure.verdict, profile.name())?;
    ensure_fix(&failure.verdict, "network inet6 stream,")?;
    profile.replace("", "network inet6 stream,")?;
    scene.succeeds("six")?;
    scene.end().map(drop)
}

#[test]
fn a_denial_that_the_profile_keeps_quiet_is_apparmors_at_most_probably() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(28010);
    let (host, profile) = confined!("", "deny network inet6,");
    let here = Namespace::new()?;
    let _backend = Backend::start(&here, &["tcp", ADDRESSES[0].1, ADDRESSES[1].1])?;
    let mut scene = Scene::new(&host, here, &Config::passing(&ADDRESSES))?;
    let expected = no_socket("policy-denied", "EACCES").because(profile.name());
    let failure = scene.fails("six", &expected)?;
    ensure_policy(&failure, "apparmor", "probable")?;
    scene.succeeds("four")?;
    scene.end().map(drop)
}

#[test]
fn what_a_profile_in_complain_mode_logs_is_no_denial() -> Result<()> {
    const ADDRESSES: [(&str, &str); 2] = loopback!(28020);
    let (host, _profile) = confined!("flags=(complain)", "");
    let here = Namespace::new()?;
    let backend = Backend::start(&here, &["tcp", ADDRESSES[0].1, ADDRESSES[1].1])?;
    let mut scene = Scene::new(&host, here, &Config::passing(&ADDRESSES))?;
    scene.succeeds("four")?;
    scene.succeeds("six")?;
    drop(backend);
    for (name, _) in ADDRESSES {
        let response = scene.get(name)?;
        ensure!(response.status == 502, "{response:?}");
        let failure = scene.explained(name, &refused("listener-killed"))?;
        ensure!(failure.verdict.policy.is_none(), "{failure:#?}");
    }
    scene.end().map(drop)
}

#[test]
fn a_prohibit_route_is_routing_though_a_profile_confines_the_worker_and_denied_it_a_file()
-> Result<()> {
    const FILE: &str = "/etc/hostname";
    let (host, _profile) = confined!("", &format!("audit deny {FILE} r,"));
    let [plain, other] = PROHIBITED.map(|address| format!("{address}:28030"));
    let config = Config::of(vec![
        Upstream::new("plain", &plain),
        opening(Upstream::new("file", &other), FILE),
    ]);
    let mut scene = Scene::new(&host, prohibiting()?, &config)?;
    ensure_routing(&mut scene, "plain")?;
    ensure_routing(&mut scene, "file")?;
    scene.end().map(drop)
}
