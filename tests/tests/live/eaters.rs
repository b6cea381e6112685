//! What else eats packets, each with a healthy listener behind it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::bpf::{Attached, Cgroup, Eater};
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::{self, Host, program, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::process::Process;
use whyrefused_tests::scene::{Expected, Scene, denied, timed_out};
use whyrefused_tests::scratch;
use whyrefused_tests::tracer::Tracer;

/// How long an event may take on a machine that runs many tests at once.
const LATEST: Duration = Duration::from_secs(10);

/// nginx and a backend on one cable.
fn cable() -> Result<(Namespace, Namespace)> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.link(
        ("wan0", &["10.1.0.1/24", "fd01::1/64"]),
        &there,
        ("eth0", &["10.1.0.2/24", "fd01::2/64"]),
    )?;
    Ok((here, there))
}

/// What is said of a connection to `target` while something is on its way.
fn told(host: &Host, here: Namespace, target: &str, expected: &Expected) -> Result<Failure> {
    let config = Config::passing(&[("app", target)]).connect_timeout("1500ms");
    let mut scene = Scene::new(host, here, &config)?;
    let failure = scene.fails("app", expected)?;
    scene.end()?;
    Ok(failure)
}

/// Everything that a verdict says.
fn says(failure: &Failure, words: &[&str]) -> Result<()> {
    let verdict = format!("{:?}", failure.verdict);
    for word in words {
        ensure!(verdict.contains(word), "{word:?} is not said: {failure:#?}");
    }
    Ok(())
}

/// `None` after saying so where this kernel refuses the program.
fn or_skip(attached: Result<Attached>) -> Option<Attached> {
    attached.map_err(|error| skip(&format!("{error:#}"))).ok()
}

fn on_a_device(
    port: u16,
    eater: Eater,
    (at_nginx, device): (bool, &str),
    words: &[&str],
) -> Result<Option<Failure>> {
    let Some(host) = Host::find() else {
        return Ok(None);
    };
    let (here, there) = cable()?;
    let target = format!("10.1.0.2:{port}");
    let _backend = Backend::listen(&there, &target)?;
    let place = if at_nginx { &here } else { &there };
    let Some(_eater) = or_skip(eater.on_device(place, device, "lab_eater")) else {
        return Ok(None);
    };
    let failure = told(&host, here, &target, &timed_out("packet-dropped"))?;
    says(&failure, words)?;
    Ok(Some(failure))
}

#[test]
fn a_generic_xdp_program_is_named() -> Result<()> {
    let eater = Eater::Xdp { native: false };
    let failure = on_a_device(
        17701,
        eater,
        (false, "eth0"),
        &["generic XDP program lab_eater (id ", "on eth0"],
    )?;
    if let Some(failure) = failure {
        ensure!(failure.verdict.confidence == "certain", "{failure:#?}");
    }
    Ok(())
}

#[test]
fn a_native_xdp_program_is_named() -> Result<()> {
    let eater = Eater::Xdp { native: true };
    let failure = on_a_device(
        17702,
        eater,
        (false, "eth0"),
        &["native XDP program lab_eater (id ", "on eth0"],
    )?;
    ensure!(
        failure.is_none_or(|failure| failure.verdict.confidence != "possible"),
        "one program, and no claim"
    );
    Ok(())
}

#[test]
fn a_tcx_program_on_the_way_in_is_named() -> Result<()> {
    let eater = Eater::Tcx { ingress: true };
    let words = ["tc program lab_eater (id ", "on eth0 ingress"];
    on_a_device(17703, eater, (false, "eth0"), &words).map(drop)
}

#[test]
fn a_tcx_program_on_the_way_out_is_named() -> Result<()> {
    let eater = Eater::Tcx { ingress: false };
    let words = ["tc program lab_eater (id ", "on wan0 egress"];
    on_a_device(17704, eater, (true, "wan0"), &words).map(drop)
}

