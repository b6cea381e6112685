//! Clears away what would outlive a killed test.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Runs a shell script once the process that made the guard has died; a guard that is dropped
/// runs nothing.
///
/// The shell waits on a pipe whose other end only the maker holds: the kernel closes it however
/// the maker ends.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
}

impl Guard {
    /// `script` sees `arguments` as `$1` and so on.
    ///
    /// # Errors
    ///
    /// There is no `sh`.
    pub fn new(script: &str, arguments: &[&str]) -> Result<Self> {
        let shell = Command::new("sh")
            .arg("-c")
            .arg(format!("trap '' HUP INT TERM; cat >/dev/null; {script}"))
            .arg("guard")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the whole group of the maker.
            .process_group(0)
            .spawn()
            .context("cannot start sh as a guard")?;
        Ok(Self { shell })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // `cat` has the shell's end of the pipe and ends once ours is closed, after the shell.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
