//! Programs at the functions with which packet filters stop packets.
//!
//! Those that reject run for rejected packets alone, and are attached as soon as their module is
//! there. The one at verdicts runs for every packet that meets a rule with a verdict, accepted
//! ones among them: it is attached on demand. A thread of its own attaches and detaches, which
//! the kernel may take long for.
//!
//! On demand means while packets of nginx are dropped (`trace/rules.rs`): a SYN is sent again, so
//! the attempt that asked for it mostly gets its rule. What they tell narrows what the evaluation
//! of the ruleset leads to (`survey/filters/exact.rs`): a rule counts only where its handle stands
//! in the ruleset as it was read, with that end, in a chain that the packet can come to. A rule of
//! legacy iptables that drops calls no function (`ipt_do_table` decides itself): there the
//! evaluation stands alone.

use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use aya::{
    maps::{Array, MapData},
    programs::KProbe,
};
use tracer_common::layout::RuleLayout;

use super::{Probes, layout, perf_event, watched::Value};
use crate::{btf::Btf, case::KernelTime, clock, event::RefusedCandidate};

/// How often it is looked whether a module was loaded or removed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The module of nftables, whose types tell where its rules keep their chain.
const NFTABLES: &str = "nf_tables";
/// As `session` and `doctor` call it.
pub const OBSERVATION: &str = "rule";
const MEANS: &str = "kprobe:nft_immediate_eval";

/// A function, its module, and the program that runs at it.
struct Place {
    function: &'static str,
    module: &'static str,
    program: &'static str,
    on_demand: bool,
}

const fn reject(function: &'static str, module: &'static str) -> Place {
    Place {
        function,
        module,
        program: "kprobe_nft_reject_inet_eval",
        on_demand: false,
    }
}

const fn target(function: &'static str, module: &'static str) -> Place {
    Place {
        function,
        module,
        program: "kprobe_reject_tg",
        on_demand: false,
    }
}

const PLACES: [Place; 8] = [
    Place {
        function: "nft_immediate_eval",
        module: NFTABLES,
        program: "kprobe_nft_immediate_eval",
        on_demand: true,
    },
    reject("nft_reject_inet_eval", "nft_reject_inet"),
    reject("nft_reject_ipv4_eval", "nft_reject_ipv4"),
    reject("nft_reject_ipv6_eval", "nft_reject_ipv6"),
    reject("nft_reject_bridge_eval", "nft_reject_bridge"),
    reject("nft_reject_netdev_eval", "nft_reject_netdev"),
    target("reject_tg", "ipt_REJECT"),
    target("reject_tg6", "ip6t_REJECT"),
];

/// The probes at rules, and the demand for the costly one. They are gone once it is dropped.
#[derive(Debug, Default)]
pub struct RuleProbes {
    orders: Option<Sender<bool>>,
    /// Since when the costly one is attached; 0 where it is not.
    since: Arc<AtomicU64>,
}

impl Probes {
    /// Attaches the probe at verdicts of nftables, or detaches it, as soon as may be.
    pub fn demand_rules(&self, wanted: bool) {
        if let Some(orders) = &self.rules.orders {
            // The thread ends only with this sender.
            let _ = orders.send(wanted);
        }
    }

    /// Whether every verdict of nftables to drop was seen at that moment, and from before it on.
    pub fn saw_drops_at(&self, at: KernelTime) -> bool {
        let since = self.rules.since.load(Ordering::Acquire);
        since != 0 && since < at
    }

    /// Loads the programs and attaches what is not on demand. Where that cannot be, the report
    /// says why.
    pub(super) fn watch_rules(&mut self, btf: &Btf) {
        let places = self.rule_places();
        let started = places.and_then(|places| self.start(places, btf));
        let report = self.reports.iter_mut();
        let mut report = report.filter(|report| report.observation == OBSERVATION);
        let Some(report) = report.next() else {
            return;
        };
        match started {
            Ok(probes) => {
                report.via = Some(MEANS.to_owned());
                self.rules = probes;
            }
            Err(reason) => report.unavailable.push(RefusedCandidate {
                candidate: MEANS.to_owned(),
                reason,
            }),
        }
    }

    fn rule_places(&mut self) -> Result<Vec<Attachable>, String> {
        perf_event::kprobe_type()?;
        PLACES
            .iter()
            .map(|place| {
                let program = self.loaded(place.program)?;
                Ok(Attachable {
                    place,
                    program,
                    event: None,
                })
            })
            .collect()
    }

