//! One nginx, watched, in a namespace of its own: the stage of a live test.

mod blame;
mod case;
mod checks;
mod expected;

use std::iter;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

pub use self::case::{Case, case, config_of};
pub use self::expected::{
    Expected, aborted, denied, errno_name, failed_to_bind, met, no_socket, refused, reported,
    timed_out,
};

use self::blame::Watched;
use crate::client::Response;
use crate::contract::{End, Failure};
use crate::host::Host;
use crate::namespace::Namespace;
use crate::nginx::{Config, Nginx};
use crate::tally;
use crate::tracer::{Finished, Tracer};

/// How long after its last evidence an event may take on a machine that runs many tests at once.
const LATEST: Duration = Duration::from_secs(10);

/// A watched nginx.
#[derive(Debug)]
pub struct Scene {
    pub namespace: Namespace,
    pub nginx: Nginx,
    pub tracer: Tracer,
    pub host: Host,
    began: jiff::Timestamp,
    explained: u64,
    watched: Vec<Watched>,
}

impl Scene {
    /// Starts nginx and then the tool.
    ///
    /// # Errors
    ///
    /// One of them does not start.
    pub fn new(host: &Host, namespace: Namespace, config: &Config) -> Result<Self> {
        let nginx = Nginx::start(host, &namespace, config)?;
        let tracer = Tracer::watch(host, nginx.pid())?;
        Ok(Self::of(host, namespace, nginx, tracer))
    }

    /// The same, where rules of nginx's namespace and of `others` are to be named: nobody may
    /// change them until the end.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], or the packet filters cannot be listed.
    pub fn filtered(
        host: &Host,
        namespace: Namespace,
        others: &[&Namespace],
        config: &Config,
    ) -> Result<Self> {
        let watched = watch(iter::once(&namespace).chain(others.iter().copied()))?;
        let mut scene = Self::new(host, namespace, config)?;
        scene.watched = watched;
        Ok(scene)
    }

    /// A scene of parts that are running already.
    pub fn of(host: &Host, namespace: Namespace, nginx: Nginx, tracer: Tracer) -> Self {
        tally::session(tracer.session());
        let (host, began) = (host.clone(), jiff::Timestamp::now());
        Self {
            namespace,
            nginx,
            tracer,
            host,
            began,
            explained: 0,
            watched: Vec::new(),
        }
    }

    /// Sends one request through nginx to the upstream `name`.
    ///
    /// # Errors
    ///
    /// nginx does not answer.
    pub fn get(&self, name: &str) -> Result<Response> {
        self.nginx.get(&self.namespace, name)
    }

    /// Sends a request to the upstream `name` that must fail, and asks for its explanation.
    ///
    /// # Errors
    ///
    /// The request succeeds, or what is said of its failure is not as expected.
    pub fn fails(&mut self, name: &str, expected: &Expected) -> Result<Failure> {
        let response = self.get(name)?;
        answered_with_error(name, response.status, expected)?;
        self.explained(name, expected)
    }

    /// The explanation of a failure towards the upstream `name` that has happened.
    ///
    /// # Errors
    ///
    /// It does not come, or is not as expected.
    pub fn explained(&mut self, name: &str, expected: &Expected) -> Result<Failure> {
        self.explained_where(name, expected, |_| true)
    }

    /// The same for the server at `address` of that upstream.
    ///
    /// # Errors
    ///
    /// As [`Self::explained`].
    pub fn explained_at(
        &mut self,
        name: &str,
        address: &str,
        expected: &Expected,
    ) -> Result<Failure> {
        self.explained_where(name, expected, |failure| {
            failure.upstream.address.as_deref() == Some(address)
        })
    }

