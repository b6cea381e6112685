//! What was lost, and where: nothing is lost silently.

use tracer_common::record::kind;

use crate::case::KernelTime;
use crate::event::Lost;
use crate::probes::Missed;

/// What the parts of a trace have lost so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Records without room in the ring buffer, by kind; index 0 counts map entries.
    pub kernel: Vec<u64>,
    /// Events for which the kernel ran no program, by observation.
    pub missed: Vec<Missed>,
    pub undecodable: u64,
    /// Pieces of evidence for which there was no room.
    pub crowded_out: u64,
    /// ICMP errors for which their socket had no room.
    pub icmp: u64,
    /// How often records of the audit log found no room in their socket.
    pub audit: u64,
    /// Attempts, or changes of the host, that nobody looked into in time.
    pub unexplained: u64,
    /// Failed upstreams for which there was no room.
    pub untracked: u64,
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct Losses {
    told: Counts,
    /// When it was last noticed that evidence about attempts may be missing.
    noticed: Option<KernelTime>,
    /// The same of packets of ARP or neighbour discovery.
    noticed_neighbours: Option<KernelTime>,
}

const RING: &str = "ring buffer";
const MAPS: &str = "kernel maps";
/// Such packets are told at a bounded rate: a scan of a network can make a filter drop thousands.
const NEIGHBOURS: (&str, &str) = (
    RING,
    "packets of ARP or neighbour discovery that a packet filter dropped",
);
/// What is missing there is only the name of who denied a call, and verdicts say so.
const AUDIT: (&str, &str) = (USER, "times that records of the audit log found no room");
/// How long before an attempt a packet may have been dropped for want of which its next hop is not
/// known, in nanoseconds.
const NEIGHBOURS_BEFORE: KernelTime = 5_000_000_000;
const KERNEL: &str = "kernel";
const USER: &str = "user space";

impl Losses {
    /// Takes in the counts of that moment and gives what is new.
    pub fn count(&mut self, now: Counts, at: KernelTime) -> Vec<Lost> {
        let new = listed(&now, &self.told);
        self.told = now;
        if Self::bear_on_attempts(&new) {
            self.noticed = Some(at);
        }
        if new.iter().any(|lost| lost.what == NEIGHBOURS.1) {
            self.noticed_neighbours = Some(at);
        }
        new
    }

    /// Whether evidence about attempts of any kind may be missing.
    pub fn bear_on_attempts(lost: &[Lost]) -> bool {
        let special = [NEIGHBOURS.1, AUDIT.1];
        lost.iter()
            .any(|lost| !special.contains(&lost.what.as_str()))
    }

    /// Whether evidence about an attempt that began then may be missing.
    pub fn since(&self, began: KernelTime) -> bool {
        self.noticed.is_some_and(|noticed| noticed >= began)
    }

    /// Whether a packet of ARP or neighbour discovery that a filter dropped may be missing of which
    /// such an attempt suffered.
    pub fn of_neighbours_since(&self, began: KernelTime) -> bool {
        self.noticed_neighbours
            .is_some_and(|noticed| noticed.saturating_add(NEIGHBOURS_BEFORE) >= began)
    }

    /// Everything since the beginning, with what the output lost.
    pub fn all(&self, output: Option<Lost>) -> Vec<Lost> {
        let all = listed(&self.told, &Counts::default());
        all.into_iter().chain(output).collect()
    }
}

fn listed(now: &Counts, told: &Counts) -> Vec<Lost> {
    let kernel = now.kernel.iter().enumerate().filter_map(|(index, count)| {
        let (place, what) = described(index);
        let told = told.kernel.get(index).copied().unwrap_or(0);
        lost(place, what, count.saturating_sub(told))
    });
    let missed = now.missed.iter().filter_map(|missed| {
        let told = told.missed.iter();
        let told = told.filter(|told| told.observation == missed.observation);
        let told: u64 = told.map(|told| told.count).sum();
        let what = format!(
            "events of `{}` that met its program at work on the same processor",
            missed.observation
        );
        lost(KERNEL, &what, missed.count.saturating_sub(told))
    });
    let others = [
        (
            USER,
            "records that could not be read",
            now.undecodable.saturating_sub(told.undecodable),
        ),
        (
            USER,
            "pieces of evidence for which there was no room",
            now.crowded_out.saturating_sub(told.crowded_out),
        ),
        (
            USER,
            "ICMP errors for which there was no room",
            now.icmp.saturating_sub(told.icmp),
        ),
        (AUDIT.0, AUDIT.1, now.audit.saturating_sub(told.audit)),
        (
            USER,
            "attempts, or changes of the host, that were not looked into in time",
            now.unexplained.saturating_sub(told.unexplained),
        ),
        (
            USER,
            "failed upstreams whose recovery will not be told",
            now.untracked.saturating_sub(told.untracked),
        ),
    ];
    let others = others
        .into_iter()
        .filter_map(|(place, what, count)| lost(place, what, count));
    kernel.chain(missed).chain(others).collect()
}

