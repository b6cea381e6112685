//! What the names behind a dialled address have now.
//!
//! Files answer at once. DNS servers are asked on threads of their own while the attempt waits
//! here with all that was gathered of it, so that neither the surveyor nor the loop waits.

mod behind;

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use crate::{
    case::{self, ConfiguredName, Resolution},
    diagnose::diagnose,
    host::{
        netns::{Namespace, Namespaces, within},
        resolve::{self, DnsQuestion, Step},
    },
    nginx::config::{source::ProcessRoot, upstreams::Upstreams},
    survey::Explained,
    verdict::Code,
};
use behind::{Behind, Name, behind};

/// How long an answer of a file serves.
const FILES_FRESH: Duration = Duration::from_millis(100);
/// How long an answer of DNS serves, and that there was none: no name is asked for more often.
const DNS_FRESH: Duration = Duration::from_secs(5);
/// How long an attempt waits for answers.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same once the trace ends.
const LAST_PATIENCE: Duration = Duration::from_millis(700);
/// How often answers are looked for while an attempt waits.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Names that are asked for at one moment.
const AT_ONCE: usize = 8;
/// Attempts that wait; what is above is explained without the answer.
const HELD: usize = 4096;
/// Names whose answers are kept.
const KEPT: usize = 4096;

/// Resolves names, and keeps attempts until that is done.
#[derive(Debug)]
pub struct Names {
    /// Whether DNS servers may be asked at all.
    may_ask: bool,
    known: HashMap<Name, Known>,
    asking: usize,
    answers: Receiver<(Name, Resolution)>,
    to_answers: Sender<(Name, Resolution)>,
    held: Vec<Held>,
    /// When it was last looked whether one of them need not wait any longer.
    looked: Instant,
}

#[derive(Debug)]
enum Known {
    Asked,
    Answered {
        until: Instant,
        resolution: Resolution,
    },
}

/// An attempt that waits for answers.
#[derive(Debug)]
struct Held {
    explained: Box<Explained>,
    behind: Behind,
    until: Instant,
}

impl Default for Names {
    fn default() -> Self {
        let (to_answers, answers) = channel();
        Self {
            may_ask: true,
            known: HashMap::new(),
            asking: 0,
            answers,
            to_answers,
            held: Vec::new(),
            looked: Instant::now(),
        }
    }
}

impl Names {
    /// From now on, no DNS server is asked.
    pub fn ask_no_dns(&mut self) {
        self.may_ask = false;
    }

    /// Diagnoses the attempt anew where names are behind its address; None where it waits for
    /// them now, and comes back by [`Self::settled`].
    pub fn explain(
        &mut self,
        explained: Explained,
        configured: &Upstreams,
        namespaces: &Namespaces,
    ) -> Option<Explained> {
        let Some(behind) = behind(&explained, configured) else {
            return Some(explained);
        };
        for name in &behind.names {
            self.resolve(name, behind.started, namespaces);
        }
        if self.is_settled(&behind) || self.held.len() >= HELD {
            return Some(self.told(explained, behind));
        }
        self.held.push(Held {
            explained: Box::new(explained),
            behind,
            until: Instant::now() + PATIENCE,
        });
        None
    }

    /// How long until [`Self::settled`] may have something; None where nothing waits.
    pub fn due(&self) -> Option<Duration> {
        (!self.held.is_empty()).then_some(LOOK_EVERY)
    }

