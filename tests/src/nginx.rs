//! A real nginx inside a namespace.

mod config;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};

pub use self::config::{Config, DOOR, Upstream};

use crate::client::{self, Response};
use crate::guard::Guard;
use crate::host::Host;
use crate::namespace::Namespace;
use crate::patience::{SOON, wait_for};
use crate::process::{Process, to_pid};
use crate::scratch;

/// A running nginx. It and its workers are killed when this is dropped, or when the test is.
#[derive(Debug)]
pub struct Nginx {
    master: Process,
    directory: tempfile::TempDir,
    config: Config,
    _guard: Guard,
}

impl Nginx {
    /// Starts nginx inside `namespace` and waits until its workers answer.
    ///
    /// # Errors
    ///
    /// nginx refuses its configuration or does not come up.
    pub fn start(host: &Host, namespace: &Namespace, config: &Config) -> Result<Self> {
        let directory = scratch::directory("nginx-")?;
        // The workers are somebody else and must get in.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        config.write(directory.path())?;
        let mut command = namespace.command(&host.nginx);
        command
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(config_path(directory.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("stderr.log"))?)
            .process_group(0);
        if let Some(confinement) = config.confinement {
            confinement.confine(&mut command)?;
        }
        if let Some(names) = &config.names {
            names.show_to(&mut command)?;
        }
        let master = Process::start(&mut command)?;
        // dash takes no `--` here.
        let guard = Guard::new("kill -KILL -$1", &[&master.pid().to_string()])?;
        let mut nginx = Self {
            master,
            directory,
            config: config.clone(),
            _guard: guard,
        };
        nginx.wait_until_it_answers(namespace)?;
        Ok(nginx)
    }

    pub fn pid(&self) -> u32 {
        self.master.pid()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of its configuration.
    pub fn config_path(&self) -> PathBuf {
        config_path(self.directory.path())
    }

    /// The pids of its workers that are not shutting down.
    ///
    /// # Errors
    ///
    /// The master is gone.
    pub fn workers(&self) -> Result<Vec<u32>> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .context("nginx is gone")?;
        Ok(children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
            .filter(|child| {
                fs::read_to_string(format!("/proc/{child}/cmdline"))
                    .is_ok_and(|title| title.trim_end_matches('\0').ends_with("worker process"))
            })
            .collect())
    }

    /// Sends one request that goes to the upstream `name`.
    ///
    /// # Errors
    ///
    /// nginx does not answer.
    pub fn get(&self, namespace: &Namespace, name: &str) -> Result<Response> {
        client::get(namespace, self.config.door, &path_to(name))
    }

    /// Sends one request and does not wait for its response.
    ///
    /// # Errors
    ///
    /// nginx does not accept it.
    pub fn send(&self, namespace: &Namespace, name: &str) -> Result<TcpStream> {
        client::send(namespace, self.config.door, &path_to(name))
    }

    /// The path of its error log.
    pub fn error_log(&self) -> PathBuf {
        self.directory.path().join("error.log")
    }

    /// The lines of the error log that say why a request failed.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn errors(&self) -> Result<Vec<String>> {
        let text = fs::read(self.error_log())?;
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| line.contains(", client: "))
            .map(str::to_owned)
            .collect())
    }

    /// Loads `config` in place of the present one.
    ///
    /// # Errors
    ///
    /// nginx is gone, or does not start new workers.
    pub fn reload(&mut self, config: &Config) -> Result<()> {
        let before = self.workers()?;
        config.write(self.directory.path())?;
        self.config = config.clone();
        self.master.signal(Signal::SIGHUP)?;
        wait_for("new workers", SOON, || {
            let now = self.workers()?;
            let renewed =
                now.len() == self.config.workers && !now.iter().any(|pid| before.contains(pid));
            Ok(renewed.then_some(()))
        })
    }

    fn wait_until_it_answers(&mut self, namespace: &Namespace) -> Result<()> {
        wait_for("nginx to answer", SOON, || {
            if self.master.child().try_wait()?.is_some() {
                bail!("nginx did not start: {}", self.complaints());
            }
            if self.workers()?.len() < self.config.workers {
                return Ok(None);
            }
            Ok(client::get(namespace, self.config.door, "/ready").ok())
        })
        .map(drop)
    }

    fn complaints(&self) -> String {
        ["stderr.log", "error.log"]
            .map(|name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default())
            .concat()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Workers outlive a master that is killed; the group has no others in it.
        if let Ok(group) = to_pid(self.pid()) {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The path of a request that nginx passes to the upstream `name`.
pub fn path_to(name: &str) -> String {
    format!("/{name}/page")
}

fn config_path(directory: &Path) -> PathBuf {
    directory.join("nginx.conf")
}
