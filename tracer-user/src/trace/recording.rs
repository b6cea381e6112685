//! Keeps cases, so that their diagnosis can be repeated anywhere.

use std::{fs::File, io::Write, path::Path};

use crate::{
    case::Case,
    sinks::{OutputError, file},
};

/// A file of cases, one JSON object a line: what `tests/replay` holds under `case`.
pub struct Recording {
    file: Option<File>,
}

impl Recording {
    /// Opens the file as `--output` would.
    pub fn open(path: &Path) -> Result<Self, OutputError> {
        Ok(Self {
            file: Some(file(path)?),
        })
    }

    /// Adds a case. Where that fails the recording ends, and the trace goes on.
    pub fn write(&mut self, case: &Case) {
        let Some(file) = &mut self.file else {
            return;
        };
        let written = serde_json::to_vec(case)
            .map_err(std::io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                file.write_all(&line)
            });
        if let Err(error) = written {
            log::warn!("the recording of cases ends here: {error}");
            self.file = None;
        }
    }
}
