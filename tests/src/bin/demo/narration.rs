//! What the demo puts on the screen.

use std::fs::File;
use std::io::{IsTerminal, Read, Write, stdout};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::pty::openpty;
use nix::sys::signal::Signal;
use whyrefused_tests::host::Host;
use whyrefused_tests::patience::{SOON, patiently};
use whyrefused_tests::process::Process;

use crate::situations::Situation;

/// The screen, and the tool whose words are relayed to it.
pub struct Narration {
    tool: Process,
    words: Receiver<Vec<u8>>,
    colour: bool,
    told: u32,
}

impl Narration {
    /// Attaches the tool to the nginx with this master and waits until it watches.
    pub fn begin(host: &Host, master: u32) -> Result<Self> {
        let mut command = Command::new(&host.whyrefused);
        command
            .args(["trace", "--format", "human", "--coalesce", "0"])
            .args(["--pid", &master.to_string()])
            .stdin(Stdio::null());
        let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (tool, output) = start(command)?;
        let mut narration = Self {
            tool,
            words: listen(output),
            colour,
            told: 0,
        };
        narration.say("A real nginx with broken upstreams, in namespaces of its own.\n")?;
        narration
            .relay(Duration::from_millis(300))
            .context("the tool did not attach")?;
        Ok(narration)
    }

    /// Says what is being broken.
    pub fn caption(&mut self, situation: &Situation) -> Result<()> {
        self.told += 1;
        let Situation {
            caption, address, ..
        } = situation;
        let number = self.told;
        let line = format!("{number}. {caption}");
        let line = self.bold(&line);
        self.say(&format!("{line}\n   Upstream {address}\n"))
    }

    /// Says why a situation cannot be shown.
    pub fn cannot(&mut self, error: &anyhow::Error) -> Result<()> {
        self.say(&format!("   (cannot be shown here: {error:#})\n"))
    }

    /// Shows what nginx itself has to say.
    pub fn nginx(&mut self, status: u16, line: Option<&str>) -> Result<()> {
        let line = line.map_or("nothing", message);
        self.say(&format!(
            "   The client got {status}; nginx's error log: {line}\n\n"
        ))
    }

    /// Relays the tool's words until it has said something and then nothing for `pause`.
    pub fn relay(&mut self, pause: Duration) -> Result<()> {
        let pause = patiently(pause);
        let mut patience = patiently(SOON);
        loop {
            match self.words.recv_timeout(patience) {
                Ok(words) => {
                    stdout().write_all(&words)?;
                    patience = pause;
                }
                Err(RecvTimeoutError::Timeout) => {
                    ensure!(patience == pause, "the tool said nothing for {patience:?}");
                    return Ok(stdout().flush()?);
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the tool has ended"),
            }
        }
    }

    /// Stops the tool and relays its last words.
    pub fn end(mut self, shown: u32) -> Result<()> {
        self.tool.signal(Signal::SIGINT)?;
        while let Ok(words) = self.words.recv_timeout(patiently(SOON)) {
            stdout().write_all(&words)?;
        }
        let status = self.tool.wait(SOON)?;
        ensure!(status.success(), "the tool ended with {status}");
        self.say(&format!(
            "{shown} broken upstreams; all of it is gone again.\n"
        ))
    }

    fn say(&self, text: &str) -> Result<()> {
        let mut screen = stdout().lock();
        screen.write_all(text.as_bytes())?;
        Ok(screen.flush()?)
    }

    fn bold(&self, text: &str) -> String {
        if self.colour {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The part of a log line that says what happened.
fn message(line: &str) -> &str {
    let text = line.split_once('*').map_or(line, |(_, rest)| rest);
    let text = text.split_once(' ').map_or(text, |(_, rest)| rest);
    text.split_once(", client: ").map_or(text, |(text, _)| text)
}

/// Starts the tool on a terminal of its own where ours is one, so that it shows itself as it
/// would to a person.
fn start(mut command: Command) -> Result<(Process, File)> {
    if stdout().is_terminal() {
        let terminal = openpty(&window_size()?, None).context("cannot make a terminal")?;
        let tool = Process::start(command.stdout(terminal.slave))?;
        // The command holds the last of our own handles to the terminal.
        drop(command);
        return Ok((tool, File::from(terminal.master)));
    }
    let mut tool = Process::start(command.stdout(Stdio::piped()))?;
    let output = tool.child().stdout.take().context("no standard output")?;
    Ok((tool, File::from(OwnedFd::from(output))))
}

/// The size of our terminal, so that the tool wraps its lines where we would.
fn window_size() -> Result<libc::winsize> {
    // SAFETY: a winsize of zeroes is valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize, which outlives the call.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    nix::errno::Errno::result(done).context("cannot ask for the size of the terminal")?;
    Ok(size)
}

fn listen(mut output: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut words = [0; 4096];
        // A terminal whose last user is gone reads as an error (EIO), which is its end.
        while let Ok(length @ 1..) = output.read(&mut words) {
            if sender.send(words[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}
