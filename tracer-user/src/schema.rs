//! The JSON Schema of the events, generated from their types.

use schemars::Schema;

use crate::event::{Event, SCHEMA};

/// The schema (draft 2020-12) that every line of JSON output satisfies.
pub fn events() -> Schema {
    let mut schema = schemars::schema_for!(Event);
    schema.insert("title".to_owned(), SCHEMA.into());
    schema
}

/// The schema as indented JSON, ending with a newline.
pub fn text() -> String {
    // The alternate form of a JSON value is its indented one.
    format!("{:#}\n", events().to_value())
}
