//! Connections as `/proc/net/nf_conntrack` lists them (`ct_seq_show`): it is there with connection
//! tracking itself, and reading it loads nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::host::netns::{Namespace, within};

/// The list of the network namespace that the reading thread is in.
const LIST: &str = "/proc/thread-self/net/nf_conntrack";
/// The kernel finds its place anew for each page of the list (`ct_get_idx`): long lists take long.
const BUDGET: Duration = Duration::from_millis(30);
const LIMIT: u64 = 16 << 20;

/// Where the answers to the connection from `from` to `to` come from. Null where it is not
/// listed, or not within a budget.
pub fn replied_from(namespace: &Namespace, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    within(namespace, || search(File::open(LIST).ok()?, from, to)).ok()?
}

fn search(list: impl Read, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    let began = Instant::now();
    let mut list = BufReader::new(list.take(LIMIT));
    let mut line = Vec::new();
    while began.elapsed() < BUDGET && list.read_until(b'\n', &mut line).ok()? > 0 {
        if let Some(Entry { original, replied }) = entry(&line)
            && original == (from, to)
        {
            return Some(replied);
        }
        line.clear();
    }
    None
}

struct Entry {
    original: (SocketAddr, SocketAddr),
    replied: SocketAddr,
}

/// A connection of TCP in the zone that netlink is asked about, which is the default one.
fn entry(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    if fields.nth(2) != Some("tcp") {
        return None;
    }
    let zoned = |field: &str| field.starts_with("zone-orig=");
    if fields
        .clone()
        .any(|field| zoned(field) || field.starts_with("zone=") && field != "zone=0")
    {
        return None;
    }
    let mut value =
        |name: &str| fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let mut tuple = || {
        let addresses: (IpAddr, IpAddr) =
            (value("src")?.parse().ok()?, value("dst")?.parse().ok()?);
        let ports: (u16, u16) = (value("sport")?.parse().ok()?, value("dport")?.parse().ok()?);
        let from = SocketAddr::new(addresses.0, ports.0);
        Some((from, SocketAddr::new(addresses.1, ports.1)))
    };
    Some(Entry {
        original: tuple()?,
        replied: tuple()?.0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = "\
ipv4     2 udp      17 3 src=10.0.0.1 dst=203.0.113.7 sport=40000 dport=80 [UNREPLIED] src=172.17.0.8 dst=10.0.0.1 sport=80 dport=40000 mark=0 zone=0 use=2
ipv4     2 tcp      6 118 SYN_SENT src=10.0.0.1 dst=203.0.113.7 sport=40000 dport=80 [UNREPLIED] src=172.17.0.7 dst=10.0.0.1 sport=80 dport=40000 mark=0 zone=3 use=2
ipv4     2 tcp      6 118 SYN_SENT src=10.0.0.1 dst=203.0.113.7 sport=40000 dport=80 packets=1 bytes=60 [UNREPLIED] src=172.17.0.9 dst=10.0.0.1 sport=8080 dport=40000 packets=0 bytes=0 mark=0 zone=0 use=2
ipv6     10 tcp      6 431999 ESTABLISHED src=fd00:0000:0000:0000:0000:0000:0000:0001 dst=fd00:0000:0000:0000:0000:0000:0000:0002 sport=40000 dport=80 src=fd00:0000:0000:0000:0000:0000:0000:0003 dst=fd00:0000:0000:0000:0000:0000:0000:0001 sport=80 dport=40000 [ASSURED] use=1
";

    fn found(from: &str, to: &str) -> Option<SocketAddr> {
        let address = |text: &str| text.parse().expect("an address");
        search(LIST.as_bytes(), address(from), address(to))
    }

    #[test]
    fn the_answers_of_a_listed_connection_come_from_where_it_was_translated_to() {
        let four = found("10.0.0.1:40000", "203.0.113.7:80");
        assert_eq!(four, "172.17.0.9:8080".parse().ok());
        let six = found("[fd00::1]:40000", "[fd00::2]:80");
        assert_eq!(six, "[fd00::3]:80".parse().ok());
        assert_eq!(found("10.0.0.1:40001", "203.0.113.7:80"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(list in any::<Vec<u8>>(), line in "ipv4 2 tcp 6 (src=[0-9.]{0,9} |dst=10.0.0.1 |sport=[0-9]{0,6} |zone=0 ){0,9}") {
            let any = SocketAddr::from(([10, 0, 0, 1], 80));
            let _ = search(&list[..], any, any);
            let _ = search(line.as_bytes(), any, any);
        }
    }
}
