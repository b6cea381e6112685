//! A running whyrefused.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jsonschema::Validator;
use nix::sys::signal::Signal;

use crate::contract::{End, Event, Failure, Recovery, Session};
use crate::host::Host;
use crate::patience::{SOON, patiently};
use crate::process::{Process, run};
use crate::scratch;

/// A whyrefused that watches, with every event that it has written and nobody has asked for.
#[derive(Debug)]
pub struct Tracer {
    process: Process,
    lines: Receiver<String>,
    schema: Validator,
    session: Session,
    unclaimed: VecDeque<Event>,
    directory: tempfile::TempDir,
    /// From the start of the process to its `session` event.
    pub attached_in: Duration,
}

/// What it wrote at its end.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub end: Option<End>,
    /// Failures and losses that nobody asked for.
    pub unclaimed: Vec<Event>,
    pub stderr: String,
    /// From the signal to the end of the process.
    pub detached_in: Duration,
}

impl Tracer {
    /// Watches one nginx, with an event for every attempt.
    ///
    /// # Errors
    ///
    /// It does not attach.
    pub fn watch(host: &Host, master: u32) -> Result<Self> {
        Self::start(host, &["--coalesce", "0", "--pid", &master.to_string()])
    }

    /// Starts it with the given arguments and waits until it is attached.
    ///
    /// # Errors
    ///
    /// It does not attach.
    pub fn start(host: &Host, arguments: &[&str]) -> Result<Self> {
        let schema = schema(host)?;
        let directory = scratch::directory("tracer-")?;
        let stderr = File::create(said_in(&directory))?;
        let started = Instant::now();
        let mut process = Process::start(&mut trace(host, arguments, stderr))?;
        let stdout = process
            .child()
            .stdout
            .take()
            .context("no standard output")?;
        let lines = read_lines(stdout);
        let first = lines.recv_timeout(patiently(SOON));
        let attached_in = started.elapsed();
        let Ok(first) = first else {
            bail!(
                "no session event; it said: {}",
                std::fs::read_to_string(said_in(&directory))?
            );
        };
        let Event::Session(session) = checked(&schema, &first)? else {
            bail!("the first event is no session: {first}");
        };
        let unclaimed = VecDeque::new();
        Ok(Self {
            process,
            lines,
            schema,
            session,
            unclaimed,
            directory,
            attached_in,
        })
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// It sees which rules the kernel evaluates, which it must wherever there are kprobes.
    pub fn sees_rules(&self) -> bool {
        let mut probes = self.session.probes.iter();
        let rule = probes.find(|probe| probe.observation == "rule");
        let sees = rule.is_some_and(|probe| probe.via.is_some());
        let may_see = Path::new("/sys/bus/event_source/devices/kprobe").exists();
        assert_eq!(sees, may_see, "{rule:#?}");
        sees
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The next failure that `wanted` accepts; others stay for who asks for them.
    ///
    /// # Errors
    ///
    /// None comes before `deadline`; the message tells what came instead.
    pub fn failure(
        &mut self,
        deadline: Duration,
        wanted: impl Fn(&Failure) -> bool,
    ) -> Result<Failure> {
        self.next(deadline, |event| match event {
            Event::Failure(failure) if wanted(failure) => Some(failure.as_ref().clone()),
            _ => None,
        })
        .context("the awaited failure did not come")
    }

    /// The next recovery.
    ///
    /// # Errors
    ///
    /// None comes soon.
    pub fn recovery(&mut self) -> Result<Recovery> {
        self.next(SOON, |event| match event {
            Event::Recovery(recovery) => Some(recovery.clone()),
            _ => None,
        })
        .context("the awaited recovery did not come")
    }

    /// Stops it with `signal` and reads the rest.
    ///
    /// # Errors
    ///
    /// It does not end, or writes what is no event.
    pub fn stop(mut self, signal: Signal) -> Result<Finished> {
        let asked = Instant::now();
        self.process.signal(signal)?;
        self.finish(asked)
    }

    /// Waits until it ends by itself and reads the rest.
    ///
    /// # Errors
    ///
    /// As [`Self::stop`].
    pub fn finish(&mut self, asked: Instant) -> Result<Finished> {
        let status = self.process.wait(SOON)?;
        let detached_in = asked.elapsed();
        let mut end = None;
        while let Ok(line) = self.lines.recv() {
            ensure!(end.is_none(), "an event after the end: {line}");
            match checked(&self.schema, &line)? {
                Event::End(last) => end = Some(last),
                event => self.unclaimed.push_back(event),
            }
        }
        Ok(Finished {
            status,
            end,
            unclaimed: self.unclaimed.drain(..).collect(),
            stderr: std::fs::read_to_string(said_in(&self.directory))?,
            detached_in,
        })
    }

    fn next<T>(&mut self, deadline: Duration, wanted: impl Fn(&Event) -> Option<T>) -> Result<T> {
        let deadline = patiently(deadline);
        let until = Instant::now() + deadline;
        let mut seen = 0;
        loop {
            while let Some(event) = self.unclaimed.get(seen) {
                if let Some(answer) = wanted(event) {
                    self.unclaimed.remove(seen);
                    return Ok(answer);
                }
                seen += 1;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.unclaimed.push_back(checked(&self.schema, &line)?),
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "nothing for {deadline:?}; came instead: {:#?}",
                        self.unclaimed
                    )
                }
                Err(RecvTimeoutError::Disconnected) => bail!(
                    "it ended; came instead: {:#?}; it said: {}",
                    self.unclaimed,
                    std::fs::read_to_string(said_in(&self.directory))?
                ),
            }
        }
    }
}

/// Where its standard error goes.
fn said_in(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("stderr")
}

/// The command line of a tracer that writes JSON.
fn trace(host: &Host, arguments: &[&str], stderr: File) -> Command {
    let mut command = Command::new(&host.whyrefused);
    command
        .args(["trace", "--format", "json"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    command
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The schema that the tool itself publishes.
fn schema(host: &Host) -> Result<Validator> {
    let printed = run(Command::new(&host.whyrefused).arg("schema"))?;
    let schema = serde_json::from_slice(&printed.stdout).context("the schema is no JSON")?;
    jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("no schema: {error}"))
}

/// Reads a line by the contract and by the tool's own schema.
fn checked(schema: &Validator, line: &str) -> Result<Event> {
    let event = Event::read(line)?;
    if let Err(error) = schema.validate(&serde_json::from_str(line)?) {
        bail!("breaks the tool's own schema: {error}: {line}");
    }
    Ok(event)
}
