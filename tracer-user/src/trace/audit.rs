//! Denials of security modules, from the kernel's audit log.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinHandle,
};

use crate::{
    clock,
    evidence::{Evidence, What},
    host::audit::{AuditLog, Audited},
};

/// Denials that wait at one moment; the socket's own buffer bounds what is behind them.
const QUEUE: usize = 256;

/// The task that reads the log.
pub struct Audit {
    receiver: Receiver<Evidence>,
    reading: Option<JoinHandle<()>>,
    lost: Arc<AtomicU64>,
    /// Why the log cannot be read.
    pub refused: Option<String>,
}

impl Audit {
    /// Begins to read. Where the log cannot be read, verdicts do without it.
    pub fn start() -> Self {
        let (sender, receiver) = channel(QUEUE);
        let lost = Arc::default();
        let opened = AuditLog::open().and_then(|log| {
            // SAFETY: the descriptor is the log's own and lives as long as it does.
            unsafe { AsyncFd::register_with_interest(log, Interest::READABLE) }
                .map_err(std::io::Error::from)
        });
        let (reading, refused) = match opened {
            Ok(log) => (
                Some(tokio::spawn(forward(log, sender, Arc::clone(&lost)))),
                None,
            ),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            receiver,
            reading,
            lost,
            refused,
        }
    }

    /// How often records found no room in the socket. The kernel says so once until what lies
    /// there has been read (`netlink_overrun`), however many they were.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The next denial.
    pub async fn received(&mut self) -> Evidence {
        match self.receiver.recv().await {
            Some(evidence) => evidence,
            None => std::future::pending().await,
        }
    }

    /// One that was received and not taken yet.
    pub fn waiting(&mut self) -> Option<Evidence> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

async fn forward(mut log: AsyncFd<AuditLog>, sender: Sender<Evidence>, lost: Arc<AtomicU64>) {
    loop {
        let Ok(mut guard) = log.readable_mut().await else {
            return;
        };
        match guard.get_inner_mut().receive() {
            Ok(Some(audited)) => {
                if sender.send(evidence(audited)).await.is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                log::warn!("the audit log is not read any more: {error}");
                return;
            }
        }
    }
}

fn evidence(audited: Audited) -> Evidence {
    Evidence {
        at: clock::monotonic(),
        what: What::Audited {
            pid: audited.pid,
            denial: audited.denial,
        },
    }
}
