//! A laboratory: real nginx in network namespaces of its own, backends that break in every way
//! that a test names, and `whyrefused` watching.
//!
//! Nothing of it outlives the process that built it, not even when that process is killed:
//! namespaces are anonymous, every child dies with its parent, and a [`guard`] clears away what
//! the kernel does not.

pub mod apparmor;
pub mod backend;
pub mod bpf;
pub mod cgroup;
pub mod client;
pub mod confinement;
pub mod contract;
pub mod guard;
pub mod host;
pub mod name_service;
pub mod namespace;
pub mod nginx;
pub mod patience;
pub mod process;
pub mod queue_reader;
pub mod ruleset;
pub mod scene;
pub mod scratch;
pub mod selinux;
pub mod sockets;
pub mod tally;
pub mod tracer;
pub mod unix_backend;
pub mod wire;
