//! What users read: events for people and for programs, their schema, and the explain pages.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod cases;
mod doctor;
mod events;
mod explain;
mod human;
mod identity;
mod json;
mod sink;
