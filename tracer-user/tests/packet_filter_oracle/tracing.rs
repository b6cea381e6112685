//! The kernel's own account (`NFNLGRP_NFTRACE`, `nft_trace_notify`).

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

const GROUP: u32 = 9;
const HEADERS: usize = 20;

/// A rule, or the policy of a chain, that a packet met.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub table: String,
    pub chain: String,
    /// Null for a policy and for the end of a chain.
    pub rule: Option<u64>,
    pub policy: bool,
    pub dropped: bool,
    pub accepted: bool,
    pub mark: u32,
    /// Of the packet.
    pub tcp: Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tcp {
    pub from: u16,
    pub to: SocketAddr,
    pub sequence: u32,
    pub flags: u8,
}

pub struct Trace {
    socket: Socket,
    packets: HashMap<u32, Option<Tcp>>,
    steps: VecDeque<Step>,
}

impl Trace {
    /// Follows the packets of the calling thread's namespace.
    pub fn open() -> Self {
        let mut socket = Socket::new(NETLINK_NETFILTER).expect("a socket");
        socket.bind_auto().expect("bound");
        socket.add_membership(GROUP).expect("a member");
        socket.set_rx_buf_sz(16_u32 << 20).expect("a large buffer");
        Self {
            socket,
            packets: HashMap::new(),
            steps: VecDeque::new(),
        }
    }

    /// The next step of a packet that `wanted` takes; null after a second without one.
    pub fn next(&mut self, wanted: impl Fn(&Tcp) -> bool) -> Option<Step> {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            while let Some(step) = self.steps.pop_front() {
                if wanted(&step.tcp) {
                    return Some(step);
                }
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            self.receive(left);
        }
    }

    fn receive(&mut self, patience: Duration) {
        let fd = self.socket.as_raw_fd();
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid structure, as told.
        unsafe { libc::poll(&mut poll, 1, patience.as_millis() as i32) };
        let mut buffer = Vec::with_capacity(1 << 16);
        match self.socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
            Ok(_) => self.messages(&buffer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("the trace was lost: {error}"),
        }
    }

    fn messages(&mut self, mut bytes: &[u8]) {
        while bytes.len() >= HEADERS {
            let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
            let next = length.next_multiple_of(4).min(bytes.len());
            self.message(&bytes[HEADERS..length]);
            bytes = &bytes[next..];
        }
    }

    fn message(&mut self, body: &[u8]) {
        let attributes: HashMap<u16, &[u8]> = attributes(body).collect();
        let word = |kind: u16| attributes.get(&kind).map(|bytes| be32(bytes));
        let text = |kind: u16| {
            let bytes = attributes.get(&kind).copied().unwrap_or_default();
            String::from_utf8_lossy(bytes)
                .trim_end_matches('\0')
                .to_owned()
        };
        let id = word(6).unwrap();
        if attributes.contains_key(&8) {
            let ip = attributes.get(&8).copied().unwrap_or_default();
            let tcp = attributes.get(&9).and_then(|header| tcp(ip, header));
            self.packets.insert(id, tcp);
        }
        let Some(tcp) = self.packets.get(&id).copied().flatten() else {
            return;
        };
        let verdict = attributes.get(&5).copied().unwrap_or_default();
        let verdict = self::attributes(verdict).find(|(kind, _)| *kind == 1);
        let verdict = verdict.map(|(_, code)| be32(code));
        let policy = word(4) == Some(1);
        self.steps.push_back(Step {
            table: text(1),
            chain: text(2),
            rule: attributes
                .get(&3)
                .filter(|_| !policy)
                .map(|bytes| u64::from_be_bytes((*bytes).try_into().unwrap())),
            policy,
            dropped: if policy {
                word(16) == Some(0)
            } else {
                verdict == Some(0)
            },
            accepted: !policy && verdict == Some(1),
            mark: word(14).unwrap_or(0),
            tcp,
        });
    }
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

fn tcp(ip: &[u8], header: &[u8]) -> Option<Tcp> {
    let address: IpAddr = if ip.first()? >> 4 == 4 {
        <[u8; 4]>::try_from(ip.get(16..20)?).ok()?.into()
    } else {
        <[u8; 16]>::try_from(ip.get(24..40)?).ok()?.into()
    };
    let port = u16::from_be_bytes(header.get(2..4)?.try_into().ok()?);
    Some(Tcp {
        from: u16::from_be_bytes(header.get(..2)?.try_into().ok()?),
        to: (address, port).into(),
        sequence: be32(header.get(4..8)?),
        flags: *header.get(13)?,
    })
}
