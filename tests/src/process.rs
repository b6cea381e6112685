//! Children that die with the thread that started them.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use crate::patience::wait_for;

/// A running child; it is killed and reaped when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
}

impl Process {
    /// Starts `command` so that the kernel kills it when the calling thread ends.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let what = format!("{command:?}");
        die_with_parent(command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        Ok(Self { child, what })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends `signal`.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(to_pid(self.pid())?, signal)
            .with_context(|| format!("cannot send {signal} to {}", self.what))
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    ///
    /// It still runs after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.what);
        wait_for(&what, deadline, || Ok(self.child.try_wait()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where the child has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end.
///
/// # Errors
///
/// It cannot be started or does not succeed; its standard error is in the message.
pub fn run(command: &mut Command) -> Result<Output> {
    let what = format!("{command:?}");
    let output = command
        .output()
        .with_context(|| format!("cannot start {what}"))?;
    ensure!(
        output.status.success(),
        "{what} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

/// Name of the signal that ended a process, such as `SIGKILL`.
pub fn signal_name(status: ExitStatus) -> Option<&'static str> {
    let number = status.signal()?;
    Signal::try_from(number).ok().map(Signal::as_str)
}

/// A pid as the system calls want it.
///
/// # Errors
///
/// No pid is that large.
pub fn to_pid(pid: u32) -> Result<Pid> {
    match i32::try_from(pid) {
        Ok(pid) => Ok(Pid::from_raw(pid)),
        Err(_) => bail!("{pid} is no process id"),
    }
}

fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: prctl and getppid are async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the call above.
            if getppid() != parent {
                return Err(std::io::Error::other("the parent has died"));
            }
            Ok(())
        });
    }
}