fn lost(place: &str, what: &str, count: u64) -> Option<Lost> {
    (count > 0).then(|| Lost {
        place: place.to_owned(),
        what: what.to_owned(),
        count,
    })
}

/// Records of a kind that is not named below.
const UNNAMED: (&str, &str) = (RING, "records of other kinds");

/// What a counter of the kernel's programs counts.
fn described(index: usize) -> (&'static str, &'static str) {
    match index as u16 {
        0 => (MAPS, "attempts or processes for which there was no room"),
        kind::CONNECT_FAILED | kind::ATTEMPT_ENDED | kind::SOCKET_FAILED | kind::BIND_FAILED => {
            (RING, "failed attempts")
        }
        kind::CONNECTED => (RING, "connections that stood"),
        kind::RESET_SENT => (RING, "resets sent"),
        kind::PACKET_DROPPED => (RING, "dropped packets"),
        kind::RULE_MET | kind::RULE_BYTES => (RING, "rules that stopped packets"),
        kind::ICMP_SENT => (RING, "ICMP errors sent"),
        kind::RETRANSMITTED => (RING, "retransmissions"),
        kind::LISTEN_STARTED | kind::LISTEN_ENDED | kind::LISTEN_CALLED => {
            (RING, "changes of listeners")
        }
        kind::NEIGHBOUR_DROPPED => NEIGHBOURS,
        kind::LOG_LINE => (
            KERNEL,
            "lines of error logs, for want of room or because there were too many",
        ),
        kind::CLIENT_CLOSED => (RING, "clients that left"),
        kind::SOCKET_CLOSED | kind::UPSTREAM_CLOSED => (RING, "sockets closed"),
        kind::PEER_ENDED => (RING, "connections that backends ended"),
        kind::PROCESS_EXITED
        | kind::SIGNAL_SENT
        | kind::OOM_VICTIM
        | kind::FORKED
        | kind::EXECUTED => (RING, "changes of processes"),
        _ => UNNAMED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told_and_all_of_it_at_the_end() {
        let mut losses = Losses::default();
        let mut now = Counts {
            kernel: vec![0; usize::from(kind::COUNT)],
            ..Counts::default()
        };
        assert!(losses.count(now.clone(), 1).is_empty());
        now.kernel[usize::from(kind::LOG_LINE)] = 3;
        now.unexplained = 1;
        now.missed = vec![Missed {
            observation: "packet-drop",
            count: 2,
        }];
        assert_eq!(losses.count(now.clone(), 2).len(), 3);
        assert!(losses.count(now, 3).is_empty());
        assert!(losses.since(2) && !losses.since(3));
        let all = losses.all(None);
        assert_eq!(all.iter().map(|lost| lost.count).sum::<u64>(), 6);
    }
    #[test]
    fn lost_packets_of_neighbours_and_audit_records_bear_on_no_other_attempts() {
        let mut losses = Losses::default();
        let mut now = Counts {
            kernel: vec![0; usize::from(kind::COUNT)],
            audit: 1,
            ..Counts::default()
        };
        let told = losses.count(now.clone(), 10);
        assert_eq!(told.len(), 1);
        assert!(!losses.since(1) && !losses.of_neighbours_since(1));
        now.kernel[usize::from(kind::NEIGHBOUR_DROPPED)] = 3;
        assert_eq!(losses.count(now, 20).len(), 1);
        assert!(!losses.since(1));
        assert!(losses.of_neighbours_since(20 + NEIGHBOURS_BEFORE));
        assert!(!losses.of_neighbours_since(21 + NEIGHBOURS_BEFORE));
    }

    #[test]
    fn every_kind_of_record_has_a_name_for_its_loss() {
        for index in 0..kind::COUNT {
            assert_ne!(described(index.into()), UNNAMED, "{index}");
        }
        assert_eq!(described(kind::COUNT.into()), UNNAMED);
    }
}
