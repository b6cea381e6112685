//! Backends that break on demand: the fixture binary, from the test's side.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

use crate::host;
use crate::namespace::Namespace;
use crate::patience::SOON;
use crate::process::Process;
use crate::scratch;

/// A running fixture.
#[derive(Debug)]
pub struct Backend {
    process: Process,
    /// Where it may drop core.
    _directory: tempfile::TempDir,
}

impl Backend {
    /// Listens on `address` inside `namespace` and answers HTTP.
    ///
    /// # Errors
    ///
    /// The address is taken or is not there.
    pub fn listen(namespace: &Namespace, address: &str) -> Result<Self> {
        Self::start(namespace, &["tcp", address])
    }

    /// Starts the fixture with arguments of its own, see `backend --help`.
    ///
    /// # Errors
    ///
    /// It does not get ready.
    pub fn start(namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        Self::start_program(namespace, &host::fixture()?, arguments)
    }

    /// The same with a copy of the fixture, whose file name is the name of its process.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_program(
        namespace: &Namespace,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let directory = scratch::directory("backend-")?;
        let mut command = namespace.command(program);
        command
            .args(arguments)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let process = Process::start(&mut command)?;
        let mut backend = Self {
            process,
            _directory: directory,
        };
        let line = backend.answer()?;
        ensure!(
            line == "ready",
            "the backend {arguments:?} said {line:?} instead of `ready`"
        );
        Ok(backend)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lets it drop core when a signal ends it, or forbids it.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn allow_core(&self, allowed: bool) -> Result<()> {
        let size = if allowed { libc::RLIM_INFINITY } else { 0 };
        let limits = libc::rlimit {
            rlim_cur: size,
            rlim_max: size,
        };
        let pid = crate::process::to_pid(self.pid())?;
        // SAFETY: the pointer is to a live rlimit and the old limits are not asked for.
        let done = unsafe {
            libc::prlimit(
                pid.as_raw(),
                libc::RLIMIT_CORE,
                &limits,
                std::ptr::null_mut(),
            )
        };
        nix::errno::Errno::result(done).context("cannot limit the backend's core file")?;
        Ok(())
    }

    /// Gives it a command that it confirms: `close`.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn order(&mut self, command: &str) -> Result<()> {
        self.tell(command)?;
        let line = self.answer()?;
        ensure!(
            line == "done",
            "the backend answered {line:?} to {command:?}"
        );
        Ok(())
    }

    /// Gives it a command that ends it (`exit 3`, `segv`, `abort`, `eat`) and waits for its end.
    ///
    /// # Errors
    ///
    /// It is gone already or does not end.
    pub fn end_by(&mut self, command: &str) -> Result<ExitStatus> {
        self.tell(command)?;
        self.process.wait(SOON)
    }

    fn tell(&mut self, command: &str) -> Result<()> {
        let pipe = self.process.child().stdin.as_mut();
        writeln!(
            pipe.context("the backend has no standard input")?,
            "{command}"
        )
        .with_context(|| format!("cannot tell the backend to {command}"))
    }

    fn answer(&mut self) -> Result<String> {
        read_line(self.process.child())
    }
}

/// The next line of a child's standard output; fixtures write one line at a time.
pub(crate) fn read_line(child: &mut Child) -> Result<String> {
    let pipe = child
        .stdout
        .as_mut()
        .context("the fixture has no standard output")?;
    let mut line = String::new();
    BufReader::with_capacity(1, pipe).read_line(&mut line)?;
    ensure!(
        line.ends_with('\n'),
        "the fixture ended before it said a whole line"
    );
    Ok(line.trim_end().to_owned())
}
