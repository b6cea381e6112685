//! Debian packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::needs::{self, Missing};
use crate::step;

const APT: &str = "/usr/bin/apt-get";

/// Installs the packages of what is missing. Nothing that is installed is removed for it, and no
/// service is started.
///
/// # Errors
///
/// There is no apt-get, we are not root, or it fails.
pub fn install(missing: &[Missing]) -> Result<()> {
    if !Path::new(APT).is_file() {
        bail!(
            "{}",
            needs::describe(missing, "and there is no apt-get here to install them")
        );
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "{}",
            needs::describe(missing, "and only root can install them")
        );
    }
    let packages = needs::packages(missing);
    eprintln!(
        "These packages are missing and get installed: {}",
        packages.join(" ")
    );
    if let Err(error) = step::run("updating the list of packages", apt(&["update"])) {
        // One broken source of several is no reason to give up.
        eprintln!("{error:#}");
    }
    let mut command = apt(&[
        "install",
        "--yes",
        "--no-install-recommends",
        "--no-remove",
        "--no-upgrade",
    ]);
    command.args(&packages);
    let brings_nginx = packages.iter().any(|package| package.starts_with("nginx"));
    let quiet = brings_nginx.then(ServiceKeptDown::new);
    let installed = step::run(&format!("installing {}", packages.join(" ")), command);
    drop(quiet);
    match installed {
        Ok(()) => Ok(()),
        Err(error) => bail!(
            "{}\n{error:#}",
            needs::describe(missing, "and apt-get failed (below)")
        ),
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new(APT);
    command
        .args(["--quiet", "--option", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Ubuntu's needrestart would restart services that use a library that is new.
        .env("NEEDRESTART_SUSPEND", "1")
        // invoke-rc.d of init systems with runlevels starts nothing in single-user mode.
        .env("RUNLEVEL", "1");
    command
}

/// Keeps nginx's new service from starting while its packages are installed, and from starting
/// at the next boot.
struct ServiceKeptDown {
    systemd: bool,
}

impl ServiceKeptDown {
    fn new() -> Self {
        // As sd_booted(3) has it.
        let systemd = Path::new("/run/systemd/system").is_dir();
        if systemd {
            // deb-systemd-invoke and invoke-rc.d start no masked unit. `--runtime` writes below
            // /run alone.
            try_run("systemctl", &["mask", "--runtime", "nginx.service"]);
        }
        Self { systemd }
    }
}

impl Drop for ServiceKeptDown {
    fn drop(&mut self) {
        if self.systemd {
            try_run("systemctl", &["unmask", "--runtime", "nginx.service"]);
            try_run("systemctl", &["disable", "nginx.service"]);
        } else {
            try_run("/usr/sbin/update-rc.d", &["nginx", "disable"]);
        }
    }
}

/// The packages serve without it, so that a failure is said and not more.
fn try_run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).status();
    if !done.is_ok_and(|status| status.success()) {
        eprintln!("`{program} {}` failed", arguments.join(" "));
    }
}
