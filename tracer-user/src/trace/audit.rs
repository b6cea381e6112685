//! Denials of security modules, from the kernel's audit log.

use std::io::ErrorKind;

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
    /// Why the log cannot be read.
    pub refused: Option<String>,
}

impl Audit {
    /// Begins to read. Where the log cannot be read, verdicts do without it.
    pub fn start() -> Self {
        let (sender, receiver) = channel(QUEUE);
        let opened = AuditLog::open().and_then(|log| {
            // SAFETY: the descriptor is the log's own and lives as long as it does.
            unsafe { AsyncFd::register_with_interest(log, Interest::READABLE) }
                .map_err(std::io::Error::from)
        });
        let (reading, refused) = match opened {
            Ok(log) => (Some(tokio::spawn(forward(log, sender))), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            receiver,
            reading,
            refused,
        }
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

async fn forward(mut log: AsyncFd<AuditLog>, sender: Sender<Evidence>) {
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
            // The socket's buffer was full: a denial may be missing, and the next is read.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
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
