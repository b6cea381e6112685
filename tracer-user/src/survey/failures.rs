//! What failed lately: why nginx is left without live upstreams.

use std::collections::{HashMap, VecDeque};

use crate::{
    case::{Case, Earlier, Ending, KernelTime, Worker},
    report,
    verdict::Diagnosis,
};

/// Servers whose last failure is remembered for each upstream block.
const SERVERS: usize = 8;
/// Upstream blocks that are remembered.
const BLOCKS: usize = 1024;

/// The last failure of each server, by nginx and upstream block.
#[derive(Debug, Default)]
pub struct Failures {
    last: HashMap<(u32, String), VecDeque<Earlier>>,
}

impl Failures {
    /// Remembers a failure of a server.
    pub fn note(&mut self, case: &Case, diagnosis: &Diagnosis) {
        let Some(name) = &case.attempt.upstream_name else {
            return;
        };
        if let Ending::Undialled { .. } = case.attempt.ending {
            return;
        }
        let server = case.attempt.dialled.as_ref().map(report::endpoint_text);
        let key = (instance(&case.worker), name.clone());
        if self.last.len() >= BLOCKS && !self.last.contains_key(&key) {
            self.last.clear();
        }
        let last = self.last.entry(key).or_default();
        last.retain(|earlier| earlier.server != server);
        if last.len() == SERVERS {
            last.pop_front();
        }
        last.push_back(Earlier {
            at: case.attempt.ended,
            server,
            code: Some(diagnosis.verdict.code.to_string()),
            summary: diagnosis.verdict.summary.clone(),
        });
    }

    /// The last failures of an upstream block's servers, in time order.
    pub fn before(&self, worker: &Worker, name: Option<&str>) -> Vec<Earlier> {
        let Some(name) = name else {
            return Vec::new();
        };
        let last = self.last.get(&(instance(worker), name.to_owned()));
        let mut last: Vec<Earlier> = last.into_iter().flatten().cloned().collect();
        last.sort_by_key(|earlier: &Earlier| -> KernelTime { earlier.at });
        last
    }
}

fn instance(worker: &Worker) -> u32 {
    worker.master_pid.unwrap_or(worker.pid)
}
