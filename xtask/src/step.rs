//! A long step shows that it lives: its name, the time it has taken, and the last line it wrote.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, PipeReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How many of its last lines a step that fails is reported with.
const LINES_OF_FAILURE: usize = 30;

/// How often a step says that it goes on, where there is no terminal.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Runs the command as a step of this name. It reads nothing.
///
/// # Errors
///
/// It cannot be started, or its status is not success; the message ends with its last lines.
pub fn run(name: &str, mut command: Command) -> Result<()> {
    let started = Instant::now();
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot make a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    // It holds our copies of the pipe's writing end, which would keep the pipe open.
    drop(command);

    let mut display = Display::new(name, started);
    let mut last = VecDeque::new();
    let status = follow(&mut child, &read_lines(reader), |line| {
        display.show(line);
        if let Some(line) = line {
            if last.len() == LINES_OF_FAILURE {
                last.pop_front();
            }
            last.push_back(line.to_owned());
        }
    })
    .with_context(|| format!("cannot wait for: {name}"))?;
    display.finish();

    if !status.success() {
        let last: Vec<_> = last.into();
        bail!("{name}: {status}; it wrote last:\n{}", last.join("\n"));
    }
    eprintln!("{name}: done in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Calls `each` for every line, and now and then with none, until the child has ended. A daemon
/// that it leaves behind may keep the pipe open: that is not waited for.
fn follow(
    child: &mut Child,
    lines: &Receiver<String>,
    mut each: impl FnMut(Option<&str>),
) -> io::Result<ExitStatus> {
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => each(Some(&line)),
            Err(RecvTimeoutError::Disconnected) => return child.wait(),
            Err(RecvTimeoutError::Timeout) => {
                each(None);
                if let Some(status) = child.try_wait()? {
                    return Ok(status);
                }
            }
        }
    }
}

fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A line that is redrawn on a terminal, and a line now and then elsewhere.
struct Display {
    bar: Option<ProgressBar>,
    started: Instant,
    last_sign: Instant,
    last_line: String,
}

impl Display {
    fn new(name: &str, started: Instant) -> Self {
        let bar = if io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            Some(bar)
        } else {
            eprintln!("{name} ...");
            None
        };
        Self {
            bar,
            started,
            last_sign: started,
            last_line: String::new(),
        }
    }

    fn show(&mut self, line: Option<&str>) {
        if let Some(line) = line {
            self.last_line = line.to_owned();
        }
        match &self.bar {
            Some(bar) => bar.set_message(self.last_line.clone()),
            None if self.last_sign.elapsed() >= SIGN_OF_LIFE => {
                self.last_sign = Instant::now();
                eprintln!(
                    "  {} s: {}",
                    self.started.elapsed().as_secs(),
                    self.last_line
                );
            }
            None => {}
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failing_step_is_reported_with_its_last_lines() {
        let error = run("step", shell("echo out; echo err >&2; exit 3")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("out\nerr"), "{error}");
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_is_not_waited_for() {
        let started = Instant::now();
        run("step", shell("sleep 20 & exit 0")).unwrap();
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
