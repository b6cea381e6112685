//! Security policies that a worker is under, and what they said.

use serde::{Deserialize, Serialize};

/// What can deny a system call of the worker, as read after the failure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Names of the security modules that this kernel runs, such as `landlock`; null where it
    /// does not tell (`lsm_list_modules`, `/sys/kernel/security/lsm`).
    pub modules: Option<Vec<String>>,
    /// The worker's label (`/proc/PID/attr/current`): an SELinux context or an AppArmor profile
    /// with its mode; null where the module in charge keeps none.
    pub label: Option<String>,
    /// SELinux enforces (`/sys/fs/selinux/enforce`); null where it is not mounted.
    pub selinux_enforces: Option<bool>,
    /// `NoNewPrivs:` of the worker's status: a precondition of unprivileged seccomp and Landlock.
    pub no_new_privileges: Option<bool>,
    /// The systemd unit of the worker.
    pub unit: Option<String>,
    /// This host can open sockets of the family that `socket()` refused; null where not asked.
    pub family_works: Option<bool>,
}

/// A denial as the kernel audited it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    pub module: Module,
    /// What was asked for: an SELinux permission such as `name_connect`, an AppArmor operation
    /// such as `connect`, a Landlock right such as `net.connect_tcp`, a system call's number.
    pub request: Option<String>,
    /// The SELinux context or AppArmor profile of the worker.
    pub subject: Option<String>,
    /// The SELinux context of the object.
    pub object: Option<String>,
    /// The SELinux class of the object, such as `tcp_socket`.
    pub class: Option<String>,
    /// It was logged and allowed all the same.
    pub permissive: bool,
    /// The record's text.
    pub text: String,
}

/// Who audits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Module {
    Selinux,
    Apparmor,
    Landlock,
    Seccomp,
}
