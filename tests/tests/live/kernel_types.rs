//! Kernels that do not describe their types, or let nobody look: one message, and status 1. With
//! the types from a file verdicts are the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use whyrefused_tests::host::{Host, skip};
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::{Config, Nginx};
use whyrefused_tests::scene::{Scene, refused};
use whyrefused_tests::scratch;
use whyrefused_tests::tracer::Tracer;

const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The tool, a copy of the kernel's types, and a folder of the test's own.
struct Stage {
    host: Host,
    copy: String,
    folder: TempDir,
}

impl Stage {
    /// `None` where something is missing, after saying so.
    fn set() -> Result<Option<Self>> {
        let Some(host) = Host::find() else {
            return Ok(None);
        };
        if !Path::new(TYPES).is_file() {
            skip("this kernel does not describe its types");
            return Ok(None);
        }
        let folder = scratch::directory("types-")?;
        let copy = folder.path().join("copy.btf");
        fs::copy(TYPES, &copy)?;
        Ok(Some(Self {
            host,
            copy: copy.to_string_lossy().into_owned(),
            folder,
        }))
    }

    /// The same, with a tool that runs in new namespaces of the kinds that `unshare` is told, once
    /// `prepare` was run there by a shell.
    fn within(&self, unshare: &str, prepare: &str) -> Result<Host> {
        let program = self.folder.path().join("within");
        let real = self.host.whyrefused.canonicalize()?;
        let script = format!(
            "#!/bin/sh\nexec unshare {unshare} sh -c '{prepare} && exec \"$0\" \"$@\"' {} \"$@\"\n",
            real.display()
        );
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(Host {
            whyrefused: program,
            ..self.host.clone()
        })
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

/// Both subcommands end with status 1 and say `reason`, once. A trace says nothing else.
fn both_say(host: &Host, options: &[&str], reason: &str) -> Result<()> {
    let ask = |subcommand: &str| -> Result<Output> {
        let mut command = Command::new(&host.whyrefused);
        Ok(command.arg(subcommand).args(options).output()?)
    };
    let trace = ask("trace")?;
    let said = String::from_utf8_lossy(&trace.stderr);
    ensure!(trace.status.code() == Some(1), "{trace:?}");
    ensure!(trace.stdout.is_empty(), "{trace:?}");
    ensure!(said.lines().count() == 1, "{said}");
    ensure!(said.contains(reason), "{said}");
    let doctor = ask("doctor")?;
    let page = String::from_utf8_lossy(&doctor.stdout);
    ensure!(doctor.status.code() == Some(1), "{doctor:?}");
    // A page is wrapped to its width.
    let page: Vec<_> = page.split_whitespace().collect();
    ensure!(page.join(" ").matches(reason).count() == 1, "{page:?}");
    Ok(())
}

/// The tool knows a closed port, and what it says of its limits on the way.
fn explains(host: &Host, types: &str, port: &str) -> Result<Vec<String>> {
    let here = Namespace::new()?;
    let config = Config::passing(&[("app", &format!("127.0.0.1:{port}"))]);
    let nginx = Nginx::start(host, &here, &config)?;
    let pid = nginx.pid().to_string();
    let tracer = Tracer::start(host, &["--coalesce", "0", "--pid", &pid, "--btf", types])?;
    let limits = tracer.session().limits.clone();
    let mut scene = Scene::of(host, here, nginx, tracer);
    scene.fails("app", &refused("no-listener"))?;
    scene.end()?;
    Ok(limits)
}

#[test]
fn a_copy_of_the_kernels_types_serves_as_well() -> Result<()> {
    let Some(stage) = Stage::set()? else {
        return Ok(());
    };
    let limits = explains(&stage.host, &stage.copy, "11980")?;
    ensure!(
        limits.iter().all(|limit| !limit.contains(&stage.copy)),
        "{limits:?}"
    );
    Ok(())
}

#[test]
fn a_kernel_without_types_is_told_once_and_takes_them_from_a_file() -> Result<()> {
    let Some(stage) = Stage::set()? else {
        return Ok(());
    };
    let empty = stage.file("empty", b"")?;
    let over = format!("mount --bind {} {TYPES}", empty.display());
    for hide in ["mount -t tmpfs none /sys/kernel/btf", &over] {
        let host = stage.within("--mount", hide)?;
        both_say(&host, &[], "CONFIG_DEBUG_INFO_BTF")?;
        both_say(&host, &[], "--btf FILE")?;
        let limits = explains(&host, &stage.copy, "11981")?;
        ensure!(
            limits.iter().any(|limit| limit.contains(&stage.copy)),
            "{limits:?}"
        );
        let mut doctor = Command::new(&host.whyrefused);
        let output = doctor.args(["doctor", "--btf", &stage.copy]).output()?;
        ensure!(output.status.code() == Some(0), "{output:?}");
    }
    Ok(())
}

#[test]
fn a_file_that_holds_no_types_is_told_once() -> Result<()> {
    let Some(stage) = Stage::set()? else {
        return Ok(());
    };
    let text = stage.file("text", b"no types at all")?;
    let absent = stage.folder.path().join("absent");
    let folder = stage.folder.path();
    for (path, reason) in [
        (text.as_path(), "it is neither"),
        (&absent, "No such file or directory"),
        (folder, "no regular file"),
    ] {
        let path = path.to_string_lossy();
        both_say(&stage.host, &["--btf", &path], reason)?;
    }
    Ok(())
}

#[test]
fn a_kernel_that_does_not_permit_bpf_is_told_once() -> Result<()> {
    let Some(stage) = Stage::set()? else {
        return Ok(());
    };
    // Root of a user namespace has every capability there, and none of the host's.
    let host = stage.within("--user --map-root-user", "true")?;
    both_say(&host, &[], "CAP_BPF and CAP_PERFMON")
}
