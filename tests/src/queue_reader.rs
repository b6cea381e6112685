//! A program that reads an NFQUEUE and drops whatever it gets.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::namespace::Namespace;

// include/uapi/linux/netfilter/nfnetlink_queue.h
const SUBSYSTEM: u16 = 3;
const PACKET: u16 = SUBSYSTEM << 8;
const VERDICT: u16 = SUBSYSTEM << 8 | 1;
const CONFIG: u16 = SUBSYSTEM << 8 | 2;
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const CONFIG_COMMAND: u16 = 1;
const CONFIG_PARAMETERS: u16 = 2;
const BIND: u8 = 1;
const COPY_META: u8 = 1;
const NF_DROP: u32 = 0;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 20;

/// Reads until it is dropped.
#[derive(Debug)]
pub struct QueueReader {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl QueueReader {
    /// Binds the queue of `namespace`, of IPv4 and IPv6 alike.
    ///
    /// # Errors
    ///
    /// Somebody else reads it already.
    pub fn start(namespace: &Namespace, number: u16) -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let thread = namespace.inside(move || {
            let socket = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkNetFilter,
            )?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))?;
            let ask = |attribute: u16, payload: &[u8]| -> Result<()> {
                let sent = message(CONFIG, number, attribute, payload);
                send(socket.as_raw_fd(), &sent, MsgFlags::empty())?;
                let mut answer = [0; 64];
                recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
                ensure!(answer[16..20] == [0; 4], "the queue is refused: {answer:?}");
                Ok(())
            };
            ask(CONFIG_COMMAND, &[BIND, 0, 0, 0]).context("cannot bind the queue")?;
            ask(CONFIG_PARAMETERS, &[0, 0, 0, 64, COPY_META])?;
            Ok(thread::spawn(move || {
                let mut buffer = [0; 4096];
                while !stop.load(Ordering::Relaxed) {
                    let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())
                    else {
                        continue;
                    };
                    if let Some(id) = packet(&buffer[..length]) {
                        let mut verdict = NF_DROP.to_be_bytes().to_vec();
                        verdict.extend(id);
                        let drop = message(VERDICT, number, VERDICT_HEADER, &verdict);
                        let _ = send(socket.as_raw_fd(), &drop, MsgFlags::empty());
                    }
                }
            }))
        })?;
        Ok(Self {
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for QueueReader {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One attribute about a queue; configuration is acknowledged.
fn message(kind: u16, queue: u16, attribute: u16, payload: &[u8]) -> Vec<u8> {
    const REQUEST: u16 = 1;
    const ACKNOWLEDGE: u16 = 4;
    let flags = if kind == CONFIG {
        REQUEST | ACKNOWLEDGE
    } else {
        REQUEST
    };
    let size = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([0, 0]);
    bytes.extend(queue.to_be_bytes());
    bytes.extend(size.to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// The identifier of a queued packet, which comes first.
fn packet(message: &[u8]) -> Option<[u8; 4]> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let attribute = message.get(HEADERS + 2..HEADERS + 4)?;
    let attribute = u16::from_ne_bytes(attribute.try_into().ok()?);
    let id = message.get(HEADERS + 4..HEADERS + 8)?.try_into().ok()?;
    (kind == PACKET && attribute == PACKET_HEADER).then_some(id)
}
