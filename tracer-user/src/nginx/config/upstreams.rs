//! Every server that an nginx may dial, by its configuration.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::case::Endpoint;
use crate::nginx::config::hosts::Hosts;
use crate::nginx::config::scope::Survey;
use crate::nginx::config::servers;
use crate::nginx::config::source::{ProcessRoot, Source};
use crate::nginx::config::tree::Tree;
use crate::nginx::config_path::Configuration;

/// What a configuration dials and listens on.
#[derive(Debug, Default)]
pub struct Upstreams {
    pub servers: Vec<Server>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
    /// Variables or scripts may lead nginx to addresses that no directive names.
    pub open_ended: bool,
    /// When one of its files changed last, in nanoseconds of the calendar's clock.
    pub changed: Option<i64>,
    listened: BTreeSet<u16>,
    log_level: LogLevel,
    /// The connect timeouts of passes whose address only nginx at work knows.
    open_ended_timeouts: BTreeSet<u64>,
    by_address: HashMap<SocketAddr, Vec<usize>>,
    by_path: HashMap<Vec<u8>, Vec<usize>>,
    /// Servers by a name that only DNS can turn into an address.
    by_port_of_name: HashMap<u16, Vec<usize>>,
}

/// One `server` line of an upstream block, or one `*_pass` line with an address of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub address: Address,
    /// The name of the upstream block; null where the address stands in a `*_pass` line.
    pub upstream: Option<String>,
    pub place: Place,
    /// By what it is dialled; empty for an upstream block that no directive refers to.
    pub uses: BTreeSet<Use>,
    pub down: bool,
    pub backup: bool,
    /// nginx resolves the name, where it is one, again and again.
    pub resolve: bool,
}

/// How a server is dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub kind: Kind,
    pub connect_timeout_ms: u64,
}

/// Where a directive stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    Inet(SocketAddr),
    /// The path as it is written.
    Unix(Vec<u8>),
    Name {
        host: String,
        port: u16,
    },
}

/// The module that dials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Proxy,
    Fastcgi,
    Uwsgi,
    Scgi,
    Grpc,
    Memcached,
    Stream,
    /// Another module's `NAME_pass`.
    Other(String),
}

/// The levels of the error log, from the least verbose to the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Emerg,
    Alert,
    Crit,
    #[default]
    Error,
    Warn,
    Notice,
    Info,
    Debug,
}

/// What the configuration says about an address that was dialled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// The upstream block, where all lines with this address agree on one.
    pub name: Option<String>,
    /// `file:line` of the only line with this address.
    pub server: Option<String>,
    /// The host name that the configuration has instead of the address.
    pub host: Option<String>,
    pub connect_timeout_ms: Option<u64>,
}

impl Upstreams {
    /// Reads the configuration as it is on disk now, with the eyes of a process.
    pub fn of_process(pid: u32, configuration: &Configuration) -> io::Result<Self> {
        Ok(Self::read(&ProcessRoot::of(pid)?, configuration))
    }

    /// Reads a configuration. What can't be read is named in `problems`.
    pub fn read(source: &dyn Source, configuration: &Configuration) -> Self {
        let directives = configuration.directives.as_deref();
        let tree = Tree::read(source, &configuration.file, directives);
        let survey = Survey::of(&tree.directives);
        let mut upstreams = Self {
            servers: Vec::new(),
            problems: tree.problems,
            open_ended: survey.scripted,
            changed: tree.changed,
            log_level: survey
                .passing_level
                .or(survey.main_level)
                .unwrap_or_default(),
            ..Self::default()
        };
        let collected = servers::collect(&survey);
        upstreams.open_ended |= !collected.open_ended_timeouts.is_empty();
        upstreams.open_ended_timeouts = collected.open_ended_timeouts;
        upstreams.servers = collected.servers;
        upstreams.listened = survey.listened;
        upstreams.index(&Hosts::read(source));
        upstreams
    }

    /// What is known about an address that nginx dialled: every field null where the configuration
    /// leaves more than one answer.
    pub fn attribute(&self, dialled: &Endpoint) -> Attribution {
        let matching = self.matching(dialled);
        let live = preferred(matching, |server| !server.down);
        let servers = if self.open_ended {
            live
        } else {
            preferred(live, |server| !server.uses.is_empty())
        };
        Attribution {
            name: agreed(servers.iter().map(|server| server.upstream.clone())).flatten(),
            server: agreed(servers.iter().map(|server| server.place.to_string())),
            host: agreed(servers.iter().map(|server| match &server.address {
                Address::Name { host, .. } => Some(host.clone()),
                Address::Inet(_) | Address::Unix(_) => None,
            }))
            .flatten(),
            connect_timeout_ms: self.timeout(&servers),
        }
    }

    /// Whether the address may be one of a server of that upstream block.
    pub fn stands_in(&self, server: &Endpoint, block: Option<&str>) -> bool {
        let matching = self.matching(server);
        matching
            .iter()
            .any(|server| block.is_some() && server.upstream.as_deref() == block)
    }

