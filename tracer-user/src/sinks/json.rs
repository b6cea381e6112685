//! One JSON object a line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::escape::is_unsafe;
use crate::event::Event;

/// The event as one line, its newline included.
pub fn line(event: &Event) -> Vec<u8> {
    let mut line = bytes(event);
    line.push(b'\n');
    line
}

/// Anything else as one line of JSON, its newline included.
pub fn text(value: &impl Serialize) -> String {
    let mut text = String::from_utf8_lossy(&bytes(value)).into_owned();
    text.push('\n');
    text
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2048);
    let mut serializer = Serializer::with_formatter(&mut bytes, TerminalSafe);
    if let Err(error) = value.serialize(&mut serializer) {
        // What is written here are structs with text for keys, and a vector takes every write.
        log::error!("a value could not be written as JSON: {error}");
        bytes.clear();
    }
    bytes
}

/// Compact JSON that also escapes what JSON allows raw and a terminal would obey: DEL, C1
/// controls and bidirectional overrides. The strings that a parser reads stay the same.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut characters = rest[at..].chars();
            if let Some(character) = characters.next() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Loss, SCHEMA};

    fn loss(what: &str) -> Event {
        Event::Loss(Loss {
            schema: SCHEMA.into(),
            time: "2026-11-22T06:10:00.000000000Z".into(),
            host: "edge".into(),
            place: "output".into(),
            what: what.into(),
            count: 1,
        })
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let line = String::from_utf8(line(&loss("\x1b\u{9b}\u{7f}\u{202e}\u{e0041}é"))).unwrap();
        assert!(
            line.contains(r#""what":"\u001b\u009b\u007f\u202e\udb40\udc41é""#),
            "{line}"
        );
    }

    proptest! {
        #[test]
        fn a_parser_reads_back_what_was_written(what in any::<String>()) {
            let event = loss(&what);
            let line = line(&event);
            let text = std::str::from_utf8(&line).unwrap();
            prop_assert!(!text.trim_end_matches('\n').chars().any(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<Event>(text).unwrap(), event);
        }
    }
}
