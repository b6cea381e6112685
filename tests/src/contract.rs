//! The events as the contract describes them, written down a second time: a field that is
//! renamed, retyped or lost in the tool fails here.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// One line of output.
#[derive(Debug, Clone)]
pub enum Event {
    Session(Session),
    Failure(Box<Failure>),
    Recovery(Recovery),
    Loss(Loss),
    End(End),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    pub version: String,
    pub kernel: String,
    pub probes: Vec<Probe>,
    pub nginx: Vec<Instance>,
    pub limits: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub observation: String,
    pub via: Option<String>,
    pub unavailable: Vec<Refused>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    pub candidate: String,
    pub reason: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub master_pid: Option<u32>,
    pub workers: Vec<u32>,
    pub exe: Option<String>,
    pub config: Option<String>,
    pub netns: u64,
    pub container: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub time: String,
    pub count: u64,
    pub nginx: Nginx,
    pub upstream: Upstream,
    pub attempt: Attempt,
    pub verdict: Verdict,
    pub rule: Option<Rule>,
    pub listener: Option<Listener>,
    pub candidates: Vec<Candidate>,
    pub request: Option<Request>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nginx {
    pub pid: u32,
    pub master_pid: Option<u32>,
    pub exe: Option<String>,
    pub config: Option<String>,
    pub netns: u64,
    pub container: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    pub address: Option<String>,
    pub name: Option<String>,
    pub server: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    pub family: String,
    pub local: Option<String>,
    pub remote: Option<String>,
    pub started: String,
    pub duration_us: u64,
    pub errno: Option<String>,
    pub surface: String,
    pub translated_to: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    pub code: String,
    pub confidence: String,
    pub summary: String,
    pub because: Vec<String>,
    pub ruled_out: Vec<RuledOut>,
    pub missing: Vec<String>,
    pub fix: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuledOut {
    pub code: String,
    pub why: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub backend: String,
    pub family: String,
    pub table: String,
    pub chain: String,
    pub base_chain: Option<String>,
    pub handle: Option<u64>,
    pub position: Option<u64>,
    #[serde(default)]
    pub policy: bool,
    pub hook: String,
    pub action: String,
    pub text: String,
    pub comment: Option<String>,
    pub manager: Option<String>,
    pub netns: u64,
    #[serde(default)]
    pub alternatives: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub address: String,
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    pub unit: Option<String>,
    pub container: Option<String>,
    pub netns: u64,
    pub ended: Option<Ended>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    pub time: String,
    pub how: String,
    pub status: Option<i32>,
    pub signal: Option<String>,
    pub core: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    pub address: String,
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    pub unit: Option<String>,
    pub netns: u64,
    pub container: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub client: Option<String>,
    pub server: Option<String>,
    pub request: Option<String>,
    pub upstream: Option<String>,
    pub host: Option<String>,
    pub referrer: Option<String>,
    pub connection: Option<u64>,
    pub log_line: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    pub upstream: Upstream,
    pub down_for_ms: u64,
    pub failures: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    #[serde(rename = "where")]
    pub place: String,
    pub what: String,
    pub count: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    pub verdicts: BTreeMap<String, u64>,
    pub upstreams: BTreeMap<String, u64>,
    pub losses: Vec<Loss>,
}

impl Event {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// It is not an event as the contract has it.
    pub fn read(line: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        Self::from_value(value).with_context(|| format!("breaks the contract: {line}"))
    }

    fn from_value(mut value: Value) -> Result<Self> {
        let object = value.as_object_mut().context("no object")?;
        let kind = take(object, "event")?;
        let schema = take(object, "schema")?;
        ensure!(schema == "whyrefused/1", "schema is {schema:?}");
        ensure!(!take(object, "host")?.is_empty(), "host is empty");
        let time = take(object, "time")?;
        moment(&time)?;
        // Of the common fields only a failure's time matters to what is asked of it.
        if kind == "failure" {
            object.insert("time".to_owned(), time.into());
        }
        Ok(match kind.as_str() {
            "session" => Self::Session(serde_json::from_value(value)?),
            "failure" => Self::Failure(serde_json::from_value(value)?),
            "recovery" => Self::Recovery(serde_json::from_value(value)?),
            "loss" => Self::Loss(serde_json::from_value(value)?),
            "end" => Self::End(serde_json::from_value(value)?),
            other => bail!("{other:?} is no kind of event"),
        })
    }
}

/// Reads a time as the contract has it: RFC 3339, UTC, nanoseconds.
///
/// # Errors
///
/// It is written otherwise.
pub fn moment(text: &str) -> Result<jiff::Timestamp> {
    let nanoseconds = text.strip_suffix('Z').and_then(|rest| rest.split_once('.'));
    let digits = nanoseconds.map_or(0, |(_, fraction)| fraction.len());
    ensure!(
        digits == 9,
        "{text:?} is not RFC 3339 in UTC with nanoseconds"
    );
    text.parse().with_context(|| format!("{text:?} is no time"))
}

fn take(object: &mut serde_json::Map<String, Value>, field: &str) -> Result<String> {
    match object.remove(field) {
        Some(Value::String(text)) => Ok(text),
        other => bail!("{field} is {other:?}, not a string"),
    }
}
