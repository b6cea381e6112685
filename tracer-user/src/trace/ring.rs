//! The ring buffer, taken out in batches.

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep_until},
};
use tracer_common::decode::Record;

use crate::{evidence::Evidence, probes::Names};

/// How long records gather before the next batch. While records wait, the kernel wakes nobody
/// for further ones (`bpf_ringbuf_commit`): nginx pays for a wake-up this often at most.
const GATHER: Duration = Duration::from_millis(4);
/// How long until the buffer is looked at without being told.
const UNTOLD: Duration = Duration::from_millis(500);

pub struct Ring {
    records: AsyncFd<RingBuf<MapData>>,
    not_before: Instant,
    undecodable: u64,
}

impl Ring {
    pub fn new(records: RingBuf<MapData>) -> std::io::Result<Self> {
        Ok(Self {
            // SAFETY: the descriptor is the map's own and lives as long as it does.
            records: unsafe { AsyncFd::register_with_interest(records, Interest::READABLE) }?,
            not_before: Instant::now(),
            undecodable: 0,
        })
    }

    /// Returns when a batch is worth taking.
    pub async fn filled(&mut self) {
        sleep_until(self.not_before).await;
        if let Ok(Ok(mut guard)) = tokio::time::timeout(UNTOLD, self.records.readable()).await {
            // Cleared before the buffer is emptied: what comes meanwhile is told again.
            guard.clear_ready();
        }
    }

    /// Takes everything out, in the order in which it happened: records of several processors
    /// may lie a little out of order.
    pub fn drain(&mut self, names: &Names) -> Vec<Evidence> {
        let mut batch = Vec::new();
        let records = self.records.get_mut();
        while let Some(bytes) = records.next() {
            match Record::decode(&bytes) {
                Ok(record) => batch.extend(Evidence::from_record(&record, names)),
                Err(_) => self.undecodable += 1,
            }
        }
        batch.sort_by_key(|evidence: &Evidence| evidence.at);
        self.not_before = Instant::now() + GATHER;
        batch
    }

    /// Records that were none.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }
}
