//! Every protocol of nginx, and backends in other namespaces.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::host::skip;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Upstream};
use whyrefused_tests::patience::SOON;
use whyrefused_tests::scene::{Scene, denied};

use super::listener_is;

#[test]
fn every_protocol_of_nginx_is_explained() -> Result<()> {
    let (host, place) = staged!();
    let passes = [
        ("fastcgi", "fastcgi_pass "),
        ("uwsgi", "uwsgi_pass "),
        ("scgi", "scgi_pass "),
        ("grpc", "grpc_pass grpc://"),
        ("memcached", "memcached_pass "),
    ];
    let upstreams = passes
        .iter()
        .map(|(name, pass)| {
            let upstream = Upstream::new(name, &place.address(name)).by(pass);
            upstream.in_location("set $memcached_key key;")
        })
        .collect();
    drop(place.backend("scgi", &[])?);
    let mut scene = Scene::new(&host, place.here.clone(), &Config::of(upstreams))?;
    for (name, _) in passes {
        let expected = match name {
            "scgi" => denied("unix-no-listener", "ECONNREFUSED"),
            _ => denied("unix-missing", "ENOENT"),
        };
        scene.fails(name, &expected)?;
    }
    scene.end().map(drop)
}

#[test]
fn a_backend_in_another_network_namespace_is_reached_and_named() -> Result<()> {
    let (host, place) = staged!();
    let there = Namespace::new()?;
    let path = place.text("app.sock");
    let backend = Backend::start(&there, &["unix", &path, "--mode", "600"])?;
    let failure = place.fails(&host, "app.sock", "unix-permission", "EACCES")?;
    listener_is(&failure, &backend, &place.address("app.sock"))?;
    ensure!(
        failure
            .listener
            .as_ref()
            .is_some_and(|l| l.netns == there.inode()),
        "{failure:#?}"
    );
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    let scene = place.scene(&host, "app.sock")?;
    scene.succeeds("app")?;
    scene.end().map(drop)
}

#[test]
fn an_upstream_of_the_stream_module_is_explained() -> Result<()> {
    let (host, place) = staged!();
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    let version = Command::new(&host.nginx).arg("-V").output()?;
    let built_in = String::from_utf8_lossy(&version.stderr).contains("--with-stream ");
    if !built_in && !module.is_file() {
        skip("nginx has no stream module");
        return Ok(());
    }
    let load = match built_in {
        true => String::new(),
        false => format!("load_module {};", module.display()),
    };
    let address = place.address("stream.sock");
    let mut config = Config::passing(&[]);
    config.main = format!(
        "{load}\nstream {{ upstream raw {{ server {address}; }} server {{ listen 127.0.0.1:19900; proxy_pass raw; }} }}"
    );
    let mut scene = Scene::new(&host, place.here.clone(), &config)?;
    place
        .here
        .inside(|| std::net::TcpStream::connect("127.0.0.1:19900").context("refused"))?;
    let failure = scene.tracer.failure(SOON, |failure| {
        failure.upstream.address.as_deref() == Some(&address)
    })?;
    ensure!(failure.verdict.code == "unix-missing", "{failure:#?}");
    Ok(())
}
