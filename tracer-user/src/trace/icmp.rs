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
    case::{Icmp, Netns},
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
    listening: HashMap<Netns, Vec<JoinHandle<()>>>,
    sender: Sender<Evidence>,
    receiver: Receiver<Evidence>,
    /// What all sockets lost together.
    lost: Arc<AtomicU64>,
    /// Namespaces in which no socket could be opened, with the reason.
    pub refused: Vec<(Netns, String)>,
}

impl Default for IcmpSockets {
    fn default() -> Self {
        let (sender, receiver) = channel(QUEUE);
        Self {
            listening: HashMap::new(),
            sender,
            receiver,
            lost: Arc::default(),
            refused: Vec::new(),
        }
    }
}

impl IcmpSockets {
    /// Listens in these namespaces and in no others: a socket keeps its namespace alive.
    pub fn listen_in(&mut self, wanted: &[Namespace]) {
        self.listening.retain(|netns, tasks| {
            let keep = wanted.iter().any(|namespace| namespace.inode == *netns);
            if !keep {
                tasks.iter().for_each(JoinHandle::abort);
            }
            keep
        });
        for namespace in wanted {
            let netns = namespace.inode;
            if self.listening.contains_key(&netns) {
                continue;
            }
            match IcmpSocket::open(namespace) {
                Ok(Ok(sockets)) => self.listen(netns, sockets),
                Ok(Err(error)) => self.refused.push((netns, error.to_string())),
                Err(error) => self.refused.push((netns, error.to_string())),
            }
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

    fn listen(&mut self, netns: Netns, sockets: Vec<IcmpSocket>) {
        let tasks = sockets
            .into_iter()
            .filter_map(registered)
            .map(|socket| {
                tokio::spawn(forward(
                    netns,
                    socket,
                    self.sender.clone(),
                    Arc::clone(&self.lost),
                ))
            })
            .collect();
        self.listening.insert(netns, tasks);
    }
}

fn registered(socket: IcmpSocket) -> Option<AsyncFd<IcmpSocket>> {
    // SAFETY: the descriptor is the socket's own and lives as long as it does.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.ok()
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
