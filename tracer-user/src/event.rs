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
    /// The beginning: what is watched, and by which means.
    Session(Session),
    /// A connection to an upstream that failed.
    Failure(Box<Failure>),
    /// An upstream that had failed accepts again.
    Recovery(Recovery),
    /// Evidence was lost.
    Loss(Loss),
    /// The end, with the totals.
    End(End),
}

/// Written once every probe is attached and the first snapshot of the host is taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// The version of the schema, `whyrefused/1`.
    pub schema: String,
    /// RFC 3339, UTC, nanoseconds.
    pub time: String,
    /// The name of this host.
    pub host: String,
    /// The version of this tool.
    pub version: String,
    /// The kernel's release, as `uname -r` says.
    pub kernel: String,
    /// By what means each observation is made.
    pub probes: Vec<ProbeReport>,
    /// The instances that were found.
    pub nginx: Vec<NginxInstance>,
    /// What this host cannot show, in words.
    pub limits: Vec<String>,
}

/// By what means one observation is made, and which better means were refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeReport {
    /// Its name, such as `packet-drop`.
    pub observation: String,
    /// The means in use; null where none could be attached.
    pub via: Option<String>,
    /// The better means, and why each was refused.
    pub unavailable: Vec<RefusedCandidate>,
}

/// A means that was not to be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedCandidate {
    /// The means, such as `fentry:__sys_connect`.
    pub candidate: String,
    /// What the kernel said.
    pub reason: String,
}

/// One nginx master with its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NginxInstance {
    /// The master's pid in the pid namespace of this tool; null where workers run without one.
    pub master_pid: Option<u32>,
    /// The pids of its workers.
    pub workers: Vec<u32>,
    /// The path of its program.
    pub exe: Option<String>,
    /// The configuration file that it reads.
    pub config: Option<String>,
    /// The number of its network namespace, as `/proc/PID/ns/net` has it.
    pub netns: u64,
    /// The id of its container, where it runs in one.
    pub container: Option<String>,
}

/// One failed attempt, or several identical ones folded together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The version of the schema, `whyrefused/1`.
    pub schema: String,
    /// When the (first) attempt failed: RFC 3339, UTC, nanoseconds.
    pub time: String,
    /// The name of this host.
    pub host: String,
    /// How many attempts this event stands for.
    pub count: u64,
    /// The worker that dialled.
    pub nginx: Nginx,
    /// The server that it dialled.
    pub upstream: Upstream,
    /// What nginx tried, and what it met.
    pub attempt: Attempt,
    /// Why it failed.
    pub verdict: Verdict,
    /// The packet filter's rule that did it, where one did.
    pub rule: Option<Rule>,
    /// The socket that should have answered, or that did until it ended.
    pub listener: Option<Listener>,
    /// Listeners that nginx may have been meant to dial, the best first.
    pub candidates: Vec<Candidate>,
    /// What nginx's own error log says of it; null where that is not to be had.
    pub request: Option<Request>,
}

/// The worker that dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Nginx {
    /// Its pid in the pid namespace of this tool.
    pub pid: u32,
    /// Its master's pid.
    pub master_pid: Option<u32>,
    /// The path of its program.
    pub exe: Option<String>,
    /// The configuration file that it reads.
    pub config: Option<String>,
    /// The number of its network namespace, as `/proc/PID/ns/net` has it.
    pub netns: u64,
    /// The id of its container, where it runs in one.
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

/// What nginx tried, and what it met.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// The family of the socket.
    pub family: Family,
    /// nginx's own address, `address:port`; null where it had none.
    pub local: Option<String>,
    /// The address that it dialled, `address:port`; null for Unix sockets.
    pub remote: Option<String>,
    /// RFC 3339, UTC, nanoseconds.
    pub started: String,
    /// From the call to the failure, in microseconds.
    pub duration_us: u64,
    /// The symbolic errno that reached nginx; null where none did.
    pub errno: Option<String>,
    /// Where nginx met the failure.
    pub surface: Surface,
    /// The real destination where NAT on this host changed it.
    pub translated_to: Option<String>,
}