    /// The connect timeout for an address, where the configuration leaves one answer.
    pub fn connect_timeout_ms(&self, dialled: &Endpoint) -> Option<u64> {
        self.attribute(dialled).connect_timeout_ms
    }

    /// Every port that this nginx dials or listens on.
    pub fn ports_spoken_for(&self) -> Vec<u16> {
        let dialled = self
            .servers
            .iter()
            .filter_map(|server| match server.address {
                Address::Inet(address) => Some(address.port()),
                Address::Name { port, .. } => Some(port),
                Address::Unix(_) => None,
            });
        let ports: BTreeSet<u16> = dialled.chain(self.listened.iter().copied()).collect();
        ports.into_iter().collect()
    }

    /// The path of every Unix socket that this nginx dials.
    pub fn unix_paths(&self) -> Vec<Vec<u8>> {
        self.by_path.keys().cloned().collect()
    }

    /// The path of a configured socket with which `said` begins, the longest: after a timeout nginx
    /// logs path and URI without the colon between them (`ngx_http_upstream_next` forgets the
    /// address before it logs).
    pub fn unix_path_in(&self, said: &[u8]) -> Option<Vec<u8>> {
        let begins = |path: &&Vec<u8>| {
            said.strip_prefix(path.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.by_path
            .keys()
            .filter(begins)
            .max_by_key(|path| path.len())
            .cloned()
    }

    /// The most verbose level in effect where requests are passed on: a line above it was written
    /// nowhere.
    pub fn log_level(&self) -> LogLevel {
        self.log_level
    }

    fn matching(&self, dialled: &Endpoint) -> Vec<&Server> {
        let found = match dialled {
            Endpoint::Unix(path) => self.by_path.get(path),
            Endpoint::Inet(address) => {
                let plain = SocketAddr::new(address.ip(), address.port());
                self.by_address.get(&plain).or_else(|| {
                    // Only where nothing else can have led there.
                    let by_port = self.by_port_of_name.get(&address.port());
                    by_port.filter(|_| !self.open_ended)
                })
            }
        };
        found
            .into_iter()
            .flatten()
            .filter_map(|index| self.servers.get(*index))
            .collect()
    }

    fn timeout(&self, servers: &[&Server]) -> Option<u64> {
        let known = if servers.is_empty() {
            &self.servers.iter().collect::<Vec<_>>()
        } else {
            servers
        };
        let uses = known.iter().flat_map(|server| &server.uses);
        let timeouts = uses.map(|found| found.connect_timeout_ms);
        agreed(timeouts.chain(self.open_ended_timeouts.iter().copied()))
    }

    fn index(&mut self, hosts: &Hosts) {
        for (index, server) in self.servers.iter().enumerate() {
            match &server.address {
                Address::Inet(address) => {
                    self.by_address.entry(*address).or_default().push(index);
                }
                Address::Unix(path) => {
                    self.by_path.entry(path.clone()).or_default().push(index);
                }
                Address::Name { host, port } => {
                    let known = hosts.addresses(host);
                    if known.is_empty() {
                        self.by_port_of_name.entry(*port).or_default().push(index);
                    }
                    for ip in known {
                        let address = SocketAddr::new(ip, *port);
                        self.by_address.entry(address).or_default().push(index);
                    }
                }
            }
        }
    }
}

impl Kind {
    /// By the directive's name in front of `_pass`.
    pub(super) fn of(module: &[u8], stream: bool) -> Self {
        match module {
            b"proxy" if stream => Self::Stream,
            b"proxy" => Self::Proxy,
            b"fastcgi" => Self::Fastcgi,
            b"uwsgi" => Self::Uwsgi,
            b"scgi" => Self::Scgi,
            b"grpc" => Self::Grpc,
            b"memcached" => Self::Memcached,
            other => Self::Other(String::from_utf8_lossy(other).into_owned()),
        }
    }
}

impl LogLevel {
    /// The level of an `error_log` directive: `error` where none is written
    /// (`ngx_log_set_levels`).
    pub(super) fn of_error_log(arguments: &[Vec<u8>]) -> Self {
        let level = arguments.get(1).map_or(&b"error"[..], Vec::as_slice);
        match level {
            b"emerg" => Self::Emerg,
            b"alert" => Self::Alert,
            b"crit" => Self::Crit,
            b"warn" => Self::Warn,
            b"notice" => Self::Notice,
            b"info" => Self::Info,
            debug if debug.starts_with(b"debug") => Self::Debug,
            _ => Self::Error,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// In the form of the events; `host:port` for a name.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", String::from_utf8_lossy(path)),
            Self::Name { host, port } => write!(formatter, "{host}:{port}"),
        }
    }
}

mod names;

pub use names::{NamedServer, NamesOfAddress};

/// The servers for which the condition holds, or all where it holds for none.
fn preferred(servers: Vec<&Server>, condition: impl Fn(&Server) -> bool) -> Vec<&Server> {
    if servers.iter().any(|server| condition(server)) {
        servers
            .into_iter()
            .filter(|server| condition(server))
            .collect()
    } else {
        servers
    }
}

/// The value that all have; None where there are several, or none.
fn agreed<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

#[cfg(test)]
mod tests;
