//! Unix sockets: every way in which `connect()` refuses, and its twins.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::{Host, skip, worker_user};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Upstream};
use whyrefused_tests::patience::SOON;
use whyrefused_tests::scene::{Scene, denied};
use whyrefused_tests::scratch;

/// A place for sockets that nginx's workers reach.
struct Place {
    here: Namespace,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = scratch::directory("unix-")?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        Ok(Self {
            here: Namespace::new()?,
            directory,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn address(&self, name: &str) -> String {
        format!("unix:{}", self.text(name))
    }

    /// A directory of that mode.
    fn directory(&self, name: &str, mode: u32) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(path)
    }

    fn backend(&self, name: &str, options: &[&str]) -> Result<Backend> {
        let path = self.text(name);
        let arguments: Vec<&str> = ["unix", &path].iter().chain(options).copied().collect();
        Backend::start(&self.here, &arguments)
    }

    fn scene(&self, host: &Host, name: &str) -> Result<Scene> {
        let config = Config::passing(&[("app", &self.address(name))]);
        Scene::new(host, self.here.clone(), &config)
    }

    /// The explanation of one failure towards a socket of that name.
    fn fails(
        &self,
        host: &Host,
        name: &str,
        code: &'static str,
        errno: &'static str,
    ) -> Result<Failure> {
        let mut scene = self.scene(host, name)?;
        let failure = scene.fails("app", &denied(code, errno))?;
        scene.end()?;
        Ok(failure)
    }
}

/// The host and a place, or nothing where live tests cannot run.
fn stage() -> Result<Option<(Host, Place)>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    Ok(Some((host, Place::new()?)))
}

macro_rules! staged {
    () => {
        match stage()? {
            Some(stage) => stage,
            None => return Ok(()),
        }
    };
}

fn says(failure: &Failure, words: &[&str]) -> Result<()> {
    let verdict = &failure.verdict;
    let told = format!("{}\n{}", verdict.summary, verdict.because.join("\n"));
    for word in words {
        ensure!(told.contains(word), "{word:?} is not told: {failure:#?}");
    }
    Ok(())
}

fn certain(failure: &Failure) -> Result<()> {
    ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
    Ok(())
}

fn listener_is(failure: &Failure, backend: &Backend, address: &str) -> Result<()> {
    let listener = failure.listener.as_ref().context("no listener")?;
    ensure!(listener.pid == Some(backend.pid()), "{failure:#?}");
    ensure!(listener.address == address, "{failure:#?}");
    Ok(())
}

#[test]
fn a_path_with_nothing_there_is_explained_as_unix_missing() -> Result<()> {
    let (host, place) = staged!();
    let failure = place.fails(&host, "app.sock", "unix-missing", "ENOENT")?;
    certain(&failure)?;
    ensure!(
        failure.listener.is_none() && failure.candidates.is_empty(),
        "{failure:#?}"
    );
    let failure = place.fails(&host, "none/app.sock", "unix-missing", "ENOENT")?;
    says(&failure, &["the directory", &place.text("none")])
}

#[test]
fn a_dangling_link_is_named() -> Result<()> {
    let (host, place) = staged!();
    symlink("gone.sock", place.path("link.sock"))?;
    let failure = place.fails(&host, "link.sock", "unix-missing", "ENOENT")?;
    says(&failure, &["dangling", &place.text("gone.sock")])
}

