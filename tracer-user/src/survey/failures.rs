//! What failed lately: why nginx is left without live upstreams.

use std::collections::{HashMap, VecDeque};

use crate::{
    case::{Case, Earlier, Ending, Endpoint, KernelTime, Worker},
    report,
    verdict::Diagnosis,
};

/// Failures that are told of an upstream block, the newest.
const TOLD: usize = 8;
/// Servers of one nginx whose last failure is remembered.
const SERVERS: usize = 512;
/// Instances of nginx that are remembered.
const INSTANCES: usize = 64;

/// The last failure of each server, by nginx, the newest last.
#[derive(Debug, Default)]
pub struct Failures {
    last: HashMap<u32, VecDeque<Noted>>,
}

#[derive(Debug)]
struct Noted {
    /// The upstream block, where the configuration leaves one.
    name: Option<String>,
    server: Option<Endpoint>,
    earlier: Earlier,
}

impl Failures {
    /// Remembers a failure of a server.
    pub fn note(&mut self, case: &Case, diagnosis: &Diagnosis) {
        let name = case.attempt.upstream_name.clone();
        let server = case.attempt.dialled.clone();
        let dialled_nobody = matches!(case.attempt.ending, Ending::Undialled { .. });
        if dialled_nobody || (name.is_none() && server.is_none()) {
            return;
        }
        let instance = instance(&case.worker);
        if self.last.len() >= INSTANCES && !self.last.contains_key(&instance) {
            self.last.clear();
        }
        let last = self.last.entry(instance).or_default();
        last.retain(|noted| noted.name != name || noted.server != server);
        if last.len() == SERVERS {
            last.pop_front();
        }
        let earlier = Earlier {
            at: case.attempt.ended,
            server: server.as_ref().map(report::endpoint_text),
            code: Some(diagnosis.verdict.code.to_string()),
            summary: diagnosis.verdict.summary.clone(),
        };
        last.push_back(Noted {
            name,
            server,
            earlier,
        });
    }

    /// The last failures of an upstream block's servers, in time order. A server that stands in
    /// several blocks failed for one of them: `is_in_block` tells which servers may be meant.
    pub fn before(
        &self,
        worker: &Worker,
        name: Option<&str>,
        is_in_block: impl Fn(&Endpoint) -> bool,
    ) -> Vec<Earlier> {
        let Some(name) = name else {
            return Vec::new();
        };
        let mut last: Vec<Earlier> = self
            .last
            .get(&instance(worker))
            .into_iter()
            .flatten()
            .rev()
            .filter(|noted| match (&noted.name, &noted.server) {
                (Some(block), _) => block == name,
                (None, Some(server)) => is_in_block(server),
                (None, None) => false,
            })
            .take(TOLD)
            .map(|noted| noted.earlier.clone())
            .collect();
        last.sort_by_key(|earlier: &Earlier| -> KernelTime { earlier.at });
        last
    }
}

fn instance(worker: &Worker) -> u32 {
    worker.master_pid.unwrap_or(worker.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{diagnose, example};

    fn failed(failures: &mut Failures, address: &str, name: Option<&str>) -> Worker {
        let mut case = example::refused(address, example::OWN);
        case.attempt.upstream_name = name.map(str::to_owned);
        let diagnosis = diagnose(&case);
        failures.note(&case, &diagnosis);
        case.worker
    }

    fn told(failures: &Failures, worker: &Worker, name: &str, of_block: &str) -> Vec<String> {
        let of_block = Endpoint::Inet(of_block.parse().unwrap());
        let before = failures.before(worker, Some(name), |server| *server == of_block);
        before.into_iter().filter_map(|it| it.server).collect()
    }

    #[test]
    fn a_server_of_two_blocks_failed_for_both() {
        let mut failures = Failures::default();
        let shared = "127.0.0.1:9101";
        failed(&mut failures, shared, None);
        failed(&mut failures, "127.0.0.1:9102", None);
        let worker = failed(&mut failures, "127.0.0.1:9103", Some("b"));
        assert_eq!(told(&failures, &worker, "a", shared), [shared]);
        let mut of_b = told(&failures, &worker, "b", shared);
        of_b.sort();
        assert_eq!(of_b, [shared, "127.0.0.1:9103"]);
    }

    #[test]
    fn each_server_is_told_once_and_memory_is_bounded() {
        let mut failures = Failures::default();
        for port in 1..=2 * SERVERS {
            failed(&mut failures, &format!("127.0.0.1:{port}"), Some("a"));
        }
        let worker = failed(&mut failures, "127.0.0.1:1023", Some("a"));
        let told = told(&failures, &worker, "a", "127.0.0.1:1");
        assert_eq!(told.len(), TOLD);
        let again = told.iter().filter(|server| *server == "127.0.0.1:1023");
        assert_eq!(again.count(), 1);
        assert_eq!(failures.last.values().next().unwrap().len(), SERVERS);
    }
}
