//! Asking the DNS servers of `resolv.conf`, within a second.
//!
//! The question is seen on the wire, as nginx's own at its start was; nothing else is.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{self, Reply};
use super::servers::Servers;
use crate::case::{NameSource, Resolution, Resolved};
use crate::clock;

/// How long one name may take, all servers and domains together.
pub const LONGEST: Duration = Duration::from_millis(900);
/// How long one server may take for one name.
const ONE_SERVER: Duration = Duration::from_millis(300);
/// No answer over UDP without extensions is longer than 512 bytes.
const LONGEST_ANSWER: usize = 4096;

/// A name for which the DNS servers are to be asked.
#[derive(Debug, Clone)]
pub struct DnsQuestion {
    pub host: String,
    /// The family that counts: of the other, an answer that does not come is not missed.
    pub v6: bool,
    pub(super) servers: Servers,
    pub(super) passed_over: Vec<String>,
}

impl DnsQuestion {
    /// Asks twice, from the network namespace of the calling thread: where one answer differs from
    /// the next, what is in neither may be in a third.
    pub fn ask(&self) -> Resolution {
        let until = Instant::now() + LONGEST;
        let twice = self
            .addresses(until)
            .and_then(|(_, first)| Ok((first, self.addresses(until)?)));
        match twice {
            Ok((first, (server, second))) => Resolution::Resolved(Resolved {
                addresses: first.union(&second).copied().collect(),
                source: NameSource::Dns {
                    server,
                    steady: first == second,
                },
                at: clock::monotonic(),
                passed_over: self.passed_over.clone(),
            }),
            Err(why) => Resolution::Unresolved(why),
        }
    }

    fn addresses(&self, until: Instant) -> Result<(SocketAddr, BTreeSet<IpAddr>), String> {
        let mut last = "there is no such name in DNS".to_owned();
        for name in self.servers.full_names(&self.host) {
            match self.by_any_server(&name, until) {
                Ok((_, found)) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    fn by_any_server(
        &self,
        name: &str,
        until: Instant,
    ) -> Result<(SocketAddr, BTreeSet<IpAddr>), String> {
        let mut last = "no DNS server answered in time".to_owned();
        for server in &self.servers.addresses {
            let end = until.min(Instant::now() + ONE_SERVER);
            let replies = exchange(*server, name, end)
                .map_err(|error| format!("the DNS server {server} could not be asked: {error}"));
            match replies.and_then(|replies| self.together(*server, replies)) {
                Ok(found) => return Ok((*server, found)),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// Both families, where nothing that counts is missing.
    fn together(
        &self,
        server: SocketAddr,
        [four, six]: [Option<Reply>; 2],
    ) -> Result<BTreeSet<IpAddr>, String> {
        let (counts, other) = if self.v6 { (six, four) } else { (four, six) };
        let found = |reply: Option<Reply>| match reply {
            Some(Reply::Addresses(addresses)) => Ok(addresses),
            Some(Reply::Failed(why)) => Err(format!("the DNS server {server}: {why}")),
            None => Err(format!("the DNS server {server} did not answer in time")),
        };
        let mut addresses = found(counts)?;
        match found(other) {
            Ok(others) => addresses.extend(others),
            Err(why) if addresses.is_empty() => return Err(why),
            Err(_) => {}
        }
        Ok(addresses.into_iter().collect())
    }
}

/// Asks one server for both families at once.
fn exchange(server: SocketAddr, name: &str, until: Instant) -> io::Result<[Option<Reply>; 2]> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(server)?;
    let ids = ids();
    for (id, v6) in ids.into_iter().zip([false, true]) {
        let question = message::question(id, name, v6)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no name of DNS"))?;
        socket.send(&question)?;
    }
    let mut replies = [None, None];
    let mut bytes = [0; LONGEST_ANSWER];
    while replies.iter().any(Option::is_none) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut bytes) {
            Ok(length) => length,
            Err(error) if is_timeout(&error) => break,
            Err(error) => return Err(error),
        };
        for (place, (id, v6)) in ids.into_iter().zip([false, true]).enumerate() {
            if let Some(reply) = message::reply(&bytes[..length], id, name, v6) {
                replies[place] = Some(reply);
            }
        }
    }
    Ok(replies)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Two numbers that an outsider cannot guess.
fn ids() -> [u16; 2] {
    let number = RandomState::new().hash_one(());
    [number as u16, (number >> 16) as u16]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(v6: bool) -> DnsQuestion {
        DnsQuestion {
            host: "app".to_owned(),
            v6,
            servers: Servers::parse(""),
            passed_over: Vec::new(),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_family_that_counts_must_be_answered_and_the_other_only_where_that_has_nothing() {
        let server = SocketAddr::new(address("10.0.0.53"), 53);
        let four = || Some(Reply::Addresses(vec![address("10.0.0.6")]));
        let nothing = || Some(Reply::Addresses(Vec::new()));
        let failed = || Some(Reply::Failed("it answers ServerFailure".to_owned()));
        let together = |v6, replies| question(v6).together(server, replies).map(|all| all.len());
        assert_eq!(together(false, [four(), None]), Ok(1));
        assert_eq!(together(false, [four(), failed()]), Ok(1));
        assert_eq!(together(true, [four(), nothing()]), Ok(1));
        assert!(together(true, [four(), None]).is_err());
        assert!(together(false, [failed(), nothing()]).is_err());
        assert!(together(false, [nothing(), None]).is_err());
        assert_eq!(together(false, [nothing(), nothing()]), Ok(0));
    }
}