    /// The attempts that need not wait any longer.
    pub fn settled(&mut self) -> Vec<Explained> {
        let mut answered = false;
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer);
            answered = true;
        }
        // This is called after every task, and thousands may wait.
        if !answered && self.looked.elapsed() < LOOK_EVERY {
            return Vec::new();
        }
        let now = Instant::now();
        let (done, waiting) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<Vec<_>, _>(|held| held.until <= now || self.is_settled(&held.behind));
        self.held = waiting;
        self.looked = now;
        done.into_iter()
            .map(|held| self.told(*held.explained, held.behind))
            .collect()
    }

    /// All attempts that wait, as the trace ends.
    pub fn last(&mut self) -> Vec<Explained> {
        let until = Instant::now() + LAST_PATIENCE;
        for held in &mut self.held {
            held.until = held.until.min(until);
        }
        let mut done = self.settled();
        while !self.held.is_empty() {
            if let Ok(answer) = self.answers.recv_timeout(LOOK_EVERY) {
                self.take(answer);
            }
            done.extend(self.settled());
        }
        done
    }

    fn take(&mut self, (name, resolution): (Name, Resolution)) {
        self.asking -= 1;
        self.keep(name, resolution, DNS_FRESH);
    }

    fn keep(&mut self, name: Name, resolution: Resolution, fresh: Duration) {
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        let until = Instant::now() + fresh;
        self.known
            .insert(name, Known::Answered { until, resolution });
    }

    /// Sees to it that the name is resolved, unless that is being done or was done just now.
    fn resolve(&mut self, name: &Name, started: Option<i64>, namespaces: &Namespaces) {
        match self.known.get(name) {
            Some(Known::Asked) => return,
            Some(Known::Answered { until, .. }) if *until > Instant::now() => return,
            _ => {}
        }
        let step = match ProcessRoot::of(name.pid) {
            Ok(root) => resolve::by_files(&root, &name.host, name.v6, started),
            Err(error) => unresolved(&format!("nginx's files cannot be read: {error}")),
        };
        let settled = match step {
            Step::Settled(resolution) => Err((resolution, FILES_FRESH)),
            Step::Ask(_) if !self.may_ask => Err((no_answer("--no-dns forbids to ask"), DNS_FRESH)),
            Step::Ask(_) if self.asking >= AT_ONCE => {
                Err((no_answer("too many names are being asked for"), FILES_FRESH))
            }
            Step::Ask(question) => self
                .ask(name, question, namespaces)
                .map_err(|why| (no_answer(&why), DNS_FRESH)),
        };
        match settled {
            Ok(()) => {
                self.known.insert(name.clone(), Known::Asked);
            }
            Err((resolution, fresh)) => self.keep(name.clone(), resolution, fresh),
        }
    }

    /// Asks on a thread that answers in any case, within [`resolve::LONGEST`] or little more.
    fn ask(
        &mut self,
        name: &Name,
        question: DnsQuestion,
        namespaces: &Namespaces,
    ) -> Result<(), String> {
        let namespace: Namespace = namespaces
            .get(name.netns)
            .cloned()
            .ok_or("nginx's network namespace is not known")?;
        let (name, answers) = (name.clone(), self.to_answers.clone());
        std::thread::Builder::new()
            .name("whyrefused-name".to_owned())
            .spawn(move || {
                let resolution = within(&namespace, || question.ask())
                    .unwrap_or_else(|error| no_answer(&error.to_string()));
                let _ = answers.send((name, resolution));
            })
            .map_err(|error| format!("no thread for the question: {error}"))?;
        self.asking += 1;
        Ok(())
    }

    fn is_settled(&self, behind: &Behind) -> bool {
        let asked = |name: &Name| matches!(self.known.get(name), Some(Known::Asked));
        !behind.names.iter().any(asked)
    }

    fn now(&self, name: &Name) -> Resolution {
        match self.known.get(name) {
            Some(Known::Answered { resolution, .. }) => resolution.clone(),
            Some(Known::Asked) | None => no_answer("no DNS server answered in time"),
        }
    }

    /// The attempt with what its names have now, and what that makes of it.
    fn told(&self, mut explained: Explained, behind: Behind) -> Explained {
        let named = behind.found.at_start.into_iter().zip(&behind.names);
        let at_start: Vec<ConfiguredName> = named
            .map(|(server, name)| ConfiguredName {
                host: server.host,
                upstream: server.upstream,
                places: server.places,
                had_it: server.had_it,
                now: self.now(name),
            })
            .collect();
        explained.case.host.names = Some(case::Names {
            at_start,
            at_work: behind.found.at_work,
            open_ended: behind.found.open_ended,
            configuration_changed: behind.configuration_changed,
        });
        explained.diagnosis = diagnose(&explained.case);
        attribute(&mut explained);
        explained
    }
}

/// The only name that can have led to a stale address says which upstream was meant.
fn attribute(explained: &mut Explained) {
    let names = explained.case.host.names.as_ref();
    let (Code::StaleDns, Some([only])) = (
        explained.diagnosis.verdict.code,
        names.map(|names| names.at_start.as_slice()),
    ) else {
        return;
    };
    let attempt = &mut explained.case.attempt;
    if attempt.upstream_server.is_none() && attempt.upstream_name.is_none() {
        attempt.upstream_name = only.upstream.clone();
        if let [place] = only.places.as_slice() {
            attempt.upstream_server = Some(place.clone());
        }
    }
}

fn unresolved(why: &str) -> Step {
    Step::Settled(no_answer(why))
}

fn no_answer(why: &str) -> Resolution {
    Resolution::Unresolved(why.to_owned())
}
