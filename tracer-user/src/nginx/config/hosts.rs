//! Names whose address needs no DNS.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nginx::config::source::Source;

/// The entries of `/etc/hosts`.
#[derive(Debug, Default)]
pub struct Hosts {
    addresses: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// Reads the file; without one, nothing is known but `localhost`.
    pub fn read(source: &dyn Source) -> Self {
        let text = source.read(b"/etc/hosts").unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// The addresses of a name in lower case; none where only DNS knows.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let mut addresses = self.addresses.get(name).cloned().unwrap_or_default();
        if name == "localhost" {
            // The C library answers with both families, whatever the file says.
            let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            addresses.extend(both);
        }
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Reads the text of such a file.
    pub fn parse(text: &str) -> Self {
        let mut hosts = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for name in words {
                let name = name.to_ascii_lowercase();
                hosts.addresses.entry(name).or_default().push(address);
            }
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_line_has_its_address() {
        let hosts =
            Hosts::parse("# x\n10.0.0.5 App app.internal # db\n::1 app\nbad x\nfe80::1%lo y\n");
        let both: Vec<IpAddr> = vec![
            "10.0.0.5".parse().expect("an address"),
            "::1".parse().expect("an address"),
        ];
        assert_eq!(hosts.addresses("app"), both);
        assert_eq!(hosts.addresses("app.internal"), both[..1]);
        assert!(hosts.addresses("db").is_empty());
        assert!(hosts.addresses("x").is_empty());
    }

    #[test]
    fn localhost_is_known_without_a_file() {
        assert_eq!(Hosts::default().addresses("localhost").len(), 2);
        let hosts = Hosts::parse("127.0.0.1 localhost\n");
        assert_eq!(hosts.addresses("localhost").len(), 2);
    }
}
