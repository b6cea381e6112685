//! Which rules can have done what the kernel saw.

use crate::case::{
    Action, Backend, Case, Circumstances, FilterFamily, Filtering, Fitting, Hook, Icmp, KnownBy,
    Netns, Purpose, Segment,
};
use crate::diagnose::icmp;
use crate::diagnose::neighbours::Starved;

/// What netfilter did to one packet, as the kernel's evidence tells it.
#[derive(Debug, Clone, Copy)]
pub(in crate::diagnose) struct Incident<'c> {
    pub netns: Netns,
    pub hook: Option<Hook>,
    /// The packet is an answer to nginx.
    pub answer: bool,
    pub did: Did,
    pub segment: Segment,
    pub circumstances: Option<&'c Circumstances>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::diagnose) enum Did {
    /// The packet was freed, and nothing was seen to answer it.
    Dropped,
    /// The packet was queued for a program.
    Queued,
    /// nginx got a reset that no TCP stack here sent.
    Reset,
    /// An ICMP error was sent or received.
    Icmp(Icmp),
    /// Something made this error number of it.
    Answered(i32),
}

/// The rules that are left once the evidence has spoken.
#[derive(Debug, Default)]
pub(in crate::diagnose) struct Suspects<'c> {
    /// The likeliest first.
    pub fitting: Vec<&'c Fitting>,
    /// What was read about the incident's place; empty where nothing was.
    pub readings: Vec<&'c Filtering>,
}

impl<'c> Suspects<'c> {
    /// Those of an incident.
    pub fn of(case: &'c Case, incident: &Incident) -> Self {
        Self::that(case, incident, |fitting| {
            agrees(&fitting.action, incident.did)
        })
    }

    /// Those of an incident whose rules answer `wanted`, whatever their action.
    pub fn that(case: &'c Case, incident: &Incident, wanted: impl Fn(&Fitting) -> bool) -> Self {
        let is_about = |filtering: &Filtering| {
            filtering.neighbour.is_none()
                && is_at(filtering, incident.netns, incident.hook, incident.answer)
        };
        Self::left(case, is_about, wanted, incident.circumstances)
    }

    /// Those of a packet that was to find a neighbour.
    pub fn of_neighbour(case: &'c Case, starved: &Starved) -> Self {
        let is_about = |filtering: &Filtering| {
            filtering.neighbour == Some(starved.wanted)
                && is_at(filtering, starved.netns, starved.hook, starved.answer)
        };
        // What rejects sends nothing back to ARP or neighbour discovery, and drops; what queues
        // frees the packet elsewhere.
        let stops = |fitting: &Fitting| !matches!(fitting.action, Action::Queue { .. });
        Self::left(case, is_about, stops, Some(starved.circumstances))
    }

    fn left(
        case: &'c Case,
        is_about: impl Fn(&Filtering) -> bool,
        wanted: impl Fn(&Fitting) -> bool,
        circumstances: Option<&Circumstances>,
    ) -> Self {
        let filterings = case.host.filterings.iter();
        let readings: Vec<&Filtering> = filterings.filter(|told| is_about(told)).collect();
        let mut fitting: Vec<&Fitting> = readings
            .iter()
            .flat_map(|filtering| &filtering.fitting)
            .filter(|fitting| wanted(fitting))
            .filter(|fitting| ran(fitting, circumstances))
            .collect();
        keep_unless_none(&mut fitting, |fitting| !fitting.never_met);
        by_counters(&mut fitting);
        fitting.sort_by_key(|fitting| {
            let unnamed = matches!(fitting.action, Action::Other { .. });
            (
                fitting.counted.is_none_or(|packets| packets == 0),
                unnamed,
                !fitting.certain,
            )
        });
        Self { fitting, readings }
    }

