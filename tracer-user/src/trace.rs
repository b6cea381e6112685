//! `whyrefused trace`: attaches, explains live, and ends cleanly.
//!
//! One loop on one thread takes evidence out of the ring buffer, joins it, has the surveyor
//! explain what ended, and hands events to the sink. What takes the
//! host long to answer is asked by the surveyor.

mod audit;
mod awaited;
mod followers;
mod glances;
mod icmp;
mod losses;
mod recording;
mod ring;
mod rules;
pub mod session;
mod symbols;
mod tallies;

use std::time::Duration;

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, interval, sleep_until},
};

use crate::{
    btf::Btf,
    case::{Coverage, Ending, KernelTime},
    cli::Settings,
    clock,
    coalesce::Coalescer,
    correlate::{Correlator, Ended, Symbols},
    diagnose::coverage::Observation,
    event::{Event, Failure},
    evidence::{Evidence, What},
    host::descriptors,
    nginx::error_log,
    probes::{Names, Probes, ProbesError, Wishes},
    recovery::Recoveries,
    report,
    requirements::obstacle,
    sinks::{Sink, Written},
    survey::{Answer, Explained, Survey, Surveyor, Task},
    totals::Totals,
};
use audit::Audit;
use awaited::Awaited;
use followers::Followers;
use glances::Glances;
use icmp::IcmpSockets;
use losses::{Counts, Losses};
use recording::Recording;
use ring::Ring;
use rules::RuleWatch;
use symbols::KernelSymbols;
use tallies::Tallies;

/// How often losses are looked at.
const LOSSES_EVERY: Duration = Duration::from_secs(1);
/// How often at most they are looked at for attempts that are explained, in nanoseconds: no attempt
/// is explained sooner after its end.
const LOSSES_AT_MOST_EVERY: KernelTime = 4_000_000;
/// How often processes are looked at for an nginx that nobody announced.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(10);
/// How long the end of a trace waits for what is outstanding.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs a trace to its end and gives the exit status.
pub fn run(settings: &Settings) -> anyhow::Result<u8> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(trace(settings))
}

async fn trace(settings: &Settings) -> anyhow::Result<u8> {
    // A signal that comes while probes are being attached ends the trace once they are.
    let interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let sink = Sink::open(settings, session::host_name())?;
    let record = settings.record.as_deref().map(Recording::open);
    let mut trace = match Trace::attach(settings, sink, record.transpose()?) {
        Ok(trace) => trace,
        Err(error) => {
            eprintln!("whyrefused: {error:#}");
            return Ok(1);
        }
    };
    trace.run(settings.duration, interrupt, terminate).await?;
    Ok(trace.finish().await)
}

struct Trace {
    probes: Probes,
    names: Names,
    symbols: KernelSymbols,
    ring: Ring,
    icmp: IcmpSockets,
    audit: Audit,
    correlator: Correlator,
    surveyor: Surveyor,
    followers: Followers,
    glances: Glances,
    rules: RuleWatch,
    tallies: Tallies,
    /// When the kernel's counts are read next.
    next_count: Option<Instant>,
    coalescer: Coalescer,
    recoveries: Recoveries,
    awaited: Awaited,
    totals: Totals,
    losses: Losses,
    /// When losses were last looked at.
    counted_at: KernelTime,
    /// Attempts that were not explained before the end.
    unexplained: u64,
    sink: Sink,
    record: Option<Recording>,
    host: String,
    coverage: Coverage,
    /// The reader of the output has gone.
    unread: bool,
}

