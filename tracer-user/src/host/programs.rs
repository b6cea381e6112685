//! Which eBPF programs of other people are attached where packets can be eaten, or calls refused
//! and rewritten.
//!
//! Reading them takes some tens of system calls, and only few cases ask for it.

use std::collections::{BTreeMap, BTreeSet};

use aya::programs::loaded_programs;

use crate::case::{AttachedProgram, ProgramPlace};

mod attachments;
mod cgroups;
mod devices;
mod traffic_control;

pub use cgroups::of_process;
pub use devices::of_namespace;

/// Programs that were found, and what could not be read, in words.
#[derive(Debug, Default)]
pub struct Found {
    pub programs: Vec<AttachedProgram>,
    pub unread: Vec<String>,
}

/// Places that are listed at most, of a process or of a namespace.
const MOST: usize = 128;

impl Found {
    fn new(places: Vec<Attached>, mut unread: Vec<String>) -> Self {
        if places.len() > MOST {
            unread.push(format!(
                "programs: only {MOST} of {} are listed",
                places.len()
            ));
        }
        let ids = places.iter().filter_map(|attached| attached.id).collect();
        let names = names(&ids);
        let programs = places
            .into_iter()
            .take(MOST)
            .map(|attached| AttachedProgram {
                id: attached.id.unwrap_or(0),
                name: attached
                    .id
                    .and_then(|id| names.get(&id).cloned())
                    .filter(|name| !name.is_empty())
                    .or(attached.name)
                    .unwrap_or_default(),
                place: attached.place,
            })
            .collect();
        Self { programs, unread }
    }
}

/// A place where something is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attached {
    /// Null for a filter of tc that is no program.
    id: Option<u32>,
    /// What the place calls it.
    name: Option<String>,
    place: ProgramPlace,
}

/// The names of these programs (`BPF_OBJ_GET_INFO_BY_FD`); one that is gone has none.
fn names(ids: &BTreeSet<u32>) -> BTreeMap<u32, String> {
    if ids.is_empty() {
        return BTreeMap::new();
    }
    loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| ids.contains(&program.id()))
        .map(|program| {
            let name = String::from_utf8_lossy(program.name()).into_owned();
            (program.id(), name)
        })
        .collect()
}

#[cfg(test)]
mod tests;
