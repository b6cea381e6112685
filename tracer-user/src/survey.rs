//! The surveyor: one thread that knows the host and turns an ended attempt into a diagnosed case.
//!
//! It keeps the table of listeners and the processes of every nginx current from the kernel's
//! evidence, in the order in which that arrives, and reads what a case asks for. It blocks on the
//! host's answers, so that the loop that drains the ring buffer never does.

mod dialled;
mod facts;
mod failures;
mod filters;
mod names;
mod nginxes;
mod surveyor;
mod suspects;
mod unix;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use aya::programs::Iter;
use tokio::sync::mpsc::Sender;

use tracer_common::record::Outcome;

use crate::{
    case::{Case, Coverage, Ending, Endpoint, Fact, Family, Observed},
    correlate::Ended,
    deaths::Deaths,
    diagnose::diagnose,
    event::NginxInstance,
    evidence::{Evidence, Listening, What},
    host::{
        facts::Host,
        iptables,
        netns::Namespace,
        open_files::OpenFiles,
        table::{BeganListening, EndedListening},
    },
    verdict::Diagnosis,
};
use dialled::{is_upstream, meant, named};
use facts::Facts;
use failures::Failures;
use filters::Filters;
use names::Names;
use nginxes::Nginxes;
pub use surveyor::Surveyor;
use unix::UnixWatch;

/// How long the first look for the owners of listeners may take.
const FIRST_LOOK: Duration = Duration::from_millis(60);

/// What the surveyor is asked.
#[derive(Debug)]
pub enum Task {
    /// Evidence about processes, listeners and packets that a packet filter stopped.
    Note(Box<Evidence>),
    /// Diagnose an attempt.
    Explain(Box<(Ended, Coverage)>),
    /// Evidence was lost: read everything again.
    Rescan,
    /// Look for processes of nginx that nobody announced.
    LookAround,
}

/// What the surveyor answers.
#[derive(Debug)]
pub enum Answer {
    Explained(Box<Explained>),
    /// An attempt that was none at an upstream, with its outcome as in [`Ended::outcome`].
    NoUpstream(Option<Outcome>),
    /// Processes of nginx to observe from now on.
    Follow(Vec<u32>),
    /// Processes that hold listeners, whose ends are to be reported.
    WatchOwners(Vec<u32>),
    /// Processes that turned out to be no nginx.
    Unfollow(Vec<u32>),
    /// Network namespaces in which workers run, after they changed.
    Namespaces(Vec<Namespace>),
}

/// An attempt with its diagnosis.
#[derive(Debug)]
pub struct Explained {
    pub case: Case,
    pub diagnosis: Diagnosis,
    /// See [`Ended::outcome`].
    pub outcome: Option<Outcome>,
}

/// The first look at the host, before the thread starts.
pub struct Survey {
    host: Host,
    deaths: Deaths,
    nginxes: Nginxes,
    facts: Facts,
    filters: Filters,
    unix: UnixWatch,
    failures: Failures,
    names: Names,
    /// What could not be seen, in words.
    pub limits: Vec<String>,
}

impl Survey {
    /// Looks at every process, namespace and listener. `only` narrows to these masters and
    /// workers; empty means every nginx.
    pub fn new(only: Vec<u32>) -> std::io::Result<Self> {
        let (host, census) = Host::read(FIRST_LOOK)?;
        let mut limits: Vec<String> = census
            .unread
            .iter()
            .map(|(netns, reason)| format!("network namespace {netns} cannot be read: {reason}"))
            .collect();
        if !census.owners_complete {
            limits.push("not all processes could be searched for the sockets they hold".to_owned());
        }
        let mut survey = Self {
            host,
            deaths: Deaths::default(),
            nginxes: Nginxes::new(only),
            facts: Facts::default(),
            filters: Filters::default(),
            unix: UnixWatch::default(),
            failures: Failures::default(),
            names: Names::default(),
            limits,
        };
        survey.watch_unix();
        Ok(survey)
    }

    /// Looks at open files by this program from now on, where the kernel lists too little.
    pub fn look_at_files_by(&mut self, program: Option<Iter>) {
        self.host.open_files = program.map(OpenFiles::new);
    }

    /// Leaves names alone that only DNS knows.
    pub fn ask_no_dns(&mut self) {
        self.names.ask_no_dns();
    }

    /// The processes of nginx that are to be observed.
    pub fn observed(&self) -> Vec<u32> {
        self.nginxes.observed()
    }

    /// The instances, as `session` tells them.
    pub fn instances(&self) -> Vec<NginxInstance> {
        self.nginxes.instances()
    }

    /// The namespaces in which workers run.
    pub fn nginx_namespaces(&self) -> Vec<Namespace> {
        let namespaces = self.nginxes.namespaces().into_iter();
        namespaces
            .filter_map(|netns| self.host.namespaces.get(netns).cloned())
            .collect()
    }