impl Trace {
    /// Attaches the probes, looks at the host, and says that the session has begun. Probes come
    /// first: what changes while the host is being read is then seen by them.
    fn attach(settings: &Settings, sink: Sink, record: Option<Recording>) -> anyhow::Result<Self> {
        session::check_privileges()?;
        let host = session::host_name();
        let btf = Btf::of(settings.btf.as_deref()).map_err(|error| obstacle(&error))?;
        let doubt = btf.doubt();
        let names = Names::read(&btf);
        let wishes = Wishes {
            follow_new: settings.pids.is_empty(),
            fold: !settings.coalesce.is_zero(),
        };
        let symbols = KernelSymbols::start();
        let mut probes = Probes::load(&btf, wishes).map_err(|error| obstacle(&error))?;
        probes.attach(&btf).map_err(|error| obstacle(&error))?;
        drop(btf);
        if probes.needs_places() {
            probes.watch_code(&symbols.code_of_hooks())?;
        }
        let ring = Ring::new(probes.take_ring()?)?;
        let mut survey = Survey::new(settings.pids.clone())?;
        if !settings.dns {
            survey.ask_no_dns();
        }
        survey.look_at_files_by(probes.open_files());
        follow(&mut probes, &survey.observed())?;
        // Whatever forked between the look and this is found by looking once more.
        if survey.look_again() {
            follow(&mut probes, &survey.observed())?;
        }
        session::check_pids(&settings.pids, &survey)?;
        probes.watch_owners(&survey.owners())?;
        let mut icmp = IcmpSockets::default();
        icmp.listen_in(&survey.nginx_namespaces());
        let audit = Audit::start();
        let session = session::event(&probes, &survey, &icmp, &audit, doubt, &host);
        let mut trace = Self {
            coverage: Coverage {
                unavailable: session::unavailable(&probes, &audit),
                lost_records: false,
                lost_neighbours: false,
                wall_offset_ns: clock::wall_offset(),
                traced_since: clock::monotonic(),
            },
            names,
            symbols,
            ring,
            icmp,
            audit,
            correlator: Correlator::default(),
            followers: Followers::default(),
            glances: Glances::default(),
            rules: RuleWatch::default(),
            tallies: Tallies::default(),
            next_count: None,
            coalescer: Coalescer::new(settings.coalesce),
            recoveries: Recoveries::default(),
            awaited: Awaited::default(),
            totals: Totals::default(),
            losses: Losses::default(),
            counted_at: 0,
            unexplained: 0,
            sink,
            record,
            host,
            unread: false,
            surveyor: Surveyor::start(survey)?,
            probes,
        };
        trace.write(&Event::Session(session));
        Ok(trace)
    }