    fn loaded(&mut self, name: &str) -> Result<OwnedFd, String> {
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or("the eBPF object has no such program")?;
        let program: &mut KProbe = program.try_into().map_err(super::hook::words)?;
        if program.fd().is_err() {
            program.load().map_err(super::hook::words)?;
        }
        let fd = program.fd().map_err(super::hook::words)?;
        let owned = fd.as_fd().try_clone_to_owned();
        owned.map_err(|error| format!("copying a descriptor: {error}"))
    }

    fn start(&mut self, places: Vec<Attachable>, btf: &Btf) -> Result<RuleProbes, String> {
        let map = self.ebpf.take_map("RULE_LAYOUT");
        let map = map.ok_or("the eBPF object has no map called RULE_LAYOUT")?;
        let layout = Array::try_from(map).map_err(|error| error.to_string())?;
        let (orders, received) = mpsc::channel();
        let since = Arc::new(AtomicU64::new(0));
        let mut watch = Watch {
            places,
            layout,
            known: HashSet::new(),
            since: Arc::clone(&since),
        };
        watch.begin(btf);
        std::thread::Builder::new()
            .name("whyrefused-rule".to_owned())
            .spawn(move || watch.run(&received))
            .map_err(|error| format!("starting a thread: {error}"))?;
        Ok(RuleProbes {
            orders: Some(orders),
            since,
        })
    }
}

fn is_loaded(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists()
}

struct Attachable {
    place: &'static Place,
    program: OwnedFd,
    event: Option<OwnedFd>,
}

/// What the thread has.
struct Watch {
    places: Vec<Attachable>,
    layout: Array<MapData, Value<RuleLayout>>,
    /// Modules that were there at the last look.
    known: HashSet<&'static str>,
    since: Arc<AtomicU64>,
}

impl Watch {
    fn run(mut self, orders: &Receiver<bool>) {
        let mut wanted = false;
        loop {
            match orders.recv_timeout(LOOK_EVERY) {
                Ok(order) => wanted = order,
                Err(RecvTimeoutError::Timeout) => self.look(None),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.satisfy(wanted);
        }
    }

    /// Attaches what is not on demand, where it is built in or there already.
    fn begin(&mut self, btf: &Btf) {
        for index in 0..self.places.len() {
            let place = self.places[index].place;
            if !place.on_demand && !is_loaded(place.module) {
                self.attach(index);
            }
        }
        self.look(Some(btf));
    }

    /// The same at modules that are there, once each; forgets those that went.
    fn look(&mut self, btf: Option<&Btf>) {
        for index in 0..self.places.len() {
            let place = self.places[index].place;
            match (is_loaded(place.module), place.on_demand) {
                (false, on_demand) if self.known.remove(place.module) => {
                    if on_demand {
                        self.since.store(0, Ordering::Release);
                    }
                    self.places[index].event = None;
                }
                (true, true) if self.known.insert(place.module) => self.learn_layout(btf),
                (true, false) if self.known.insert(place.module) => self.attach(index),
                _ => {}
            }
        }
    }

    fn satisfy(&mut self, wanted: bool) {
        for index in 0..self.places.len() {
            let attachable = &self.places[index];
            if !attachable.place.on_demand || attachable.event.is_some() == wanted {
                continue;
            }
            if wanted {
                self.attach(index);
                if self.places[index].event.is_some() {
                    self.since.store(clock::monotonic(), Ordering::Release);
                }
            } else {
                self.since.store(0, Ordering::Release);
                self.places[index].event = None;
            }
        }
    }

    fn attach(&mut self, index: usize) {
        let Attachable { place, program, .. } = &self.places[index];
        match perf_event::run_at_function(place.function, program.as_fd()) {
            Ok(event) => self.places[index].event = Some(event),
            Err(reason) => log::debug!("kprobe:{}: {reason}", place.function),
        }
    }

    /// Reads the kernel's types again where they are not at hand.
    fn learn_layout(&mut self, btf: Option<&Btf>) {
        let layout = match btf {
            Some(btf) => layout::of_rules(btf),
            None => Btf::of_running_kernel()
                .ok()
                .and_then(|btf| layout::of_rules(&btf)),
        };
        if let Some(layout) = layout
            && let Err(error) = self.layout.set(0, Value(layout), 0)
        {
            log::warn!("setting the eBPF map RULE_LAYOUT: {error}");
        }
    }
}
