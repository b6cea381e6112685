//! Says why nginx's upstream connections fail.
//!
//! The modules stand in the order in which data flows: the kernel's records become evidence,
//! evidence becomes a case, a case gets a verdict, a verdict becomes an event, an event goes to
//! a sink.

// The conditions: what was asked for, what the kernel is like.
pub mod btf;
pub mod cli;
pub mod clock;
pub mod requirements;

// Probe, record, evidence.
pub mod evidence;
pub mod probes;

// What is read from the host, and never changed.
pub mod bounded;
pub mod cgroup;
pub mod host;
pub mod nginx;
pub mod survey;

// Evidence, case, verdict: pure.
pub mod case;
pub mod correlate;
pub mod deaths;
pub mod diagnose;
pub mod firewall;
pub mod verdict;

// Verdict, event: pure.
pub mod coalesce;
pub mod event;
pub mod recovery;
pub mod report;
pub mod totals;

// Event, sink.
pub mod escape;
pub mod sinks;
pub mod terminal;

// The subcommands.
pub mod doctor;
pub mod explain;
pub mod schema;
pub mod trace;