#[test]
fn a_socket_in_another_mount_namespace_is_named() -> Result<()> {
    let (host, place) = staged!();
    let private = place.directory("private", 0o755)?;
    let path = place.text("private/app.sock");
    let script = format!(
        "mount -t tmpfs none {} && exec \"$0\" unix {path}",
        private.display()
    );
    let fixture = whyrefused_tests::host::fixture()?;
    let arguments = [
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        &fixture.to_string_lossy(),
    ];
    let backend = Backend::start_program(&place.here, Path::new("unshare"), &arguments)?;
    let failure = place.fails(&host, "private/app.sock", "unix-missing", "ENOENT")?;
    says(
        &failure,
        &["another mount namespace", &backend.pid().to_string()],
    )?;
    ensure!(failure.candidates.len() == 1, "{failure:#?}");
    ensure!(
        failure.candidates[0].pid == Some(backend.pid()),
        "{failure:#?}"
    );
    ensure!(
        failure.candidates[0].address == format!("unix:{path}"),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_socket_below_another_root_is_named() -> Result<()> {
    let (host, place) = staged!();
    let jail = place.directory("jail", 0o755)?;
    let inside = jail.join(place.directory.path().strip_prefix("/")?);
    fs::create_dir_all(&inside)?;
    let copy = jail.join("backend");
    let path = place.text("app.sock");
    let fixture = whyrefused_tests::host::fixture()?;
    fs::write(&copy, "")?;
    let script = format!(
        "mount --bind {0} {1} && for d in lib lib64 usr; do [ -e /$d ] && mkdir -p {2}/$d && mount --bind /$d {2}/$d; done; exec chroot {2} /backend unix {path}",
        fixture.display(),
        copy.display(),
        jail.display()
    );
    let arguments = ["-m", "--propagation", "private", "sh", "-c", &script];
    let backend = Backend::start_program(&place.here, Path::new("unshare"), &arguments)?;
    let failure = place.fails(&host, "app.sock", "unix-missing", "ENOENT")?;
    ensure!(
        failure.candidates[0].pid == Some(backend.pid()),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_socket_whose_file_was_removed_is_told_with_its_listener() -> Result<()> {
    let (host, place) = staged!();
    let mut backend = place.backend("app.sock", &[])?;
    backend.order("unlink")?;
    let failure = place.fails(&host, "app.sock", "unix-missing", "ENOENT")?;
    says(
        &failure,
        &[
            "still listens",
            "its file is gone",
            &backend.pid().to_string(),
        ],
    )
}

#[test]
fn a_socket_of_a_similar_name_is_a_candidate() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("php8.2-fpm.sock", &[])?;
    let failure = place.fails(&host, "php7.4-fpm.sock", "unix-missing", "ENOENT")?;
    ensure!(
        failure.candidates[0].address == place.address("php8.2-fpm.sock"),
        "{failure:#?}"
    );
    ensure!(
        failure.candidates[0].comm.as_deref() == Some("backend"),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_socket_that_serves_another_upstream_is_no_candidate() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("app2.sock", &[])?;
    let config = Config::passing(&[
        ("app", &place.address("app1.sock")),
        ("other", &place.address("app2.sock")),
    ]);
    let mut scene = Scene::new(&host, place.here.clone(), &config)?;
    scene.succeeds("other")?;
    let failure = scene.fails("app", &denied("unix-missing", "ENOENT"))?;
    ensure!(failure.candidates.is_empty(), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn a_socket_that_the_worker_may_not_write_is_explained_as_unix_permission() -> Result<()> {
    let (host, place) = staged!();
    let backend = place.backend("app.sock", &["--mode", "600"])?;
    let failure = place.fails(&host, "app.sock", "unix-permission", "EACCES")?;
    certain(&failure)?;
    says(&failure, &["lacks w for others", "srw------- root:root"])?;
    listener_is(&failure, &backend, &place.address("app.sock"))?;
    ensure!(
        !format!("{:?}", failure.verdict.fix).contains("777"),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn a_directory_that_the_worker_may_not_search_is_named() -> Result<()> {
    let (host, place) = staged!();
    place.directory("closed", 0o700)?;
    let _backend = place.backend("closed/app.sock", &[])?;
    let failure = place.fails(&host, "closed/app.sock", "unix-permission", "EACCES")?;
    certain(&failure)?;
    says(&failure, &[&place.text("closed"), "lacks x for others"])?;
    let user = worker_user()?.name;
    ensure!(
        failure.verdict.fix[0].contains(&format!("setfacl -m u:{user}:x")),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn the_group_of_the_socket_is_the_fix_where_it_may_write() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("app.sock", &["--mode", "660"])?;
    // The group `adm` of every Debian.
    chown(place.path("app.sock"), None, Some(4))?;
    let failure = place.fails(&host, "app.sock", "unix-permission", "EACCES")?;
    ensure!(
        failure.verdict.fix[0].starts_with("usermod -aG adm "),
        "{failure:#?}"
    );
    Ok(())
}

#[test]
fn access_by_group_is_healthy() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("app.sock", &["--mode", "660"])?;
    chown(
        place.path("app.sock"),
        None,
        Some(worker_user()?.gid.as_raw()),
    )?;
    let scene = place.scene(&host, "app.sock")?;
    for _ in 0..5 {
        scene.succeeds("app")?;
    }
    scene.end().map(drop)
}

#[test]
fn an_access_control_list_that_refuses_is_named() -> Result<()> {
    let (host, place) = staged!();
    let _backend = place.backend("app.sock", &["--mode", "666"])?;
    let user = worker_user()?;
    // user::rw- user:WORKER:r-- group::rw- mask::rw- other::rw-
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, user.uid.as_raw()),
        (4, 6, u32::MAX),
        (16, 6, u32::MAX),
        (32, 6, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(bits.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let path = std::ffi::CString::new(place.path("app.sock").as_os_str().as_bytes())?;
    // SAFETY: both strings end in a NUL, and the value is as long as is said.
    let set = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"system.posix_acl_access".as_ptr(),
            list.as_ptr().cast(),
            list.len(),
            0,
        )
    };
    if set != 0 {
        skip("the file system of temporary files has no access control lists");
        return Ok(());
    }
    let failure = place.fails(&host, "app.sock", "unix-permission", "EACCES")?;
    certain(&failure)?;
    says(&failure, &["access control list lacks w for this user"])
}

#[test]
fn a_stale_socket_file_is_explained_as_unix_no_listener() -> Result<()> {
    let (host, place) = staged!();
    drop(place.backend("app.sock", &[])?);
    ensure!(place.path("app.sock").exists(), "the file is gone");
    let failure = place.fails(&host, "app.sock", "unix-no-listener", "ECONNREFUSED")?;
    certain(&failure)?;
    says(&failure, &["stale"])?;
    ensure!(failure.listener.is_none(), "{failure:#?}");
    Ok(())
}

#[test]
fn a_socket_that_is_only_bound_is_told_with_its_holder() -> Result<()> {
    let (host, place) = staged!();
    let backend = place.backend("app.sock", &["--bind-only"])?;
    let failure = place.fails(&host, "app.sock", "unix-no-listener", "ECONNREFUSED")?;
    certain(&failure)?;
    says(
        &failure,
        &["does not listen", &format!("backend[{}]", backend.pid())],
    )?;
    listener_is(&failure, &backend, &place.address("app.sock"))
}

#[test]
fn a_socket_shut_down_for_receiving_is_told_with_its_holder() -> Result<()> {
    let (host, place) = staged!();
    let mut backend = place.backend("app.sock", &[])?;
    backend.order("shut")?;
    let failure = place.fails(&host, "app.sock", "unix-no-listener", "ECONNREFUSED")?;
    says(&failure, &["shut"])
}

/// The failure after the backend, which answered, ended in that way.
fn after(
    late: bool,
    end: impl FnOnce(&mut Backend) -> Result<()>,
) -> Result<Option<(Place, Backend, Failure)>> {
    let Some((host, place)) = stage()? else {
        return Ok(None);
    };
    let early = (!late)
        .then(|| place.backend("app.sock", &[]))
        .transpose()?;
    let config = Config::passing(&[
        ("app", &place.address("app.sock")),
        ("missing", &place.address("missing.sock")),
    ]);
    let mut scene = Scene::new(&host, place.here.clone(), &config)?;
    let mut backend = match early {
        Some(backend) => backend,
        None => place.backend("app.sock", &[])?,
    };
    scene.succeeds("app")?;
    if late {
        // Once this is explained, what happened before has been looked at.
        scene.fails("missing", &denied("unix-missing", "ENOENT"))?;
    }
    end(&mut backend)?;
    let failure = scene.fails("app", &denied("unix-no-listener", "ECONNREFUSED"))?;
    listener_is(&failure, &backend, &place.address("app.sock"))?;
    scene.end()?;
    Ok(Some((place, backend, failure)))
}

fn how(failure: &Failure) -> Option<&str> {
    let ended = failure.listener.as_ref()?.ended.as_ref()?;
    Some(&ended.how)
}

#[test]
fn a_listener_that_was_killed_is_told_with_its_end() -> Result<()> {
    for late in [false, true] {
        let kill = |backend: &mut Backend| {
            backend.process().signal(Signal::SIGKILL)?;
            backend.process().wait(SOON).map(drop)
        };
        let Some((_, _, failure)) = after(late, kill)? else {
            return Ok(());
        };
        ensure!(how(&failure) == Some("killed"), "{failure:#?}");
        says(&failure, &["SIGKILL"])?;
    }
    Ok(())
}

#[test]
fn a_listener_that_exited_is_told_with_its_status() -> Result<()> {
    let Some((_, _, failure)) = after(false, |backend| backend.end_by("exit 3").map(drop))? else {
        return Ok(());
    };
    ensure!(how(&failure) == Some("exited"), "{failure:#?}");
    says(&failure, &["status 3"])
}

#[test]
fn a_listener_that_a_living_process_closed_is_told_as_closed() -> Result<()> {
    let Some((_, _backend, failure)) = after(false, |backend| backend.order("close"))? else {
        return Ok(());
    };
    ensure!(how(&failure) == Some("closed"), "{failure:#?}");
    says(&failure, &["lives on"])
}

#[test]
fn a_backend_that_removed_its_socket_as_it_ended_is_told() -> Result<()> {
    let (host, place) = staged!();
    let mut backend = place.backend("app.sock", &[])?;
    let mut scene = place.scene(&host, "app.sock")?;
    scene.succeeds("app")?;
    backend.order("unlink")?;
    backend.end_by("exit 0")?;
    let failure = scene.fails("app", &denied("unix-missing", "ENOENT"))?;
    ensure!(how(&failure) == Some("exited"), "{failure:#?}");
    scene.end().map(drop)
}

#[test]
fn files_that_are_no_sockets_are_explained_as_unix_not_a_socket() -> Result<()> {
    let (host, place) = staged!();
    fs::write(place.path("file"), "")?;
    fs::set_permissions(place.path("file"), Permissions::from_mode(0o666))?;
    place.directory("directory", 0o777)?;
    nix::unistd::mkfifo(&place.path("fifo"), nix::sys::stat::Mode::S_IRWXU)?;
    fs::set_permissions(place.path("fifo"), Permissions::from_mode(0o666))?;
    fs::write(place.path("closed"), "")?;
    for (name, errno, word) in [
        ("file", "ECONNREFUSED", "a regular file"),
        ("directory", "ECONNREFUSED", "a directory"),
        ("fifo", "ECONNREFUSED", "a FIFO"),
        ("closed", "EACCES", "a regular file"),
    ] {
        let failure = place.fails(&host, name, "unix-not-a-socket", errno)?;
        certain(&failure)?;
        says(&failure, &[word])?;
    }
    Ok(())
}

#[test]
fn sockets_of_other_types_are_explained_as_unix_wrong_type() -> Result<()> {
    let (host, place) = staged!();
    for kind in ["datagram", "seqpacket"] {
        let backend = place.backend(kind, &["--kind", kind])?;
        let failure = place.fails(&host, kind, "unix-wrong-type", "EPROTOTYPE")?;
        certain(&failure)?;
        says(&failure, &[kind])?;
        listener_is(&failure, &backend, &place.address(kind))?;
    }
    Ok(())
}

#[test]
fn a_full_backlog_is_told_with_its_numbers() -> Result<()> {
    let (host, place) = staged!();
    let backend = place.backend("app.sock", &["--never-accept", "--backlog", "1"])?;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(std::os::unix::net::UnixStream::connect(
            place.path("app.sock"),
        )?);
    }
    let failure = place.fails(&host, "app.sock", "unix-backlog-full", "EAGAIN")?;
    certain(&failure)?;
    says(
        &failure,
        &["2 connections wait", "the backlog is 1", "somaxconn"],
    )?;
    listener_is(&failure, &backend, &place.address("app.sock"))
}

#[test]
fn a_stopped_backend_with_a_full_backlog_is_told_as_stopped() -> Result<()> {
    let (host, place) = staged!();
    let mut backend = place.backend("app.sock", &["--backlog", "0"])?;
    backend.order("stop")?;
    let _waiting = std::os::unix::net::UnixStream::connect(place.path("app.sock"))?;
    let failure = place.fails(&host, "app.sock", "unix-backlog-full", "EAGAIN")?;
    says(&failure, &["is stopped"])?;
    let fix = format!("kill -CONT {}", backend.pid());
    ensure!(failure.verdict.fix.contains(&fix), "{failure:#?}");
    Ok(())
}

#[test]
fn paths_that_cannot_be_walked_are_explained_as_unix_bad_path() -> Result<()> {
    let (host, place) = staged!();
    fs::write(place.path("file"), "")?;
    symlink("b", place.path("a"))?;
    symlink("a", place.path("b"))?;
    let failure = place.fails(&host, "file/app.sock", "unix-bad-path", "ENOTDIR")?;
    certain(&failure)?;
    says(&failure, &[&place.text("file"), "a regular file"])?;
    let failure = place.fails(&host, "a", "unix-bad-path", "ELOOP")?;
    says(&failure, &["loop"])
}

#[test]
fn a_path_as_long_as_nginx_takes_is_told_whole() -> Result<()> {
    let (host, place) = staged!();
    let room = 107 - place.text("").len();
    let name = "x".repeat(room);
    let failure = place.fails(&host, &name, "unix-missing", "ENOENT")?;
    ensure!(
        failure.upstream.address == Some(place.address(&name)),
        "{failure:#?}"
    );
    let _backend = place.backend(&name, &[])?;
    let scene = place.scene(&host, &name)?;
    scene.succeeds("app")?;
    scene.end().map(drop)
}

#[test]
fn bytes_that_are_no_utf8_are_escaped() -> Result<()> {
    let (host, place) = staged!();
    let failure = place.fails(&host, "\\xff.sock", "unix-missing", "ENOENT")?;
    says(&failure, &["\\xff.sock"])
}

#[test]
fn an_at_sign_is_a_file_name_and_the_abstract_socket_a_candidate() -> Result<()> {
    let (host, place) = staged!();
    let name = format!("@whyrefused-{}", std::process::id());
    let backend = Backend::start(&place.here, &["unix", &name])?;
    let config = Config::passing(&[("app", &format!("unix:{name}"))]);
    let mut scene = Scene::new(&host, place.here.clone(), &config)?;
    let failure = scene.fails("app", &denied("unix-missing", "ENOENT"))?;
    says(&failure, &["abstract"])?;
    ensure!(
        failure.candidates[0].pid == Some(backend.pid()),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

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
