//! Runs a tool of the host inside a network namespace.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::host::netns::{Namespace, NetnsError, within};

/// A listing of 10,000 rules takes a fraction of this.
const PATIENCE: Duration = Duration::from_secs(3);

/// Some 100 bytes for each rule of a large ruleset.
const OUTPUT: u64 = 32 << 20;

/// Where distributions have nft and iptables. The caller's own search path may lead anywhere.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/run/current-system/sw/bin";

#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    #[error("cannot run {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("cannot read what {program} prints: {source}")]
    Output { program: String, source: io::Error },
    #[error("{program} did not end within {} s", PATIENCE.as_secs())]
    Hangs { program: String },
    #[error("{program} printed more than {} MiB", OUTPUT >> 20)]
    TooMuch { program: String },
    #[error("{program} failed: {status}")]
    Failed { program: String, status: ExitStatus },
    #[error("no tool is known that lists {0}")]
    NoTool(&'static str),
    #[error("what {program} prints are not the rules that the kernel has")]
    Mismatch { program: &'static str },
}

/// Whether `program` is installed where it would be looked for.
pub fn is_installed(program: &str) -> bool {
    std::env::split_paths(PATH).any(|place| place.join(program).is_file())
}

/// What `program` prints. What is not UTF-8 is replaced.
pub fn run(namespace: &Namespace, program: &str, arguments: &[&str]) -> Result<String, ToolError> {
    let deadline = Instant::now() + PATIENCE;
    // A child is born in the namespaces of the thread that starts it (copy_namespaces).
    let mut child = within(namespace, || {
        Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    })?
    .map_err(|source| ToolError::Start {
        program: program.to_owned(),
        source,
    })?;
    let listened = listen(&mut child, program, deadline);
    if listened.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = wait(&mut child, program, deadline);
    let output = listened?;
    match status? {
        status if status.success() => Ok(String::from_utf8_lossy(&output).into_owned()),
        status => Err(ToolError::Failed {
            program: program.to_owned(),
            status,
        }),
    }
}

/// Everything that it prints until it closes its output.
fn listen(child: &mut Child, program: &str, deadline: Instant) -> Result<Vec<u8>, ToolError> {
    let failed = |source| ToolError::Output {
        program: program.to_owned(),
        source,
    };
    let Some(mut pipe) = child.stdout.take() else {
        return Err(failed(io::ErrorKind::BrokenPipe.into()));
    };
    let mut output = Vec::new();
    let mut chunk = [0; 64 << 10];
    loop {
        if !readable(&pipe, deadline).map_err(failed)? {
            return Err(ToolError::Hangs {
                program: program.to_owned(),
            });
        }
        let length = pipe.read(&mut chunk).map_err(failed)?;
        if length == 0 {
            return Ok(output);
        }
        output.extend_from_slice(&chunk[..length]);
        if output.len() as u64 > OUTPUT {
            return Err(ToolError::TooMuch {
                program: program.to_owned(),
            });
        }
    }
}

/// False once the deadline has passed.
fn readable(pipe: &ChildStdout, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut descriptors = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, timeout) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// It has closed its output or was killed: it ends in a moment, or is killed at the deadline.
fn wait(child: &mut Child, program: &str, deadline: Instant) -> Result<ExitStatus, ToolError> {
    const PAUSE: Duration = Duration::from_millis(1);
    let failed = |source| ToolError::Output {
        program: program.to_owned(),
        source,
    };
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        std::thread::sleep(PAUSE);
    }
    let _ = child.kill();
    child.wait().map_err(failed)
}
