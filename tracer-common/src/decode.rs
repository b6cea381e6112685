//! Reads records out of bytes, whatever these bytes are.

use zerocopy::FromBytes;

use crate::record::{
    AttemptEnded, BindFailed, ClientClosed, ConnectFailed, Connected, Executed, Forked, Header,
    IcmpSent, LOG_LINE, ListenCalled, Listening, LogLineHead, NeighbourDropped, OomVictim,
    PacketDropped, PeerEnded, ProcessExited, RULE_BYTES, ResetSent, Retransmitted, RuleBytesHead,
    RuleMet, SignalSent, SocketClosed, SocketFailed, UpstreamClosed, kind,
};

/// A record as it lay in the ring buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    ConnectFailed(ConnectFailed),
    AttemptEnded(AttemptEnded),
    Connected(Connected),
    ResetSent(ResetSent),
    PacketDropped(PacketDropped),
    IcmpSent(IcmpSent),
    Retransmitted(Retransmitted),
    ListenStarted(Listening),
    ListenEnded(Listening),
    ProcessExited(ProcessExited),
    SignalSent(SignalSent),
    OomVictim(OomVictim),
    Forked(Forked),
    Executed(Executed),
    SocketFailed(SocketFailed),
    BindFailed(BindFailed),
    ClientClosed(ClientClosed),
    SocketClosed(SocketClosed),
    NeighbourDropped(NeighbourDropped),
    ListenCalled(ListenCalled),
    UpstreamClosed(UpstreamClosed),
    PeerEnded(PeerEnded),
    RuleMet(RuleMet),
    RuleBytes(RuleBytesHead, &'a [u8]),
    LogLine(LogLineHead, &'a [u8]),
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the record of that kind has.
    Short { kind: u16, length: usize },
    /// No record is of this kind.
    UnknownKind(u16),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Short { kind, length } => {
                write!(formatter, "a record of kind {kind} of only {length} bytes")
            }
            Self::UnknownKind(kind) => write!(formatter, "a record of unknown kind {kind}"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl<'a> Record<'a> {
    /// Reads one record. Bytes behind it are ignored: the ring buffer rounds lengths up.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, _) = Header::read_from_prefix(bytes).map_err(|_| DecodeError::Short {
            kind: 0,
            length: bytes.len(),
        })?;
        match header.kind {
            kind::CONNECT_FAILED => read(header.kind, bytes).map(Record::ConnectFailed),
            kind::ATTEMPT_ENDED => read(header.kind, bytes).map(Record::AttemptEnded),
            kind::CONNECTED => read(header.kind, bytes).map(Record::Connected),
            kind::RESET_SENT => read(header.kind, bytes).map(Record::ResetSent),
            kind::PACKET_DROPPED => read(header.kind, bytes).map(Record::PacketDropped),
            kind::ICMP_SENT => read(header.kind, bytes).map(Record::IcmpSent),
            kind::RETRANSMITTED => read(header.kind, bytes).map(Record::Retransmitted),
            kind::LISTEN_STARTED => read(header.kind, bytes).map(Record::ListenStarted),
            kind::LISTEN_ENDED => read(header.kind, bytes).map(Record::ListenEnded),
            kind::PROCESS_EXITED => read(header.kind, bytes).map(Record::ProcessExited),
            kind::SIGNAL_SENT => read(header.kind, bytes).map(Record::SignalSent),
            kind::OOM_VICTIM => read(header.kind, bytes).map(Record::OomVictim),
            kind::FORKED => read(header.kind, bytes).map(Record::Forked),
            kind::EXECUTED => read(header.kind, bytes).map(Record::Executed),
            kind::SOCKET_FAILED => read(header.kind, bytes).map(Record::SocketFailed),
            kind::BIND_FAILED => read(header.kind, bytes).map(Record::BindFailed),
            kind::CLIENT_CLOSED => read(header.kind, bytes).map(Record::ClientClosed),
            kind::SOCKET_CLOSED => read(header.kind, bytes).map(Record::SocketClosed),
            kind::NEIGHBOUR_DROPPED => read(header.kind, bytes).map(Record::NeighbourDropped),
            kind::LISTEN_CALLED => read(header.kind, bytes).map(Record::ListenCalled),
            kind::UPSTREAM_CLOSED => read(header.kind, bytes).map(Record::UpstreamClosed),
            kind::PEER_ENDED => read(header.kind, bytes).map(Record::PeerEnded),
            kind::RULE_MET => read(header.kind, bytes).map(Record::RuleMet),
            kind::RULE_BYTES => rule_bytes(bytes),
            kind::LOG_LINE => log_line(bytes),
            unknown => Err(DecodeError::UnknownKind(unknown)),
        }
    }

    /// When the kernel wrote the record.
    pub fn header(&self) -> &Header {
        match self {
            Record::ConnectFailed(record) => &record.header,
            Record::AttemptEnded(record) => &record.header,
            Record::Connected(record) => &record.header,
            Record::ResetSent(record) => &record.header,
            Record::PacketDropped(record) => &record.header,
            Record::IcmpSent(record) => &record.header,
            Record::Retransmitted(record) => &record.header,
            Record::ListenStarted(record) | Record::ListenEnded(record) => &record.header,
            Record::ProcessExited(record) => &record.header,
            Record::SignalSent(record) => &record.header,
            Record::OomVictim(record) => &record.header,
            Record::Forked(record) => &record.header,
            Record::Executed(record) => &record.header,
            Record::SocketFailed(record) => &record.header,
            Record::BindFailed(record) => &record.header,
            Record::ClientClosed(record) => &record.header,
            Record::SocketClosed(record) => &record.header,
            Record::NeighbourDropped(record) => &record.header,
            Record::ListenCalled(record) => &record.header,
            Record::UpstreamClosed(record) => &record.header,
            Record::PeerEnded(record) => &record.header,
            Record::RuleMet(record) => &record.header,
            Record::RuleBytes(head, _) => &head.header,
            Record::LogLine(head, _) => &head.header,
        }
    }
}

