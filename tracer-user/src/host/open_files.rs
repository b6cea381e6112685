//! Sockets that are bound and do not listen, found among the open files of all processes, for
//! kernels whose `sock_diag` does not list them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

use aya::programs::{Iter, ProgramError, links::LinkError};
use tracer_common::record;
use zerocopy::FromBytes;

use crate::case::{BoundSocket, KernelTime, Netns};
use crate::clock;
use crate::evidence::socket_address;
use crate::host::owners;

/// Sockets that are looked at; who has more of them bound has other troubles.
const MOST: usize = 16_384;
/// As much as the kernel keeps between two reads (`bpf_seq_read`).
const BUFFER: usize = 8 * 4096;
const RECORD: usize = size_of::<record::BoundSocket>();

/// The open files of the host, as a program in the kernel sees them.
pub struct OpenFiles {
    program: Iter,
    last: Option<Reading>,
}

/// Sockets that were found, and whether all files were looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub sockets: Vec<BoundSocket>,
    pub complete: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenFilesError {
    #[error("cannot attach the program that looks at open files: {0}")]
    Attach(#[from] ProgramError),
    #[error("cannot open the program that looks at open files: {0}")]
    Open(#[from] LinkError),
    #[error("cannot read what a program says of open files: {0}")]
    Read(#[from] io::Error),
}

/// All that one look gave.
#[derive(Debug, Default)]
struct Reading {
    begun: KernelTime,
    records: Vec<record::BoundSocket>,
    complete: bool,
}

impl OpenFiles {
    /// `program` writes a [`record::BoundSocket`] for each socket.
    pub fn new(program: Iter) -> Self {
        Self {
            program,
            last: None,
        }
    }

    /// TCP sockets bound to `port` in `netns` that neither listen nor are connected, with those
    /// who hold them. What was read after `since` serves again. A look goes
    /// through every open file of the host and ends once `budget` is used up.
    pub fn bound(
        &mut self,
        netns: Netns,
        port: u16,
        since: KernelTime,
        budget: Duration,
    ) -> Result<Found, OpenFilesError> {
        let reading = match self.last.take().filter(|reading| reading.begun > since) {
            Some(reading) => reading,
            None => self.read(budget)?,
        };
        let found = Found {
            sockets: sockets(&reading.records, netns, port),
            complete: reading.complete,
        };
        self.last = Some(reading);
        Ok(found)
    }

    fn read(&mut self, budget: Duration) -> Result<Reading, OpenFilesError> {
        let begun = clock::monotonic();
        let link = self.program.attach()?;
        let file = self.program.take_link(link)?.into_file()?;
        let (records, complete) = records(file, Instant::now() + budget)?;
        Ok(Reading {
            begun,
            records,
            complete,
        })
    }
}

impl fmt::Debug for OpenFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OpenFiles")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// The records, and whether they are all. The kernel gives whole ones at a time, and `EAGAIN`
/// once it has looked at a million files in vain (`MAX_ITER_OBJECTS`).
fn records(
    mut source: impl Read,
    deadline: Instant,
) -> io::Result<(Vec<record::BoundSocket>, bool)> {
    let mut found = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok((found, true)),
            Ok(length) => {
                let filled = buffer.get(..length).unwrap_or_default();
                let records = filled.chunks_exact(RECORD);
                found.extend(
                    records.filter_map(|bytes| record::BoundSocket::read_from_bytes(bytes).ok()),
                );
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if found.len() >= MOST || Instant::now() >= deadline {
            return Ok((found, false));
        }
    }
}

/// One socket may be held by many processes, and through many threads of each.
fn sockets(records: &[record::BoundSocket], netns: Netns, port: u16) -> Vec<BoundSocket> {
    let mut holders: BTreeMap<u64, (std::net::SocketAddr, Vec<u32>)> = BTreeMap::new();
    for record in records {
        if Netns::from(record.netns) != netns || record.address.port != port {
            continue;
        }
        let Some(address) = socket_address(&record.address) else {
            continue;
        };
        let (_, pids) = holders
            .entry(record.inode)
            .or_insert_with(|| (address, Vec::new()));
        if !pids.contains(&record.tgid) {
            pids.push(record.tgid);
        }
    }
    let described = |(address, mut pids): (_, Vec<u32>)| {
        owners::by_likelihood(&mut pids);
        BoundSocket {
            address,
            netns,
            owners: pids.into_iter().filter_map(owners::describe).collect(),
        }
    };
    holders.into_values().map(described).collect()
}

#[cfg(test)]
mod tests {
    use record::Address;
    use zerocopy::IntoBytes;

    use super::*;

    const NETNS: u32 = 4_026_531_840;

    fn held(inode: u64, port: u16, netns: u32) -> record::BoundSocket {
        record::BoundSocket {
            inode,
            address: Address::v4([127, 0, 0, 1], port),
            tgid: std::process::id(),
            netns,
        }
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_socket_is_told_once_however_often_it_is_held() {
        let records = [
            held(7, 9101, NETNS),
            held(7, 9101, NETNS),
            held(8, 9102, NETNS),
            held(9, 9101, NETNS + 1),
        ];
        let found = sockets(&records, NETNS.into(), 9101);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].address, "127.0.0.1:9101".parse().unwrap());
        assert_eq!(found[0].owners.len(), 1);
        assert_eq!(found[0].owners[0].pid, std::process::id());
    }

    #[test]
    fn all_records_are_read_unless_the_time_is_up() {
        let bytes = [held(7, 9101, NETNS), held(8, 9102, NETNS)];
        let (found, complete) = records(bytes.as_bytes(), later()).unwrap();
        assert_eq!((found.as_slice(), complete), (bytes.as_slice(), true));
        let (found, complete) = records(bytes.as_bytes(), Instant::now()).unwrap();
        assert_eq!((found.len(), complete), (2, false));
    }

    #[test]
    fn no_more_than_the_bound_is_read() {
        let endless = io::repeat(1);
        let (found, complete) = records(endless, later()).unwrap();
        assert!(!complete);
        assert!(found.len() < MOST + BUFFER / RECORD);
    }
}
