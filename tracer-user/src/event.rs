//! The events that users script against, version `whyrefused/1`.
//!
//! Fields may be added; a field that stands here keeps its name, its meaning and its type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verdict::{Code, Verdict};

/// The version of the schema that every event names.
pub const SCHEMA: &str = "whyrefused/1";

/// One line of output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    Session(Session),
    Failure(Box<Failure>),
    Recovery(Recovery),
    Loss(Loss),
    End(End),
}

/// Written once every probe is attached and the first snapshot of the host is taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    pub schema: String,
    /// RFC 3339, UTC, nanoseconds.
    pub time: String,
    pub host: String,
    pub version: String,
    pub kernel: String,
    pub probes: Vec<ProbeReport>,
    pub nginx: Vec<NginxInstance>,
    /// What this host cannot show, in words.
    pub limits: Vec<String>,
}

/// By what means one observation is made, and which better means were refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeReport {
    pub observation: String,
    /// The means in use; null where none could be attached.
    pub via: Option<String>,
    pub unavailable: Vec<RefusedCandidate>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedCandidate {
    pub candidate: String,
    pub reason: String,
}

/// One nginx master with its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NginxInstance {
    /// The master's pid in the pid namespace of this tool; null where workers run without one.
    pub master_pid: Option<u32>,
    pub workers: Vec<u32>,
    pub exe: Option<String>,
    pub config: Option<String>,
    pub netns: u64,
    pub container: Option<String>,
}

/// One failed attempt, or several identical ones folded together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    pub schema: String,
    /// When the (first) attempt failed: RFC 3339, UTC, nanoseconds.
    pub time: String,
    pub host: String,
    /// How many attempts this event stands for.
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

/// The worker that dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Nginx {
    pub pid: u32,
    pub master_pid: Option<u32>,
    pub exe: Option<String>,
    pub config: Option<String>,
    pub netns: u64,
    pub container: Option<String>,
}

/// The server that nginx dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Upstream {
    /// `a.b.c.d:port`, `[v6]:port` or `unix:/path`, as nginx dialled it; null where it failed
    /// before it dialled and its error log does not say whom it meant to.
    pub address: Option<String>,
    /// The upstream block's name.
    pub name: Option<String>,
    /// The file and line that configure it.
    pub server: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    pub family: Family,
    pub local: Option<String>,
    pub remote: Option<String>,
    /// RFC 3339, UTC, nanoseconds.
    pub started: String,
    pub duration_us: u64,
    /// The symbolic errno that reached nginx; null where none did.
    pub errno: Option<String>,
    pub surface: Surface,
    /// The real destination where NAT on this host changed it.
    pub translated_to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
    Unix,
}

/// Where nginx met the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    Connect,
    SoError,
    Bind,
    Socket,
    Recv,
    Send,
    /// nginx gave up waiting.
    Timer,
    /// nginx gave up because its client left.
    #[serde(rename = "client-abort")]
    ClientAbort,
    None,
}

/// The packet filter's rule that did it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// `nft`, `iptables-nft`, `iptables-legacy`.
    pub backend: String,
    pub family: String,
    pub table: String,
    pub chain: String,
    /// The chain at the hook, where jumps led from it to `chain`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handle: Option<u64>,
    /// One-based in its chain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<u64>,
    /// The chain's policy did it, no rule of it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub policy: bool,
    pub hook: String,
    pub action: String,
    /// As its owner's tool prints it.
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// The program that makes the rule and would put it back, such as `ufw`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manager: Option<String>,
    pub netns: u64,
    /// Other rules that fit as well, the likeliest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub alternatives: Vec<Rule>,
}

/// The socket that should have answered, or that did until it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// RFC 3339, UTC, nanoseconds.
    pub time: String,
    pub how: How,
    /// Exit status, where the process exited by itself.
    pub status: Option<i32>,
    /// Name of the signal that ended the process, such as `SIGKILL`.
    pub signal: Option<String>,
    /// Whether the signal dumped core.
    pub core: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    Exited,
    Killed,
    OomKilled,
    Closed,
}

/// A listener that nginx may have been meant to dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    pub address: String,
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    pub unit: Option<String>,
    pub netns: u64,
    pub container: Option<String>,
}

/// What nginx's own error log says of the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    pub client: Option<String>,
    pub server: Option<String>,
    pub request: Option<String>,
    pub upstream: Option<String>,
    pub host: Option<String>,
    pub referrer: Option<String>,
    /// The number behind `*` in the line: nginx's number of the client's connection.
    pub connection: Option<u64>,
    pub log_line: String,
}

/// An upstream address that had failed accepts again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recovery {
    pub schema: String,
    pub time: String,
    pub host: String,
    pub upstream: Upstream,
    /// From the first failure since it last accepted to the first connection that stood, in milliseconds.
    pub down_for_ms: u64,
    /// How many attempts failed in that time.
    pub failures: u64,
}

/// Evidence that was lost, so that output which looks complete and is not says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    pub schema: String,
    pub time: String,
    pub host: String,
    #[serde(rename = "where")]
    pub place: String,
    pub what: String,
    pub count: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    pub schema: String,
    pub time: String,
    pub host: String,
    /// Failed attempts, by verdict code.
    pub verdicts: std::collections::BTreeMap<Code, u64>,
    /// Failed attempts, by upstream address.
    pub upstreams: std::collections::BTreeMap<String, u64>,
    pub losses: Vec<Lost>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    #[serde(rename = "where")]
    pub place: String,
    pub what: String,
    pub count: u64,
}