    /// The one rule that is left.
    pub fn only(&self) -> Option<&'c Fitting> {
        match self.fitting[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The hook at which one of them would have met the packet.
    pub fn hook_of(&self, fitting: &Fitting) -> Option<Hook> {
        self.reading_of(fitting).map(|filtering| filtering.hook)
    }

    /// How one of them is known.
    pub fn known_by(&self, fitting: &Fitting) -> KnownBy {
        self.reading_of(fitting)
            .map_or(KnownBy::Evaluation, |filtering| filtering.known_by)
    }

    fn reading_of(&self, fitting: &Fitting) -> Option<&'c Filtering> {
        let has = |filtering: &&&Filtering| {
            let mut own = filtering.fitting.iter();
            own.any(|one| std::ptr::eq(one, fitting))
        };
        self.readings.iter().find(has).copied()
    }

    /// The rules were read as they stood when the packet met them, all of them.
    pub fn read_in_full(&self) -> bool {
        self.readings
            .iter()
            .all(|filtering| !filtering.changed && filtering.unread.is_empty())
    }
}

fn is_at(filtering: &Filtering, netns: Netns, hook: Option<Hook>, answer: bool) -> bool {
    filtering.purpose == Purpose::Stopped
        && filtering.netns == netns
        && filtering.answer == answer
        && hook.is_none_or(|hook| hook == filtering.hook)
}

/// Whether a rule that does this can have done that.
fn agrees(action: &Action, did: Did) -> bool {
    match (action, did) {
        (Action::Accept | Action::Translate { .. }, _) => false,
        (Action::Other { .. }, _) => true,
        (Action::Drop, Did::Dropped) => true,
        (Action::Queue { .. }, Did::Queued) => true,
        (Action::RejectWithReset, Did::Reset) => true,
        (Action::RejectWithReset, Did::Answered(errno)) => errno == libc::ECONNREFUSED,
        (Action::RejectWithIcmp { icmp }, Did::Icmp(seen)) => *icmp == seen,
        (Action::RejectWithIcmp { icmp }, Did::Answered(errno)) => {
            icmp::errno(*icmp) == Some(errno)
        }
        _ => false,
    }
}

/// Whether the functions on the kernel's stack are those that run such a rule. A stack without
/// any excludes nothing: `nf_hook_slow` frees what legacy tables drop, and on kernels before
/// `NF_DROP_REASON` what nft drops as well.
fn ran(fitting: &Fitting, circumstances: Option<&Circumstances>) -> bool {
    let functions = circumstances.map_or(&[][..], |known| known.functions.as_slice());
    let on_stack = |names: &[&str]| {
        functions
            .iter()
            .any(|function| names.contains(&function.as_str()))
    };
    let legacy = on_stack(&["ipt_do_table", "ip6t_do_table", "arpt_do_table"]);
    let nft = functions
        .iter()
        .any(|function| function.starts_with("nft_do_chain"));
    match fitting.backend {
        Backend::IptablesLegacy => legacy || !nft,
        Backend::Nft if on_stack(&["nft_target_eval_xt"]) => false,
        Backend::Nft | Backend::IptablesNft => {
            !legacy && (!nft || of_chain_type(fitting.family, functions))
        }
    }
}

/// Filter chains have an entry function for each family of tables (`nft_chain_filter.c`), those of
/// other kinds none of this name.
fn of_chain_type(family: FilterFamily, functions: &[String]) -> bool {
    let mut entered = functions
        .iter()
        .filter_map(|function| function.strip_prefix("nft_do_chain_"))
        .peekable();
    if entered.peek().is_none() {
        return true;
    }
    entered.any(|kind| match family {
        FilterFamily::Ip => kind == "ipv4",
        FilterFamily::Ip6 => kind == "ipv6",
        FilterFamily::Inet => kind.starts_with("inet"),
        FilterFamily::Arp => kind == "arp",
        FilterFamily::Bridge => kind == "bridge",
        FilterFamily::Netdev => kind == "netdev",
    })
}

/// A rule that counted something meanwhile excludes those that counted nothing.
fn by_counters(fitting: &mut Vec<&Fitting>) {
    if fitting
        .iter()
        .any(|fitting| fitting.counted.is_some_and(|packets| packets > 0))
    {
        fitting.retain(|fitting| fitting.counted != Some(0));
    }
}

fn keep_unless_none(fitting: &mut Vec<&Fitting>, keep: impl Fn(&Fitting) -> bool) {
    if fitting.iter().any(|fitting| keep(fitting)) {
        fitting.retain(|fitting| keep(fitting));
    }
}
