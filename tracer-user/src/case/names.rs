//! The names behind an address that nginx dialled.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::KernelTime;

/// The names that may have led to the dialled address, which no directive has as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Names with that port that nginx resolved as it read its configuration.
    pub at_start: Vec<ConfiguredName>,
    /// Names with that port that nginx resolves again and again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_work: Vec<String>,
    /// Variables or scripts may lead nginx to addresses that no directive names.
    #[serde(default)]
    pub open_ended: bool,
    /// Whether a configuration file changed after the worker had started; null where not known.
    #[serde(default)]
    pub configuration_changed: Option<bool>,
}

/// A name that nginx resolved once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredName {
    pub host: String,
    /// The upstream block, where all directives with the name agree on one.
    pub upstream: Option<String>,
    /// `file:line` of each directive with the name.
    pub places: Vec<String>,
    /// `/etc/hosts` gave it the dialled address when this tool read the configuration.
    pub had_it: bool,
    pub now: Resolution,
}

/// What a name has now, asked as nginx's C library would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    Resolved(Resolved),
    /// Why it was not resolved, in words.
    Unresolved(String),
}

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    pub addresses: Vec<IpAddr>,
    pub source: NameSource,
    pub at: KernelTime,
    /// Sources of `nsswitch.conf` that are asked first and were not asked here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
}

/// Who knows the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    Hosts {
        /// Whether `/etc/hosts` changed after the worker had started; null where not known.
        changed: Option<bool>,
    },
    Dns {
        server: SocketAddr,
        /// Asked twice, it gave the same addresses.
        steady: bool,
    },
}
