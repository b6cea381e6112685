//! Many failures of one nginx at once.

use std::thread;

use anyhow::{Result, anyhow, ensure};

use super::{Expected, Scene, answered_with_error};
use crate::contract::Failure;
use crate::nginx::Config;

/// An upstream and what is expected of the request to it.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub address: String,
    pub expected: Expected,
}

/// The request to the upstream `name` at `address` must fail as expected.
pub fn case(name: &str, address: &str, expected: Expected) -> Case {
    Case {
        name: name.to_owned(),
        address: address.to_owned(),
        expected,
    }
}

/// Passes to the upstreams of all cases.
pub fn config_of(cases: &[Case]) -> Config {
    let upstreams: Vec<(&str, &str)> = cases
        .iter()
        .map(|case| (case.name.as_str(), case.address.as_str()))
        .collect();
    Config::passing(&upstreams)
}

impl Scene {
    /// Sends a request to the upstream of each case, all at the same time, and asks for every
    /// explanation, in the order of the cases.
    ///
    /// # Errors
    ///
    /// Some of them succeed, or what is said of their failures is not as expected: the message
    /// tells of each.
    pub fn all_fail(&mut self, cases: &[Case]) -> Result<Vec<Failure>> {
        let (nginx, namespace) = (&self.nginx, &self.namespace);
        let statuses: Vec<Result<u16>> = thread::scope(|scope| {
            let requests: Vec<_> = cases
                .iter()
                .map(|case| scope.spawn(|| Ok(nginx.get(namespace, &case.name)?.status)))
                .collect();
            requests
                .into_iter()
                .map(|request| {
                    request
                        .join()
                        .unwrap_or_else(|_| Err(anyhow!("the request panicked")))
                })
                .collect()
        });
        let mut failures = Vec::new();
        let mut wrong = Vec::new();
        for (case, status) in cases.iter().zip(statuses) {
            let explained = status.and_then(|status| {
                answered_with_error(&case.name, status, &case.expected)?;
                self.explained(&case.name, &case.expected)
            });
            match explained {
                Ok(failure) => failures.push(failure),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        ensure!(
            wrong.is_empty(),
            "{} of {} cases are wrong\n\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n\n")
        );
        Ok(failures)
    }
}
