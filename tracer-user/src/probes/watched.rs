//! The maps by which user space tells the programs what to watch.

use aya::{
    Pod,
    maps::{Array, HashMap, MapData, MapError, PerCpuHashMap},
};
use tracer_common::{
    Code, bound, interest,
    layout::RuleLayout,
    record::{Address, Destination, Outcome, Tally},
    role,
};

use super::{Probes, ProbesError};
use crate::case::Endpoint;

const PACKET_DROP: &str = "packet-drop";

/// A key of a map: a structure of the wire.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Key<T>(T);

// SAFETY: a `Destination` is plain integers without padding.
unsafe impl Pod for Key<Destination> {}
// SAFETY: an `Outcome` is plain integers without padding.
unsafe impl Pod for Key<Outcome> {}

/// A value of a map: a structure of the wire.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Value<T>(pub T);

// SAFETY: a `Tally` is plain integers without padding.
unsafe impl Pod for Value<Tally> {}
// SAFETY: a `RuleLayout` is plain integers without padding.
unsafe impl Pod for Value<RuleLayout> {}

// SAFETY: a `Code` is plain integers without padding.
unsafe impl Pod for Value<Code> {}

impl Probes {
    /// Whether packets that hooks drop are known by the place in the kernel's code alone.
    pub fn needs_places(&self) -> bool {
        self.weaknesses().any(|(name, _)| name == PACKET_DROP)
    }

    /// Takes for the work of a packet filter what is freed in this code. Without any, the
    /// observation of drops shows nothing of the kind.
    pub fn watch_code(&mut self, code: &[Code]) -> Result<(), ProbesError> {
        let map = self
            .ebpf
            .map_mut("HOOK_CODE")
            .ok_or(ProbesError::NoMap("HOOK_CODE"))?;
        let mut places: Array<_, Value<Code>> =
            Array::try_from(map).map_err(|error| ProbesError::Map("HOOK_CODE", error))?;
        for (index, code) in (0..bound::HOOK_CODE).zip(code) {
            places
                .set(index, Value(*code), 0)
                .map_err(|error| ProbesError::Map("HOOK_CODE", error))?;
        }
        if code.is_empty() {
            self.become_blind(PACKET_DROP);
        }
        Ok(())
    }

    /// Observes the connections of these processes.
    pub fn follow(&mut self, pids: &[u32]) -> Result<(), ProbesError> {
        let mut tasks = self.hash::<u32>("TASKS")?;
        for pid in pids {
            accept_full(tasks.insert(pid, role::NGINX, 0), "TASKS")?;
        }
        Ok(())
    }

    /// Observes them no longer.
    pub fn unfollow(&mut self, pids: &[u32]) -> Result<(), ProbesError> {
        let mut tasks = self.hash::<u32>("TASKS")?;
        for pid in pids {
            // It may be gone already, and with it its entry.
            let _ = tasks.remove(pid);
        }
        Ok(())
    }

    /// Reports how these processes end: they hold listening sockets.
    pub fn watch_owners(&mut self, pids: &[u32]) -> Result<(), ProbesError> {
        let mut owners = self.hash::<u32>("OWNERS")?;
        for pid in pids {
            accept_full(owners.insert(pid, 1, 0), "OWNERS")?;
        }
        Ok(())
    }

    /// Reports the next connection to this address that stands.
    pub fn await_recovery(&mut self, endpoint: &Endpoint) -> Result<(), ProbesError> {
        let Some(key) = key(endpoint) else {
            return Ok(());
        };
        let mut recovering = self.hash::<Key<Destination>>("RECOVERING")?;
        accept_full(recovering.insert(key, 1, 0), "RECOVERING")?;
        let map = self
            .ebpf
            .map_mut("INTERESTS")
            .ok_or(ProbesError::NoMap("INTERESTS"))?;
        Array::<_, u32>::try_from(map)
            .and_then(|mut interests| interests.set(interest::RECOVERIES, 1, 0))
            .map_err(|error| ProbesError::Map("INTERESTS", error))
    }

    /// Reports it no longer.
    pub fn forget_recovery(&mut self, endpoint: &Endpoint) {
        if let Some(key) = key(endpoint)
            && let Ok(mut recovering) = self.hash::<Key<Destination>>("RECOVERING")
        {
            let _ = recovering.remove(&key);
        }
    }

    /// How many attempts of each outcome were counted, and not told, since the beginning.
    pub fn counted(&self) -> Result<Vec<(Outcome, u64)>, ProbesError> {
        let map = self
            .ebpf
            .map("OUTCOMES")
            .ok_or(ProbesError::NoMap("OUTCOMES"))?;
        let outcomes: PerCpuHashMap<_, Key<Outcome>, Value<Tally>> =
            PerCpuHashMap::try_from(map).map_err(|error| ProbesError::Map("OUTCOMES", error))?;
        let counted = outcomes
            .iter()
            .flatten()
            .map(|(key, tallies)| (key.0, tallies.iter().map(|tally| tally.0.folded).sum()));
        Ok(counted.collect())
    }

    /// Forgets an outcome that no attempt had for long.
    pub fn forget_outcome(&mut self, outcome: Outcome) {
        if let Some(map) = self.ebpf.map_mut("OUTCOMES")
            && let Ok(mut outcomes) = PerCpuHashMap::<_, Key<Outcome>, Value<Tally>>::try_from(map)
        {
            let _ = outcomes.remove(&Key(outcome));
        }
    }

    fn hash<K: Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<&mut MapData, K, u32>, ProbesError> {
        let map = self.ebpf.map_mut(name).ok_or(ProbesError::NoMap(name))?;
        HashMap::try_from(map).map_err(|error| ProbesError::Map(name, error))
    }
}

/// A map that is full is no reason to stop: what is in it is still observed.
fn accept_full(result: Result<(), MapError>, name: &'static str) -> Result<(), ProbesError> {
    match result {
        Ok(()) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::E2BIG) =>
        {
            log::warn!("the eBPF map {name} is full");
            Ok(())
        }
        Err(error) => Err(ProbesError::Map(name, error)),
    }
}

fn key(endpoint: &Endpoint) -> Option<Key<Destination>> {
    let Endpoint::Inet(address) = endpoint else {
        return None;
    };
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    Some(Key(Address::v6(ip.octets(), address.port(), 0).key()))
}
