//! Where events go: rendered at once, written by a thread of their own.
//!
//! A reader that does not read, or a disk that is full, stops the writing thread and nothing
//! else. Events wait then, up to a bound; those past it are counted, and the count is told as a
//! `loss` event as soon as there is room again.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::{Format, Output, Settings};
use crate::event::{Event, Loss, Lost, SCHEMA};
use crate::report::timestamp_text;
use crate::terminal::Terminal;

pub mod human;
pub mod json;
mod open;
mod writer;

pub use open::{OutputError, file};
pub use writer::Written;

use writer::Writer;

/// The place in `loss` events that names this part of the tool.
const PLACE: &str = "output";

/// What events that found no room are called in `loss` events.
const WHAT: &str = "events that whoever reads the output did not take in time";

/// The output of a trace.
#[derive(Debug)]
pub struct Sink {
    format: Format,
    output: File,
    host: String,
    writer: Writer,
    /// Events that found no room, in all.
    refused: u64,
    /// Those of them that no `loss` event has told yet.
    untold: u64,
}

/// How the output of a trace ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub written: Written,
    /// Events that were not written, in all.
    pub lost: u64,
}

impl Sink {
    /// Opens the output that the settings name.
    ///
    /// # Errors
    /// The file cannot be opened or is not one that may be written to; standard output is closed.
    pub fn open(settings: &Settings, host: String) -> Result<Self, OutputError> {
        let output = match &settings.output {
            Output::Stdout => open::stdout()?,
            Output::File(path) => file(path)?,
        };
        Self::onto(output, settings.format, host).map_err(OutputError::Thread)
    }

    /// Writes to a file that is open already.
    ///
    /// # Errors
    /// The thread that writes cannot be started.
    pub fn onto(output: File, format: Format, host: String) -> io::Result<Self> {
        let writer = Writer::start(output.try_clone()?)?;
        Ok(Sink {
            format,
            output,
            host,
            writer,
            refused: 0,
            untold: 0,
        })
    }

    /// Hands an event to the writing thread; never waits for it. Tells how the writing went so
    /// far: a pipe that turns out closed is known a moment after the event that met it.
    pub fn write(&mut self, event: &Event) -> Written {
        if self.writer.has_room() {
            self.tell_losses();
            self.writer.push(&self.render(event));
        } else {
            self.refused += 1;
            self.untold += 1;
        }
        self.writer.written()
    }

    /// Returns when the reader of the output is found to have gone, which is noticed within half
    /// a second even where there is nothing to write.
    pub async fn reader_gone(&self) {
        self.writer.reader_gone().await;
    }

    /// What the output lost so far, for the `end` event.
    pub fn losses(&self) -> Option<Lost> {
        (self.refused > 0).then(|| Lost {
            place: PLACE.to_owned(),
            what: WHAT.to_owned(),
            count: self.refused,
        })
    }

    /// Writes the last event and waits, at most for `patience`, until everything is written.
    pub fn finish(mut self, end: &Event, patience: Duration) -> Finished {
        self.tell_losses();
        self.writer.push(&self.render(end));
        let (written, unwritten) = self.writer.finish(patience);
        Finished {
            written,
            lost: self.refused + unwritten,
        }
    }

    fn tell_losses(&mut self) {
        if self.untold > 0 {
            self.writer.push(&self.render(&self.loss()));
            self.untold = 0;
        }
    }

    fn render(&self, event: &Event) -> Vec<u8> {
        match self.format {
            Format::Json => json::line(event),
            Format::Human => human::text(event, &Terminal::behind(&self.output)).into_bytes(),
        }
    }

    fn loss(&self) -> Event {
        Event::Loss(Loss {
            schema: SCHEMA.to_owned(),
            time: timestamp_text(Timestamp::now()),
            host: self.host.clone(),
            place: PLACE.to_owned(),
            what: WHAT.to_owned(),
            count: self.untold,
        })
    }
}

impl Finished {
    /// 0 where the output is whole or its reader chose to leave or to wait, 2 where it could not
    /// be written.
    pub fn exit_status(&self) -> u8 {
        match self.written {
            Written::Done | Written::PipeClosed => 0,
            Written::Failed(_) => 2,
        }
    }
}

/// Whether events for people are the better default.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints a page to standard output; unlike `print!` it does not panic where nobody reads.
pub fn print(page: &str) -> Written {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(page.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Ok(()) => Written::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Written::PipeClosed,
        Err(error) => Written::Failed(error.to_string()),
    }
}