/// The family of a socket.
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
    /// The family of its table: `ip`, `ip6`, `inet`, `arp`, `bridge` or `netdev`.
    pub family: String,
    /// The name of its table.
    pub table: String,
    /// The name of its chain.
    pub chain: String,
    /// The chain at the hook, where jumps led from it to `chain`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_chain: Option<String>,
    /// Its handle, of nftables and iptables-nft.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handle: Option<u64>,
    /// One-based in its chain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<u64>,
    /// The chain's policy did it, no rule of it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub policy: bool,
    /// The hook at which the packet met it, such as `input`.
    pub hook: String,
    /// What it does, such as `drop`.
    pub action: String,
    /// As its owner's tool prints it.
    pub text: String,
    /// What its owner wrote beside it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// The program that makes the rule and would put it back, such as `ufw`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manager: Option<String>,
    /// The number of the network namespace that it stands in.
    pub netns: u64,
    /// Other rules that fit as well, the likeliest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub alternatives: Vec<Rule>,
}

/// The socket that should have answered, or that did until it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// `address:port`, or `unix:/path`.
    pub address: String,
    /// The pid of a process that holds it, in the pid namespace of this tool.
    pub pid: Option<u32>,
    /// That process's name, as `ps -o comm` shows it.
    pub comm: Option<String>,
    /// The path of that process's program.
    pub exe: Option<String>,
    /// That process's systemd unit.
    pub unit: Option<String>,
    /// The id of that process's container, where it runs in one.
    pub container: Option<String>,
    /// The number of its network namespace, as `/proc/PID/ns/net` has it.
    pub netns: u64,
    /// How it ended; null where it did not.
    pub ended: Option<Ended>,
}

/// How a listener ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// RFC 3339, UTC, nanoseconds.
    pub time: String,
    /// By what.
    pub how: How,
    /// Exit status, where the process exited by itself.
    pub status: Option<i32>,
    /// Name of the signal that ended the process, such as `SIGKILL`.
    pub signal: Option<String>,
    /// Whether the signal dumped core.
    pub core: Option<bool>,
}

/// What ended a listener.
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
    /// `address:port`, or `unix:/path`.
    pub address: String,
    /// The pid of a process that holds it, in the pid namespace of this tool.
    pub pid: Option<u32>,
    /// That process's name, as `ps -o comm` shows it.
    pub comm: Option<String>,
    /// The path of that process's program.
    pub exe: Option<String>,
    /// That process's systemd unit.
    pub unit: Option<String>,
    /// The number of its network namespace, as `/proc/PID/ns/net` has it.
    pub netns: u64,
    /// The id of that process's container, where it runs in one.
    pub container: Option<String>,
}

/// What nginx's own error log says of the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The client's address.
    pub client: Option<String>,
    /// The name of the server block.
    pub server: Option<String>,
    /// The request's first line.
    pub request: Option<String>,
    /// The upstream as nginx names it.
    pub upstream: Option<String>,
    /// The header `Host`.
    pub host: Option<String>,
    /// The header `Referer`.
    pub referrer: Option<String>,
    /// The number behind `*` in the line: nginx's number of the client's connection.
    pub connection: Option<u64>,
    /// The whole line.
    pub log_line: String,
}

/// An upstream address that had failed accepts again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recovery {
    /// The version of the schema, `whyrefused/1`.
    pub schema: String,
    /// When it accepted: RFC 3339, UTC, nanoseconds.
    pub time: String,
    /// The name of this host.
    pub host: String,
    /// The upstream that accepts.
    pub upstream: Upstream,
    /// From the first failure since it last accepted to the first connection that stood, in
    /// milliseconds.
    pub down_for_ms: u64,
    /// How many attempts failed in that time.
    pub failures: u64,
}

/// Evidence that was lost, so that output which looks complete and is not says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// The version of the schema, `whyrefused/1`.
    pub schema: String,
    /// When it was noticed: RFC 3339, UTC, nanoseconds.
    pub time: String,
    /// The name of this host.
    pub host: String,
    /// Where it was lost.
    #[serde(rename = "where")]
    pub place: String,
    /// What it was, in words.
    pub what: String,
    /// How many there were.
    pub count: u64,
}

/// The last event: the totals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// The version of the schema, `whyrefused/1`.
    pub schema: String,
    /// RFC 3339, UTC, nanoseconds.
    pub time: String,
    /// The name of this host.
    pub host: String,
    /// Failed attempts, by verdict code.
    pub verdicts: std::collections::BTreeMap<Code, u64>,
    /// Failed attempts, by upstream address.
    pub upstreams: std::collections::BTreeMap<String, u64>,
    /// All that was lost.
    pub losses: Vec<Lost>,
}

/// Evidence that was lost, since the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Where it was lost.
    #[serde(rename = "where")]
    pub place: String,
    /// What it was, in words.
    pub what: String,
    /// How many there were.
    pub count: u64,
}
