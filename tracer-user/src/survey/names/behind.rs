//! Which names are behind the address of an attempt.

use std::net::{IpAddr, SocketAddr};

use crate::{
    case::{Endpoint, Netns, Worker},
    diagnose::stale_dns,
    host::resolve,
    nginx::{
        config::upstreams::{NamesOfAddress, Upstreams},
        processes,
    },
    survey::Explained,
};

/// A name as one nginx sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// The process whose files are read.
    pub pid: u32,
    pub netns: Netns,
    pub host: String,
    pub v6: bool,
}

/// The names behind the address of one attempt.
#[derive(Debug)]
pub struct Behind {
    pub found: NamesOfAddress,
    pub names: Vec<Name>,
    /// When the worker started, see [`processes::started_at`].
    pub started: Option<i64>,
    pub configuration_changed: Option<bool>,
}

/// The names, where they may explain the failure.
pub fn behind(explained: &Explained, configured: &Upstreams) -> Option<Behind> {
    if !stale_dns::may_explain(&explained.case, &explained.diagnosis) {
        return None;
    }
    let Some(Endpoint::Inet(dialled)) = explained.case.attempt.dialled else {
        return None;
    };
    let worker = &explained.case.worker;
    let found = configured.names_of(dialled)?;
    let started = processes::started_at(worker.pid);
    let changed = configured.changed.zip(started);
    Some(Behind {
        names: names(worker, dialled, &found),
        found,
        started,
        configuration_changed: changed
            .map(|(changed, started)| resolve::is_later(changed, started)),
    })
}

fn names(worker: &Worker, dialled: SocketAddr, found: &NamesOfAddress) -> Vec<Name> {
    let hosts = found.at_start.iter().map(|server| server.host.clone());
    hosts
        .map(|host| Name {
            pid: worker.master_pid.unwrap_or(worker.pid),
            netns: worker.netns,
            host,
            v6: matches!(dialled.ip().to_canonical(), IpAddr::V6(_)),
        })
        .collect()
}