    /// The processes that hold a listening socket.
    pub fn owners(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .host
            .namespaces
            .iter()
            .flat_map(|namespace| self.host.listeners.in_namespace(namespace.inode))
            .flat_map(|listener| listener.owners)
            .map(|owner| owner.pid)
            .chain(self.host.unix_listeners.owners())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Looks again for nginx, for those that started while probes were being attached.
    pub fn look_again(&mut self) -> bool {
        self.nginxes.look_around()
    }

    fn run(mut self, tasks: &Receiver<Task>, answers: &Sender<Answer>) {
        self.nginxes.warm_up();
        loop {
            let due = self.unix.due();
            let task = tasks.recv_timeout(self.names.due().map_or(due, |names| names.min(due)));
            let ended = matches!(task, Err(RecvTimeoutError::Disconnected));
            let mut answered = task.map_or_else(|_| Vec::new(), |task| self.work(task));
            if self.unix.due().is_zero() {
                answered.extend(self.look_at_unix());
            }
            answered.extend(self.named(ended));
            for answer in answered {
                if answers.blocking_send(answer).is_err() {
                    return;
                }
            }
            if ended {
                return;
            }
        }
    }

    fn work(&mut self, task: Task) -> Vec<Answer> {
        match task {
            Task::Note(evidence) => self.note(*evidence),
            Task::Explain(asked) => {
                let (ended, coverage) = *asked;
                self.explain(ended, coverage)
            }
            Task::Rescan => {
                let _ = self.host.freshen(Duration::ZERO);
                let _ = self
                    .host
                    .listeners
                    .rescan(&self.host.namespaces, FIRST_LOOK);
                self.facts.forget();
                self.look_around()
            }
            Task::LookAround => self.look_around(),
        }
    }

    fn look_around(&mut self) -> Vec<Answer> {
        let before = self.nginxes.observed();
        let spaces = self.nginxes.namespaces();
        self.nginxes.look_around();
        self.unix.stir();
        let mut answers = Vec::new();
        let new: Vec<u32> = self
            .nginxes
            .observed()
            .into_iter()
            .filter(|pid| !before.contains(pid))
            .collect();
        if !new.is_empty() {
            answers.push(Answer::Follow(new));
        }
        if self.nginxes.namespaces() != spaces {
            let _ = self.host.freshen(Duration::ZERO);
            answers.push(Answer::Namespaces(self.nginx_namespaces()));
        }
        answers
    }

    fn note(&mut self, evidence: Evidence) -> Vec<Answer> {
        let at = evidence.at;
        match evidence.what {
            What::ListenStarted(listening) => return self.listener_began(at, &listening),
            What::ListenEnded(listening) => self.listener_ended(at, &listening),
            What::ProcessExited { pid, exit_code } => {
                self.deaths.exited(pid, exit_code, at);
                let death = self.deaths.of(pid, Some(exit_code), at);
                let signalled = self.deaths.fatal_signal(pid, exit_code, at);
                self.host
                    .listeners
                    .process_exited(pid, &death, signalled, at);
                if self.host.unix_listeners.process_exited(pid, &death, at) {
                    self.facts.forget();
                    self.unix.stir();
                }
                if self.nginxes.is_known(pid) {
                    return self.look_around();
                }
            }
            What::SignalSent {
                sender,
                target,
                signal,
            } => self.deaths.signalled(target, signal, sender, at),
            What::OomVictim { pid } => self.deaths.chosen_by_oom(pid, at),
            What::Dropped { netns, .. }
            | What::IcmpSent { netns, .. }
            | What::NeighbourPacketDropped { netns, .. } => {
                self.filters.look(&self.host, netns);
            }
            What::Forked { parent, child } => {
                self.unix.stir();
                // It may have become a master just now: its workers are about to dial.
                let answers = match self.nginxes.belongs_to_none_yet(parent) {
                    true => self.look_around(),
                    false => Vec::new(),
                };
                self.nginxes.forked(parent, child);
                return answers;
            }
            What::ListenCalled { pid } => {
                self.facts.forget();
                self.deaths.forget(pid, at);
                self.host.unix_listeners.called(pid);
                self.unix.stir();
            }
            What::Executed { pid } => {
                self.nginxes.executed(pid);
                if self.nginxes.is_certainly_none(pid) {
                    return vec![Answer::Unfollow(vec![pid])];
                }
                // Its namespace is to be listened in before it dials.
                if self.nginxes.belongs_to_none_yet(pid) {
                    return self.look_around();
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn listener_began(&mut self, at: u64, listening: &Listening) -> Vec<Answer> {
        self.facts.forget();
        self.deaths.forget(listening.thread.pid, at);
        if self.host.namespaces.get(listening.netns).is_none() {
            let _ = self.host.freshen(Duration::ZERO);
        }
        let device = self.host.device(listening.netns, listening.ifindex);
        self.host.listeners.began(BeganListening {
            netns: listening.netns,
            inode: listening.inode,
            sk: listening.socket,
            address: listening.address,
            v6only: listening.v6only,
            device,
            pid: listening.thread.pid,
            comm: listening.thread.comm.clone(),
            at,
        });
        // An nginx that nobody announced begins by listening, whatever its file is called.
        match self.nginxes.is_unknown_nginx(listening.thread.pid) {
            true => self.look_around(),
            false => Vec::new(),
        }
    }

    fn listener_ended(&mut self, at: u64, listening: &Listening) {
        self.facts.forget();
        self.host.listeners.ended(EndedListening {
            netns: listening.netns,
            inode: listening.inode,
            sk: listening.socket,
            address: listening.address,
            at,
            death: self.deaths.of(listening.thread.pid, listening.dying, at),
            pid: listening.thread.pid,
            comm: listening.thread.comm.clone(),
        });
    }

    /// Says how the processes died that ended a connection by it.
    fn tell_deaths(&self, timeline: &mut [Observed]) {
        for seen in timeline {
            if let Fact::PeerEnded(ended) = &mut seen.fact
                && let Some(exit_code) = ended.exit_code
            {
                ended.death = Some(self.deaths.of(ended.pid, Some(exit_code), seen.at));
            }
        }
    }

    /// No answer yet for an attempt that waits for names.
    fn explain(&mut self, mut ended: Ended, coverage: Coverage) -> Vec<Answer> {
        let mut worker = self.nginxes.worker(ended.thread.pid, ended.netns);
        worker.netns = ended.netns.unwrap_or(worker.netns);
        let configured = self.nginxes.configured(&worker);
        let logged = ended.log.as_ref().and_then(meant);
        if let (Ending::AfterConnect { .. }, Some(Endpoint::Unix(path))) =
            (ended.attempt.ending, &mut ended.attempt.dialled)
            && let Some(configured) = configured.unix_path_in(path)
        {
            *path = configured;
        }
        if ended.attempt.dialled.is_none() {
            ended.attempt.family = match &logged {
                Some(Endpoint::Inet(address)) if address.is_ipv6() => Family::Ipv6,
                Some(Endpoint::Unix(_)) => Family::Unix,
                _ => ended.attempt.family,
            };
        }
        let serves = || self.nginxes.serves(worker.pid);
        if !is_upstream(&ended, &worker, &configured, serves) {
            return vec![Answer::NoUpstream(ended.outcome)];
        }
        // The call was never entered: nginx's own line says what it was to reach.
        if matches!(ended.attempt.ending, Ending::ConnectFailed { .. }) {
            ended.attempt.dialled = ended.attempt.dialled.or_else(|| logged.clone());
        }
        if let Ending::Undialled { cause } = ended.attempt.ending {
            ended.attempt.upstream_name = ended.log.as_ref().and_then(|line| named(line, cause));
            let name = ended.attempt.upstream_name.as_deref();
            let is_in_block = |server: &Endpoint| configured.stands_in(server, name);
            let before = self.failures.before(&worker, name, is_in_block);
            ended.earlier.extend(before);
        }
        if let Some(upstream) = ended.attempt.dialled.as_ref().or(logged.as_ref()) {
            let attribution = configured.attribute(upstream);
            ended.attempt.upstream_name = attribution.name;
            ended.attempt.upstream_server = attribution.server;
            ended.attempt.connect_timeout_ms = attribution.connect_timeout_ms;
        }
        if self.unix.is_stirred() && matches!(ended.attempt.dialled, Some(Endpoint::Unix(_))) {
            self.watch_unix();
        }
        self.tell_deaths(&mut ended.timeline);
        let mut host = self.facts.gather(&mut self.host, &worker, &ended);
        host.ports_spoken_for = configured.ports_spoken_for();
        host.filterings =
            self.filters
                .gather(&self.host, &worker, &ended, host.tracked_to, &coverage);
        for told in host
            .filterings
            .iter()
            .filter_map(|told| told.disagreement.as_ref())
        {
            log::warn!("{told}");
        }
        if !host.filterings.is_empty() {
            host.iptables = iptables::default_backend();
            host.entrances = filters::entrances(&self.host, &host.filterings);
        }
        if let (Some(unix), Some(Endpoint::Unix(path))) = (&mut host.unix, &ended.attempt.dialled) {
            unix::leave_out_configured(unix, path, &configured);
            let dialled = [path.clone()].into_iter();
            let _ = self.host.unix_listeners.watch(worker.pid, dialled);
            self.unix.stir();
        }
        let case = Case {
            worker,
            attempt: ended.attempt,
            timeline: ended.timeline,
            host,
            log: ended.log,
            connection: ended.connection,
            earlier: ended.earlier,
            coverage,
        };
        let diagnosis = diagnose(&case);
        // Also where it waits for names: what fails meanwhile refers to it.
        self.failures.note(&case, &diagnosis);
        let explained = Explained {
            case,
            diagnosis,
            outcome: ended.outcome,
        };
        let named = self
            .names
            .explain(explained, &configured, &self.host.namespaces);
        self.answer(named)
    }

    /// The attempts that have waited for names, all of them where the trace ends.
    fn named(&mut self, ended: bool) -> Vec<Answer> {
        let named = if ended {
            self.names.last()
        } else {
            self.names.settled()
        };
        self.answer(named)
    }

    fn answer(&mut self, explained: impl IntoIterator<Item = Explained>) -> Vec<Answer> {
        explained
            .into_iter()
            .map(|explained| {
                self.failures.note(&explained.case, &explained.diagnosis);
                Answer::Explained(Box::new(explained))
            })
            .collect()
    }
}