    fn explained_where(
        &mut self,
        name: &str,
        expected: &Expected,
        meant: impl Fn(&Failure) -> bool,
    ) -> Result<Failure> {
        let came = self.tracer.failure(LATEST, |failure| {
            failure.upstream.name.as_deref() == Some(name) && meant(failure)
        });
        let failure = match came {
            Ok(failure) => failure,
            Err(error) => {
                tally::verdict(expected.code, None, false);
                let log = self.log();
                return Err(error.context(format!(
                    "upstream {name}, expected {}\n{log}",
                    expected.code
                )));
            }
        };
        self.explained += failure.count;
        let checked = self.check(name, expected, &failure);
        tally::verdict(expected.code, Some(&failure.verdict), checked.is_ok());
        checked.with_context(|| format!("upstream {name}: {failure:#?}\n{}", self.log()))?;
        Ok(failure)
    }

    /// Takes into account an explanation that the test has taken from the tool itself.
    pub fn count(&mut self, failure: &Failure) {
        self.explained += failure.count;
    }

    /// Sends a request to the upstream `name` that must succeed.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn succeeds(&self, name: &str) -> Result<()> {
        let response = self.get(name)?;
        ensure!(
            response.status == 200,
            "{response:?} from {name}\n{}",
            self.log()
        );
        Ok(())
    }

    /// Nobody may change the packet filters of nginx's namespace and of `others` from now on.
    ///
    /// # Errors
    ///
    /// They cannot be listed.
    pub fn let_no_filter_change(&mut self, others: &[&Namespace]) -> Result<()> {
        self.watched = watch(iter::once(&self.namespace).chain(others.iter().copied()))?;
        Ok(())
    }

    /// From now on the test itself changes packet filters: nobody did until now.
    ///
    /// # Errors
    ///
    /// Somebody did.
    pub fn let_filters_change(&mut self) -> Result<()> {
        for watched in self.watched.drain(..) {
            watched.check()?;
        }
        Ok(())
    }

    /// Stops the tool: it must end well, having said nothing that was not asked for, and its
    /// totals must be those of its failures. The packet filters that it was to name rules of
    /// must be as they were.
    ///
    /// # Errors
    ///
    /// Any of that is not so.
    pub fn end(self) -> Result<End> {
        let log = self.log();
        let finished = self.tracer.stop(Signal::SIGINT)?;
        let end = ended_well(&finished).with_context(|| log)?;
        for watched in &self.watched {
            watched.check()?;
        }
        let total: u64 = end.verdicts.values().sum();
        ensure!(
            total == self.explained,
            "{} attempts were explained and {total} are in the totals {end:?}",
            self.explained
        );
        Ok(end)
    }

    fn log(&self) -> String {
        format!(
            "nginx's log:\n{}",
            self.nginx.errors().unwrap_or_default().join("\n")
        )
    }
}

/// That the request to the upstream `name` failed at all.
fn answered_with_error(name: &str, status: u16, expected: &Expected) -> Result<()> {
    if status < 500 {
        tally::verdict(expected.code, None, false);
        bail!("the request to {name} got {status}");
    }
    Ok(())
}

fn watch<'n>(namespaces: impl Iterator<Item = &'n Namespace>) -> Result<Vec<Watched>> {
    namespaces.map(Watched::new).collect()
}

/// The totals of a tool that was stopped, ended well and left nothing unasked.
///
/// # Errors
///
/// It did not.
pub fn ended_well(finished: &Finished) -> Result<End> {
    ensure!(
        finished.status.code() == Some(0),
        "{}: {}",
        finished.status,
        finished.stderr
    );
    ensure!(
        finished
            .unclaimed
            .iter()
            .all(|event| matches!(event, crate::contract::Event::Recovery(_))),
        "unasked for: {:#?}",
        finished.unclaimed
    );
    let end = finished.end.clone().context("no end event")?;
    ensure!(end.losses.is_empty(), "lost: {:?}", end.losses);
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    // The kernel and the evaluation of the rules agree on every rule.
    ensure!(
        !finished.stderr.contains("the kernel evaluated the rule "),
        "{}",
        finished.stderr
    );
    Ok(end)
}
