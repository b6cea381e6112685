//! Addresses as nginx's directives write them (`ngx_parse_url`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::nginx::config::upstreams::Address;

/// A host with the port that is written with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub host: Host,
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Ip(IpAddr),
    /// In lower case.
    Name(String),
    Unix(Vec<u8>),
}

impl Target {
    /// Reads an address. With `uri`, a URI may follow it, which for a path begins at a colon.
    pub fn parse(text: &[u8], uri: bool) -> Option<Self> {
        if text.len() >= 5 && text[..5].eq_ignore_ascii_case(b"unix:") {
            return Self::unix(&text[5..], uri);
        }
        let end = text
            .iter()
            .position(|byte| uri && matches!(byte, b'/' | b'?'))
            .unwrap_or(text.len());
        let text = std::str::from_utf8(&text[..end]).ok()?;
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, rest) = bracketed.split_once(']')?;
            let host = Host::Ip(address.parse::<Ipv6Addr>().ok()?.into());
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if rest.is_empty() => None,
                None => return None,
            };
            return Some(Self { host, port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        let host = match dotted_quad(host) {
            Some(address) => Host::Ip(address.into()),
            None if host.is_empty() => return None,
            None => Host::Name(host.to_ascii_lowercase()),
        };
        Some(Self { host, port })
    }

    /// What is dialled: the written port, or the one that the directive has for a default.
    pub fn address(&self, default_port: Option<u16>) -> Option<Address> {
        if let Host::Unix(path) = &self.host {
            return Some(Address::Unix(path.clone()));
        }
        let port = self.port.or(default_port)?;
        Some(match &self.host {
            Host::Ip(ip) => Address::Inet(SocketAddr::new(*ip, port)),
            Host::Name(host) => Address::Name {
                host: host.clone(),
                port,
            },
            Host::Unix(path) => Address::Unix(path.clone()),
        })
    }

    fn unix(path: &[u8], uri: bool) -> Option<Self> {
        let end = path.iter().position(|byte| uri && *byte == b':');
        let path = &path[..end.unwrap_or(path.len())];
        (!path.is_empty()).then(|| Self {
            host: Host::Unix(path.to_vec()),
            port: None,
        })
    }
}

/// The ports of a `listen` directive's first argument; the first and the last of a range.
pub fn listen_ports(text: &[u8], default_port: Option<u16>) -> Option<(u16, u16)> {
    let text = std::str::from_utf8(text).ok()?;
    if text.starts_with("unix:") {
        return None;
    }
    // A colon inside of brackets belongs to the address.
    let behind_address = match text.rsplit_once(']') {
        Some((_, rest)) => rest.strip_prefix(':'),
        None => Some(text.rsplit_once(':').map_or(text, |(_, port)| port)),
    };
    let range = behind_address.and_then(|port| match port.split_once('-') {
        Some((first, last)) => Some((parse_port(first)?, parse_port(last)?)),
        None => parse_port(port).map(|port| (port, port)),
    });
    range.or_else(|| default_port.map(|port| (port, port)))
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// `ngx_inet_addr`: four numbers, leading zeroes allowed.
fn dotted_quad(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() {
            0
        } else {
            digits.parse().ok()?
        };
    }
    parts.next().is_none().then_some(Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str, uri: bool, default_port: Option<u16>) -> Option<String> {
        let target = Target::parse(text.as_bytes(), uri)?;
        Some(target.address(default_port)?.to_string())
    }

    #[test]
    fn addresses_and_names_are_read_with_and_without_a_port() {
        for (text, expected) in [
            ("127.0.0.1:9101", Some("127.0.0.1:9101")),
            ("127.0.0.1", Some("127.0.0.1:80")),
            ("127.000.0.01:81", Some("127.0.0.1:81")),
            ("[::1]:9101", Some("[::1]:9101")),
            ("[::1]", Some("[::1]:80")),
            ("App.Internal:8080", Some("app.internal:8080")),
            ("app", Some("app:80")),
            ("app/path:81?x", Some("app:80")),
            ("app?x", Some("app:80")),
            ("unix:/run/a.sock", Some("unix:/run/a.sock")),
            ("unix:/run/a.sock:/uri", Some("unix:/run/a.sock")),
            ("app:0", None),
            ("app:65536", None),
            ("app:+1", None),
            (":80", None),
            ("[::1", None),
            ("[::1]x", None),
            ("unix:", None),
            ("", None),
        ] {
            assert_eq!(address(text, true, Some(80)).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn without_a_default_the_port_must_be_written() {
        assert_eq!(address("127.0.0.1", false, None), None);
        assert_eq!(
            address("unix:/a:b", false, None).as_deref(),
            Some("unix:/a:b")
        );
    }

    #[test]
    fn listen_takes_a_port_an_address_or_a_range() {
        for (text, expected) in [
            ("8080", Some((8080, 8080))),
            ("127.0.0.1:81", Some((81, 81))),
            ("*:82", Some((82, 82))),
            ("[::]:83", Some((83, 83))),
            ("[::1]", Some((80, 80))),
            ("localhost", Some((80, 80))),
            ("localhost:84", Some((84, 84))),
            ("8000-8010", Some((8000, 8010))),
            ("[::]:1-3", Some((1, 3))),
            ("unix:/run/a.sock", None),
        ] {
            assert_eq!(listen_ports(text.as_bytes(), Some(80)), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40), uri: bool) {
            let _ = Target::parse(&bytes, uri);
            let _ = listen_ports(&bytes, None);
        }

        #[test]
        fn every_socket_address_is_read_back(ip: IpAddr, port in 1_u16..) {
            let address = SocketAddr::new(ip, port);
            let target = Target::parse(address.to_string().as_bytes(), false).expect("an address");
            prop_assert_eq!(target.address(None), Some(Address::Inet(address)));
        }
    }
}
