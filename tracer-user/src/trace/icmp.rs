//! ICMP errors that arrive in the namespaces of nginx.

use std::{
    collections::HashMap,
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
    case::{Icmp, KernelTime, Netns},
    clock,
    evidence::{Evidence, What},
    host::{
        icmp::{IcmpSocket, Received},
        netns::Namespace,
    },
};

/// Errors that wait at one moment; the sockets' own buffers bound what is behind them.
const QUEUE: usize = 1024;

/// One listening task for each namespace and family.
pub struct IcmpSockets {
    listening: HashMap<Netns, Listening>,
    sender: Sender<Evidence>,
    receiver: Receiver<Evidence>,
    /// What all sockets lost together.
    lost: Arc<AtomicU64>,
    /// Namespaces in which no socket could be opened, with the reason.
    pub refused: HashMap<Netns, String>,
}

struct Listening {
    since: KernelTime,
    tasks: Vec<JoinHandle<()>>,
}

impl Default for IcmpSockets {
    fn default() -> Self {
        let (sender, receiver) = channel(QUEUE);
        Self {
            listening: HashMap::new(),
            sender,
            receiver,
            lost: Arc::default(),
            refused: HashMap::new(),
        }
    }
}

impl IcmpSockets {
    /// Listens in these namespaces and in no others: a socket keeps its namespace alive.
    pub fn listen_in(&mut self, wanted: &[Namespace]) {
        let is_wanted = |netns: Netns| wanted.iter().any(|namespace| namespace.inode == netns);
        self.listening.retain(|netns, listening| {
            let keep = is_wanted(*netns);
            if !keep {
                listening.tasks.iter().for_each(JoinHandle::abort);
            }
            keep
        });
        self.refused.retain(|netns, _| is_wanted(*netns));
        for namespace in wanted {
            let netns = namespace.inode;
            if self.listening.contains_key(&netns) {
                continue;
            }
            let opened = IcmpSocket::open(namespace)
                .map_err(std::io::Error::other)
                .and_then(|opened| opened);
            match opened.and_then(|sockets| self.listen(netns, sockets)) {
                Ok(()) => drop(self.refused.remove(&netns)),
                Err(error) => {
                    self.refused.insert(netns, error.to_string());
                }
            }
        }
    }

    /// Whether an error that arrived in that namespace at `began` or later was heard. Where the
    /// namespace is not known it may be any of those that were asked for.
    pub fn heard_since(&self, netns: Option<Netns>, began: KernelTime) -> bool {
        match netns {
            Some(netns) => self.listening.get(&netns).is_some_and(|it| {
                it.since <= began && !it.tasks.iter().any(JoinHandle::is_finished)
            }),
            None => self.refused.is_empty(),
        }
    }

    /// How many errors found no room in their socket.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The next error.
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

    fn listen(&mut self, netns: Netns, sockets: Vec<IcmpSocket>) -> std::io::Result<()> {
        let sockets: Vec<AsyncFd<IcmpSocket>> = sockets
            .into_iter()
            .map(registered)
            .collect::<std::io::Result<_>>()?;
        let since = clock::monotonic();
        let tasks = sockets.into_iter().map(|socket| {
            let (sender, lost) = (self.sender.clone(), Arc::clone(&self.lost));
            tokio::spawn(forward(netns, socket, sender, lost))
        });
        let tasks = tasks.collect();
        self.listening.insert(netns, Listening { since, tasks });
        Ok(())
    }
}

fn registered(socket: IcmpSocket) -> std::io::Result<AsyncFd<IcmpSocket>> {
    // SAFETY: the descriptor is the socket's own and lives as long as it does.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
        .map_err(std::io::Error::from)
}

async fn forward(
    netns: Netns,
    mut socket: AsyncFd<IcmpSocket>,
    sender: Sender<Evidence>,
    lost: Arc<AtomicU64>,
) {
    let mut counted = 0;
    loop {
        let Ok(mut guard) = socket.readable_mut().await else {
            return;
        };
        let received = guard.get_inner_mut().receive();
        let total = u64::from(guard.get_inner().lost());
        lost.fetch_add(total.saturating_sub(counted), Ordering::Relaxed);
        counted = counted.max(total);
        match received {
            Ok(Some(received)) => {
                if sender.send(evidence(netns, &received)).await.is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
            Err(error) => {
                log::warn!(
                    "ICMP errors in network namespace {netns} are not seen any more: {error}"
                );
                return;
            }
        }
    }
}

fn evidence(netns: Netns, received: &Received) -> Evidence {
    let error = &received.error;
    let at = received.wall_ns.map_or_else(clock::monotonic, |wall| {
        u64::try_from(wall - clock::wall_offset()).unwrap_or(0)
    });
    Evidence {
        at,
        what: What::IcmpReceived {
            netns,
            from: error.from,
            icmp: Icmp {
                kind: error.kind,
                code: error.code,
                v6: error.from.is_ipv6(),
            },
            segment_from: error.inner_from,
            segment_to: error.inner_to,
            sequence: error.sequence,
        },
    }
}
