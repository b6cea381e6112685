//! One boot of a guest: from its images to the exit code of its payload.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::flavour::Flavour;
use super::kernel::Bootable;

/// Longer than any guest took from its start to the first line of its payload, by far.
const BOOT: Duration = Duration::from_secs(120);

/// How many of the console's last lines are shown of a guest that was ended.
const LINES_OF_CONSOLE: usize = 60;

/// What `payload.sh` writes before the payload and behind it.
const UP: &str = "guest: ";
const EXIT_CODE: &str = "guest: exit code ";

/// Emulation alone: no hardware acceleration is needed. One processor, since some kernels were
/// seen to fail with two under emulation.
const MACHINE: [&str; 16] = [
    "-accel",
    "tcg",
    "-cpu",
    "max",
    "-machine",
    "q35",
    "-smp",
    "1",
    "-m",
    "2048",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-append",
];

const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on \
    tsc=reliable no_timer_check";

/// A guest before its boot.
pub struct Guest<'a> {
    pub bootable: &'a Bootable,
    pub flavour: Flavour,
    pub root: &'a Path,
    pub payload: &'a Path,
    /// Where the console is written.
    pub console: PathBuf,
    /// How long it may run, its boot included.
    pub deadline: Duration,
}

impl Guest<'_> {
    /// Boots it, gives every line that the payload writes to `each`, and returns the payload's
    /// exit code.
    ///
    /// # Errors
    ///
    /// It does not boot, ends before its payload, or has not ended by its deadline; then it is
    /// ended, and the message has the last lines of its console.
    pub fn run(&self, mut each: impl FnMut(&str)) -> Result<i32> {
        let started = Instant::now();
        let mut machine = Machine(
            self.command()
                .spawn()
                .context("cannot run qemu-system-x86_64")?,
        );
        let lines = machine.lines().context("qemu has no output")?;
        let mut up = false;
        let mut code = None;
        loop {
            let limit = if up { self.deadline } else { BOOT };
            let left = limit.saturating_sub(started.elapsed());
            match lines.recv_timeout(left) {
                Ok(line) if line.starts_with(EXIT_CODE) => {
                    code = line[EXIT_CODE.len()..].trim().parse().ok();
                }
                Ok(line) => {
                    up |= line.starts_with(UP);
                    each(&line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if code.is_some() => break,
                Err(RecvTimeoutError::Timeout) => {
                    let what = if up { "did not end" } else { "did not boot" };
                    bail!("the guest {what} in {limit:?}; {}", self.last_words());
                }
            }
        }
        match code {
            Some(code) => Ok(code),
            None => bail!("the guest ended before its payload; {}", self.last_words()),
        }
    }

    fn command(&self) -> Command {
        // It ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        let command_line = format!("{COMMAND_LINE} {}", self.flavour.command_line());
        command.args(MACHINE).arg(command_line);
        command.arg("-kernel").arg(&self.bootable.vmlinux);
        command.arg("-initrd").arg(&self.bootable.initramfs);
        for image in [self.root, &self.bootable.modules, self.payload] {
            let image = image.display();
            command.args([
                "-drive",
                &format!("file={image},if=virtio,format=raw,readonly=on"),
            ]);
        }
        command
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn last_words(&self) -> String {
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES_OF_CONSOLE)..];
        format!("its console ends with:\n{}", last.join("\n"))
    }
}

/// A running emulator; dropping it ends it.
struct Machine(Child);

impl Machine {
    /// What comes over its second serial port.
    fn lines(&mut self) -> Option<Receiver<String>> {
        let output = self.0.stdout.take()?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(receiver)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
