//! One conversation with the kernel over netlink.
//!
//! A netlink socket belongs for good to the network namespace it was created in, whichever
//! thread uses it later (`netlink_create` takes the namespace of the caller).

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

/// Dumps come in datagrams of at most this size (`netlink_dump` caps its buffers at 32 KiB).
const DATAGRAM: usize = 32 * 1024;

/// How long the kernel may take for one datagram before the conversation is given up.
const PATIENCE: TimeVal = TimeVal::new(2, 0);

/// Why the kernel gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot {step} a netlink socket: {source}")]
    Socket {
        step: &'static str,
        source: io::Error,
    },
    /// The kernel answered with an error number.
    #[error("the kernel refused the netlink request: {}", io::Error::from_raw_os_error(*errno))]
    Refused { errno: i32 },
    #[error("the kernel's netlink answer makes no sense: {0}")]
    Malformed(&'static str),
}

/// What an `each` function wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    Yes,
    /// It has seen enough. The rest is read all the same, unseen: a socket carries only one dump
    /// at a time.
    No,
}

/// A netlink socket with the requests made on it numbered.
pub struct Conversation {
    socket: Socket,
    protocol: isize,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Conversation {
    /// Opens a socket of `protocol` in the calling thread's network namespace.
    pub fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let error = |step| move |source| NetlinkError::Socket { step, source };
        let mut socket = Socket::new(protocol).map_err(error("open"))?;
        socket.bind_auto().map_err(error("bind"))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(error("connect"))?;
        setsockopt(&socket.as_fd(), ReceiveTimeout, &PATIENCE)
            .map_err(|errno| error("limit the wait of")(errno.into()))?;
        Ok(Self {
            socket,
            protocol,
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// Hands every message of a dump to `each`, as it comes. A message that the parser cannot
    /// read is skipped: one exotic route must not hide the others. Returns whether the dump is
    /// consistent; false where the table changed underneath it (`NLM_F_DUMP_INTR`).
    pub fn dump<M>(
        &mut self,
        request: M,
        mut each: impl FnMut(M) -> More,
    ) -> Result<bool, NetlinkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>>,
    {
        self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut consistent = true;
        let mut more = More::Yes;
        loop {
            let read = self.receive()?;
            let mut left = &self.buffer[..read];
            while let Some((header, message, rest)) = split(left)? {
                left = rest;
                if header.sequence_number != self.sequence {
                    continue;
                }
                consistent &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.message_type {
                    NLMSG_DONE => return done(message).map(|()| consistent),
                    NLMSG_ERROR => return Err(refusal(message)),
                    _ => {}
                }
                if more == More::Yes {
                    more = parse::<M>(message).map_or(More::Yes, &mut each);
                }
            }
        }
    }

    /// The one answer to a request.
    pub fn ask<M>(&mut self, request: M) -> Result<M, NetlinkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>>,
    {
        self.send(request, NLM_F_REQUEST)?;
        loop {
            let read = self.receive()?;
            let mut left = &self.buffer[..read];
            while let Some((header, message, rest)) = split(left)? {
                left = rest;
                if header.sequence_number != self.sequence {
                    continue;
                }
                if header.message_type == NLMSG_ERROR {
                    return Err(refusal(message));
                }
                return parse::<M>(message).ok_or(NetlinkError::Malformed("unknown message"));
            }
        }
    }

    fn send<M>(&mut self, request: M, flags: u16) -> Result<(), NetlinkError>
    where
        M: NetlinkSerializable + Into<NetlinkPayload<M>>,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket
            .send(&bytes, 0)
            .map_err(|source| NetlinkError::Socket {
                step: "send on",
                source,
            })?;
        Ok(())
    }

    /// Fills the buffer with one datagram and returns its length.
    fn receive(&mut self) -> Result<usize, NetlinkError> {
        self.buffer.clear();
        self.buffer.reserve(DATAGRAM);
        loop {
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(NetlinkError::Malformed("a datagram above 32 KiB"));
                }
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(NetlinkError::Socket {
                        step: "receive from",
                        source,
                    });
                }
            }
        }
    }
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

type Split<'a> = (NetlinkHeader, &'a [u8], &'a [u8]);

/// The first message of a datagram, and what stands behind it.
fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, NetlinkError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let buffer = NetlinkBuffer::new_checked(&bytes)
        .map_err(|_| NetlinkError::Malformed("a message longer than its datagram"))?;
    let mut header = NetlinkHeader::default();
    header.length = buffer.length();
    header.message_type = buffer.message_type();
    header.flags = buffer.flags();
    header.sequence_number = buffer.sequence_number();
    let length = header.length as usize;
    let next = length.next_multiple_of(4).min(bytes.len());
    Ok(Some((header, &bytes[..length], &bytes[next..])))
}

fn parse<M: NetlinkDeserializable>(message: &[u8]) -> Option<M> {
    match NetlinkMessage::<M>::deserialize(message).ok()?.payload {
        NetlinkPayload::InnerMessage(content) => Some(content),
        _ => None,
    }
}

/// The error number that follows the header of an `NLMSG_ERROR` or `NLMSG_DONE` message.
fn errno_of(message: &[u8]) -> i32 {
    const HEADER: usize = 16;
    message
        .get(HEADER..HEADER + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, i32::from_ne_bytes)
        .saturating_abs()
}

fn refusal(message: &[u8]) -> NetlinkError {
    NetlinkError::Refused {
        errno: errno_of(message),
    }
}

/// A dump may fail at its end: the error then stands in `NLMSG_DONE` (`netlink_dump`).
fn done(message: &[u8]) -> Result<(), NetlinkError> {
    match errno_of(message) {
        0 => Ok(()),
        errno => Err(NetlinkError::Refused { errno }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_datagram_is_split_to_its_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut left = bytes.as_slice();
            while let Ok(Some((_, _, rest))) = split(left) {
                prop_assert!(rest.len() < left.len());
                left = rest;
            }
        }
    }

    #[test]
    fn an_error_message_carries_its_positive_number() {
        let mut message = vec![0; 16];
        message.extend((-113i32).to_ne_bytes());
        assert!(matches!(
            refusal(&message),
            NetlinkError::Refused { errno: 113 }
        ));
    }
}