#[test]
fn a_cgroup_program_on_egress_is_named() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let Some(cgroup) = Cgroup::new("egress")? else {
        skip("no cgroups of version 2");
        return Ok(());
    };
    let Some(_eater) = or_skip(Eater::CgroupEgress.on_cgroup(&cgroup, "lab_egress")) else {
        return Ok(());
    };
    let (here, there) = cable()?;
    let _backend = Backend::listen(&there, "10.1.0.2:17705")?;
    let config = Config::passing(&[("app", "10.1.0.2:17705")]).connect_timeout("1500ms");
    let mut scene = confined(&host, here, &config, &cgroup)?;
    let failure = scene.fails("app", &timed_out("packet-dropped"))?;
    says(
        &failure,
        &["cgroup_inet_egress program lab_egress (id ", &cgroup.name()],
    )?;
    scene.end().map(drop)
}

/// An nginx whose workers are in the cgroup before they connect.
fn confined(host: &Host, here: Namespace, config: &Config, cgroup: &Cgroup) -> Result<Scene> {
    let nginx = Nginx::start(host, &here, config)?;
    for worker in nginx.workers()? {
        cgroup.confine(worker)?;
    }
    let tracer = Tracer::watch(host, nginx.pid())?;
    Ok(Scene::of(host, here, nginx, tracer))
}

#[test]
fn a_cgroup_program_on_ingress_of_the_listener_is_named() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let Some(cgroup) = Cgroup::new("ingress")? else {
        skip("no cgroups of version 2");
        return Ok(());
    };
    let Some(_eater) = or_skip(Eater::CgroupIngress.on_cgroup(&cgroup, "lab_ingress")) else {
        return Ok(());
    };
    let (here, there) = cable()?;
    // A socket belongs to the cgroup that its maker was in.
    let directory = scratch::directory("wrapper-")?;
    let wrapper = directory.path().join("confined");
    let script = format!(
        "#!/bin/sh\necho $$ > {}\nexec {} \"$@\"\n",
        cgroup.processes().display(),
        host::fixture()?.display()
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let _backend = Backend::start_program(&there, &wrapper, &["tcp", "10.1.0.2:17706"])?;
    let failure = told(&host, here, "10.1.0.2:17706", &timed_out("packet-dropped"))?;
    says(
        &failure,
        &[
            "cgroup_inet_ingress program lab_ingress (id ",
            &cgroup.name(),
        ],
    )
}

#[test]
fn a_cgroup_program_that_refuses_connect_is_named() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let Some(cgroup) = Cgroup::new("connect")? else {
        skip("no cgroups of version 2");
        return Ok(());
    };
    let Some(_eater) = or_skip(Eater::Connect4Refused.on_cgroup(&cgroup, "lab_connect")) else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "127.0.0.1:17707")?;
    let config = Config::passing(&[("app", "127.0.0.1:17707")]);
    let mut scene = confined(&host, here, &config, &cgroup)?;
    let failure = scene.fails("app", &denied("policy-denied", "EPERM"))?;
    says(&failure, &["cgroup_inet4_connect program lab_connect (id "])?;
    ensure!(
        failure.verdict.policy.as_deref() == Some("cgroup-bpf"),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn a_cgroup_program_that_refuses_unix_sockets_is_named() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let Some(cgroup) = Cgroup::new("unix")? else {
        skip("no cgroups of version 2");
        return Ok(());
    };
    let Some(_eater) = or_skip(Eater::UnixRefused.on_cgroup(&cgroup, "lab_unix")) else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let directory = scratch::directory("eaters-")?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let path = directory.path().join("app.sock");
    let path = path.to_string_lossy();
    let _backend = Backend::start(&here, &["unix", &path])?;
    let config = Config::passing(&[("app", &format!("unix:{path}"))]);
    let mut scene = confined(&host, here, &config, &cgroup)?;
    let failure = scene.fails("app", &denied("policy-denied", "EPERM"))?;
    says(&failure, &["cgroup_unix_connect program lab_unix (id "])?;
    ensure!(
        failure.verdict.policy.as_deref() == Some("cgroup-bpf"),
        "{failure:#?}"
    );
    scene.end().map(drop)
}