fn read<T: FromBytes>(kind: u16, bytes: &[u8]) -> Result<T, DecodeError> {
    T::read_from_prefix(bytes)
        .map(|(record, _)| record)
        .map_err(|_| DecodeError::Short {
            kind,
            length: bytes.len(),
        })
}

fn log_line(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let short = || DecodeError::Short {
        kind: kind::LOG_LINE,
        length: bytes.len(),
    };
    let (head, text) = LogLineHead::read_from_prefix(bytes).map_err(|_| short())?;
    let length = (head.length as usize).min(LOG_LINE);
    let text = text.get(..length).ok_or_else(short)?;
    Ok(Record::LogLine(head, text))
}

fn rule_bytes(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let short = || DecodeError::Short {
        kind: kind::RULE_BYTES,
        length: bytes.len(),
    };
    let (head, memory) = RuleBytesHead::read_from_prefix(bytes).map_err(|_| short())?;
    let memory = memory.get(..RULE_BYTES).ok_or_else(short)?;
    Ok(Record::RuleBytes(head, memory))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use std::vec::Vec;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::record::{Address, Task};

    fn header(kind: u16) -> Header {
        Header {
            kind,
            reserved: 0,
            cpu: 1,
            at: 42,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = BindFailed {
            header: header(kind::BIND_FAILED),
            task: Task {
                tgid: 7,
                tid: 8,
                comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
            },
            address: Address::v4([10, 0, 0, 1], 0),
            errno: 99,
            reserved: 0,
        };
        assert_eq!(
            Record::decode(record.as_bytes()),
            Ok(Record::BindFailed(record))
        );
    }

    #[test]
    fn a_log_line_is_no_longer_than_its_record() {
        let head = LogLineHead {
            header: header(kind::LOG_LINE),
            task: Task {
                tgid: 7,
                tid: 7,
                comm: [0; 16],
            },
            length: 5,
            descriptor: 3,
        };
        let mut bytes: Vec<u8> = head.as_bytes().into();
        assert!(Record::decode(&bytes).is_err());
        bytes.extend_from_slice(b"hello, and padding");
        assert_eq!(
            Record::decode(&bytes),
            Ok(Record::LogLine(head, b"hello".as_slice()))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = Record::decode(&bytes);
        }

        #[test]
        fn any_bytes_of_a_known_kind_are_decoded_or_refused(
            kind in 0..kind::COUNT,
            mut bytes in proptest::collection::vec(any::<u8>(), 2..2400),
        ) {
            bytes[..2].copy_from_slice(&kind.to_ne_bytes());
            match Record::decode(&bytes) {
                Ok(record) => prop_assert_eq!(record.header().kind, kind),
                Err(DecodeError::Short { length, .. }) => prop_assert_eq!(length, bytes.len()),
                Err(DecodeError::UnknownKind(unknown)) => prop_assert_eq!(unknown, 0),
            }
        }
    }
}
