//! Unix sockets: every way in which `connect()` refuses, and its twins.

macro_rules! staged {
    () => {
        match super::stage()? {
            Some(stage) => stage,
            None => return Ok(()),
        }
    };
}

mod backlog;
mod kinds;
mod listeners;
mod missing;
mod paths;
mod permission;
mod places;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use whyrefused_tests::backend::Backend;
use whyrefused_tests::contract::Failure;
use whyrefused_tests::host::Host;
use whyrefused_tests::namespace::Namespace;
use whyrefused_tests::nginx::Config;
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