#[test]
fn a_cgroup_program_that_rewrites_the_destination_is_named() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let Some(cgroup) = Cgroup::new("rewrite")? else {
        skip("no cgroups of version 2");
        return Ok(());
    };
    let rewriter = Eater::Connect4Rewritten { port: 17709 };
    let Some(_eater) = or_skip(rewriter.on_cgroup(&cgroup, "lab_rewrite")) else {
        return Ok(());
    };
    let here = Namespace::new()?;
    let _backend = Backend::listen(&here, "127.0.0.1:17708")?;
    let config = Config::passing(&[("app", "127.0.0.1:17708")]);
    let mut scene = confined(&host, here, &config, &cgroup)?;
    scene.get("app")?;
    let named = |failure: &Failure| failure.upstream.name.as_deref() == Some("app");
    let failure = scene.tracer.failure(LATEST, named)?;
    ensure!(failure.verdict.code == "no-listener", "{failure:#?}");
    ensure!(
        failure.attempt.translated_to.as_deref() == Some("127.0.0.1:17709"),
        "{failure:#?}"
    );
    says(&failure, &["cgroup_inet4_connect program lab_rewrite (id "])?;
    Ok(())
}

/// Dials the far side from an address that is not of the cable. ARP from there would meet the same
/// checks as TCP does, so that the neighbour is told.
fn dial_from_elsewhere(here: &Namespace, there: &Namespace) -> Result<()> {
    there.ip("link set eth0 address 02:00:00:00:00:02")?;
    here.ip(
        "addr add 10.9.0.1/32 dev lo\nroute add 10.1.0.2/32 dev wan0 src 10.9.0.1\n\
         neigh replace 10.1.0.2 lladdr 02:00:00:00:00:02 dev wan0 nud permanent",
    )
}

#[test]
fn reverse_path_filtering_is_told_with_its_device() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = cable()?;
    dial_from_elsewhere(&here, &there)?;
    there.sysctl("ipv4/conf/all/rp_filter", "1")?;
    let _backend = Backend::listen(&there, "10.1.0.2:17710")?;
    there.ip(
        "link add other type veth peer name end\nlink set other up\nlink set end up\nroute add 10.9.0.0/24 dev other",
    )?;
    let failure = told(&host, here, "10.1.0.2:17710", &timed_out("packet-dropped"))?;
    says(
        &failure,
        &["reverse path filtering", "net.ipv4.conf.eth0.rp_filter"],
    )
}

#[test]
fn a_martian_source_is_told() -> Result<()> {
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let (here, there) = cable()?;
    dial_from_elsewhere(&here, &there)?;
    there.ip("addr add 10.9.0.1/32 dev lo")?;
    let _backend = Backend::listen(&there, "10.1.0.2:17711")?;
    let failure = told(&host, here, "10.1.0.2:17711", &timed_out("packet-dropped"))?;
    says(&failure, &["a martian", "10.9.0.1", "accept_local"])
}

#[test]
fn a_listener_that_asks_for_md5_signatures_is_told() -> Result<()> {
    const LISTENER: &str = "\
import socket, struct, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
peer = struct.pack('=H2s4s120s', socket.AF_INET, bytes(2), socket.inet_aton('10.1.0.1'), bytes(120))
s.setsockopt(socket.IPPROTO_TCP, 14, peer + struct.pack('=BBHi80s', 0, 0, 6, 0, b'secret'))
s.bind(('10.1.0.2', 17712)); s.listen()
print('ready', flush=True); sys.stdin.read()
";
    let Some(host) = Host::find() else {
        return Ok(());
    };
    let python = match program("python3", "python3") {
        Ok(python) => python,
        Err(missing) => {
            skip(&format!("{missing:#}"));
            return Ok(());
        }
    };
    let (here, there) = cable()?;
    let mut command = there.command(python);
    command
        .args(["-c", LISTENER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut listener = Process::start(&mut command)?;
    let mut line = String::new();
    if let Some(output) = listener.child().stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line.trim() != "ready" {
        skip("this kernel refuses TCP_MD5SIG");
        return Ok(());
    }
    let failure = told(&host, here, "10.1.0.2:17712", &timed_out("packet-dropped"))?;
    says(&failure, &["TCP_MD5SIG"])
}
