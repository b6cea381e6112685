//! eBPF programs of other people that can drop packets, or refuse and rewrite calls.

use serde::{Deserialize, Serialize};

use super::Netns;

/// A program and where it is attached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttachedProgram {
    pub id: u32,
    /// As the kernel knows it: at most fifteen characters.
    pub name: String,
    pub place: ProgramPlace,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "at")]
pub enum ProgramPlace {
    Xdp {
        netns: Netns,
        device: String,
        /// `generic`, `native` or `offloaded`.
        mode: String,
    },
    /// tc or tcx.
    TrafficControl {
        netns: Netns,
        device: String,
        /// True for ingress.
        ingress: bool,
    },
    /// A hook of the BPF security module, such as `socket_connect`.
    SecurityHook { hook: String },
    Cgroup {
        /// Path of the cgroup below the root of the hierarchy.
        cgroup: String,
        /// As `bpftool` calls the attach type, such as `cgroup_inet4_connect`.
        attach_type: String,
    },
}