    async fn run(
        &mut self,
        duration: Option<Duration>,
        mut interrupt: Signal,
        mut terminate: Signal,
    ) -> anyhow::Result<()> {
        let mut count_losses = interval(LOSSES_EVERY);
        let mut look_around = interval(LOOK_AROUND_EVERY);
        let end = duration.and_then(|duration| Instant::now().checked_add(duration));
        while !self.unread {
            let wake = self.next_wake();
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = until(end) => break,
                () = self.sink.reader_gone() => break,
                () = self.ring.filled() => self.drain(),
                evidence = self.icmp.received() => self.note(evidence),
                evidence = self.audit.received() => self.note(evidence),
                Some(answer) = self.surveyor.answer() => self.answered(answer)?,
                () = until(wake) => {}
                _ = count_losses.tick() => {
                    self.rules.rest(clock::monotonic(), &self.probes);
                    self.count_losses()?;
                }
                _ = look_around.tick() => { self.surveyor.ask(Task::LookAround); }
            }
            self.advance().await;
        }
        Ok(())
    }

    /// Takes what the kernel reported, in the order in which it happened.
    fn drain(&mut self) {
        for evidence in self.ring.drain(&self.names) {
            self.note(evidence);
        }
    }

    /// Takes what has been reported until now, by whatever way.
    async fn take_all(&mut self) {
        self.drain();
        // ICMP errors and denials lie in sockets, which other tasks read while this one waits. The
        // first wait lets the runtime ask which sockets can be read, and goes on before the tasks
        // that this wakes (`CoreGuard::block_on` of tokio): they run in the second.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        while let Some(evidence) = self.icmp.waiting().or_else(|| self.audit.waiting()) {
            self.note(evidence);
        }
    }

    fn note(&mut self, mut evidence: Evidence) {
        self.rules.note(&mut evidence, &self.probes, &self.symbols);
        self.await_next(&evidence);
        match &evidence.what {
            What::Connected { .. } => {
                self.connected(&evidence);
                self.correlator.observe(evidence, &self.symbols);
            }
            What::ListenStarted(_)
            | What::ListenEnded(_)
            | What::ProcessExited { .. }
            | What::SignalSent { .. }
            | What::OomVictim { .. }
            | What::Forked { .. }
            | What::ListenCalled { .. }
            | What::Executed { .. } => {
                self.followers.host_changed();
                self.surveyor.ask(Task::Note(Box::new(evidence)));
            }
            What::Dropped { netns, frames, .. } | What::IcmpSent { netns, frames, .. }
                if self.symbols.hook(frames).is_some() =>
            {
                // Its rules are read at once, before somebody changes them.
                if self.glances.is_due(*netns, evidence.at) {
                    self.surveyor.ask(Task::Note(Box::new(evidence.clone())));
                }
                self.correlator.observe(evidence, &self.symbols);
            }
            _ => self.correlator.observe(evidence, &self.symbols),
        }
    }

    /// Moves on whatever time has made ready.
    async fn advance(&mut self) {
        let now = clock::monotonic();
        // What the kernel reported until now may still lie in the ring, the line of an attempt
        // that has waited for it long enough among it.
        if self.correlator.next_ready().is_some_and(|at| at <= now) {
            self.take_all().await;
        }
        for ended in self.correlator.ready(now) {
            self.explain(ended);
        }
        if self.next_count.is_some_and(|at| at <= Instant::now()) {
            self.count_folded(now);
        }
        if self.next_count.is_none() && !self.tallies.is_empty() {
            self.next_count = Some(Instant::now() + tallies::EVERY);
        }
        for failure in self.coalescer.due(now) {
            self.tell(failure);
        }
        self.tell_recoveries(now);
    }

    /// Takes in the attempts that the kernel counted instead of telling them.
    fn count_folded(&mut self, now: KernelTime) {
        self.next_count = None;
        let counts = match self.probes.counted() {
            Ok(counts) => counts,
            Err(error) => {
                log::warn!("{error}");
                return;
            }
        };
        let coverage = &self.coverage;
        let (told, idle) = self.tallies.take(
            counts,
            now,
            |at| report::time_text(at, coverage),
            &mut self.coalescer,
            &mut self.recoveries,
        );
        for failure in told {
            self.tell(failure);
        }
        for outcome in idle {
            self.probes.forget_outcome(outcome);
        }
    }

    /// Counts an attempt that is like one that was just explained, or has it explained.
    fn explain(&mut self, mut ended: Ended) {
        if ended
            .outcome
            .is_some_and(|outcome| self.tallies.is_counting(outcome))
        {
            // Lines of attempts that are counted and not told stand among those of the told ones.
            ended.log = None;
        }
        if let Some(known) = self.followers.known(&ended)
            && self.coalescer.count(known.identity, 1)
        {
            known.count(&ended, &mut self.recoveries);
            return;
        }
        self.count_recent_losses();
        let coverage = self.coverage_of(&ended);
        let asked = Box::new((ended, coverage));
        self.surveyor.ask(Task::Explain(asked));
    }

    /// What was observed while that attempt was made.
    fn coverage_of(&self, ended: &Ended) -> Coverage {
        let began = ended.attempt.started;
        let mut coverage = self.coverage.clone();
        coverage.lost_records = ended.unseen || self.losses.since(began);
        coverage.lost_neighbours = self.losses.of_neighbours_since(began);
        if !self.icmp.heard_since(ended.netns, began) {
            let unheard = Observation::IcmpReceived.as_str();
            coverage.unavailable.push(unheard.to_owned());
        }
        coverage
    }

    fn answered(&mut self, answer: Answer) -> anyhow::Result<()> {
        match answer {
            Answer::Explained(explained) => self.explained(&explained)?,
            Answer::NoUpstream(outcome) => self.tallies.dismiss(outcome),
            Answer::Follow(pids) => follow(&mut self.probes, &pids)?,
            Answer::Unfollow(pids) => self.probes.unfollow(&pids)?,
            Answer::WatchOwners(pids) => self.probes.watch_owners(&pids)?,
            Answer::Namespaces(namespaces) => self.icmp.listen_in(&namespaces),
        }
        Ok(())
    }

    fn explained(&mut self, explained: &Explained) -> anyhow::Result<()> {
        let Explained {
            case, diagnosis, ..
        } = explained;
        if let Some(record) = &mut self.record {
            record.write(case);
        }
        let logged = case.log.as_ref().and_then(error_log::upstream_address);
        if let Some(dialled) = &case.attempt.dialled
            && !matches!(case.attempt.ending, Ending::AfterConnect { .. })
        {
            let upstream = || report::upstream(&case.attempt, logged.clone());
            let netns = case.worker.netns;
            let (ended, now) = (case.attempt.ended, clock::monotonic());
            self.recoveries.failed(netns, dialled, ended, now, upstream);
            if self.recoveries.is_down(netns, dialled) {
                self.await_recovery(Some(netns), dialled);
            }
        }
        // Whether a line was joined makes no difference where nginx's own words are known.
        let meant = logged.as_deref().filter(|_| case.attempt.dialled.is_none());
        let identity = self.coalescer.identity(case, diagnosis, meant);
        self.followers.learn(explained, identity);
        let host = &self.host;
        let build = || report::failure(case, diagnosis, host, logged.clone());
        if let (Some(outcome), Some(dialled)) = (explained.outcome, &case.attempt.dialled) {
            self.tallies
                .learn(outcome, identity, case.worker.netns, dialled, &build());
        }
        let told = self.coalescer.absorb(identity, case.attempt.ended, build);
        if let Some(failure) = told {
            self.tell(failure);
        }
        Ok(())
    }

    /// What is known of losses when an attempt is explained must not be old: nothing else says
    /// that evidence is missing.
    fn count_recent_losses(&mut self) {
        let counted = self.counted_at.saturating_add(LOSSES_AT_MOST_EVERY);
        if clock::monotonic() < counted {
            return;
        }
        if let Err(error) = self.count_losses() {
            log::warn!("{error:#}");
        }
    }

    fn count_losses(&mut self) -> anyhow::Result<()> {
        self.coverage.wall_offset_ns = clock::wall_offset();
        self.counted_at = clock::monotonic();
        let counts = Counts {
            kernel: self.probes.losses()?,
            missed: self.probes.missed(),
            undecodable: self.ring.undecodable(),
            crowded_out: self.correlator.forgotten(),
            icmp: self.icmp.lost(),
            audit: self.audit.lost(),
            unexplained: self.surveyor.refused() + self.unexplained,
            untracked: self.recoveries.untracked() + self.awaited.refused(),
        };
        let told = self.losses.count(counts, self.counted_at);
        if Losses::bear_on_attempts(&told) {
            self.correlator.missed(self.counted_at);
            self.surveyor.ask(Task::Rescan);
        }
        for lost in told {
            let loss = session::loss(lost, &self.coverage, &self.host);
            self.write(&Event::Loss(loss));
        }
        Ok(())
    }

    fn tell(&mut self, failure: Failure) {
        self.totals.add(&failure);
        self.write(&Event::Failure(Box::new(failure)));
    }

    fn write(&mut self, event: &Event) {
        if matches!(self.sink.write(event), Written::PipeClosed) {
            self.unread = true;
        }
    }

    /// When there is something to do without new evidence.
    fn next_wake(&self) -> Option<Instant> {
        let next = [
            self.correlator.next_ready(),
            self.coalescer.next_due(),
            self.recoveries.next_due(),
        ];
        let next = next.into_iter().flatten().min().map(instant);
        next.into_iter().chain(self.next_count).min()
    }

    /// Explains what is outstanding, as far as a second allows, and writes the last event.
    async fn finish(mut self) -> u8 {
        self.count_recent_losses();
        self.take_all().await;
        for ended in self.correlator.ready(KernelTime::MAX) {
            self.explain(ended);
        }
        self.surveyor.finish();
        let outstanding = async {
            while let Some(answer) = self.surveyor.answer().await {
                match answer {
                    Answer::Explained(explained) => {
                        let _ = self.explained(&explained);
                    }
                    Answer::NoUpstream(outcome) => self.tallies.dismiss(outcome),
                    _ => {}
                }
            }
        };
        if tokio::time::timeout(FAREWELL, outstanding).await.is_err() {
            self.unexplained += self.surveyor.outstanding();
        }
        self.count_folded(clock::monotonic());
        if let Ok(counts) = self.probes.counted() {
            self.unexplained += self.tallies.unexplained(&counts);
        }
        for failure in self.coalescer.flush() {
            self.tell(failure);
        }
        self.tell_recoveries(KernelTime::MAX);
        let _ = self.count_losses();
        let losses = self.losses.all(self.sink.losses());
        let end = self.totals.into_end(
            report::time_text(clock::monotonic(), &self.coverage),
            self.host,
            losses,
        );
        self.sink.finish(&Event::End(end), FAREWELL).exit_status()
    }
}

/// The moment of kernel time on the event loop's clock.
fn instant(at: KernelTime) -> Instant {
    Instant::now() + Duration::from_nanos(at.saturating_sub(clock::monotonic()))
}

/// Observes these processes of nginx, by means that fit them.
fn follow(probes: &mut Probes, pids: &[u32]) -> Result<(), ProbesError> {
    probes.follow(pids)?;
    // A process that is gone by now calls no more.
    let filtered = |pid: &u32| matches!(descriptors::seccomp_filter(*pid), Ok(Some(true)));
    if pids.iter().any(filtered) {
        probes.watch_for_refused_calls();
    }
    Ok(())
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
