//! Whom to ask, and for which names (`resolv.conf`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// As many as the C library asks (`MAXNS`).
const MOST_SERVERS: usize = 3;
/// The C library had this limit for long, and most that are in use stay below it.
const MOST_DOMAINS: usize = 6;
const DNS_PORT: u16 = 53;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    pub addresses: Vec<SocketAddr>,
    search: Vec<String>,
    dots: usize,
}

impl Servers {
    /// Reads the text of `resolv.conf`. Without a server, the C library asks this host.
    pub fn parse(text: &str) -> Self {
        let mut servers = Self {
            addresses: Vec::new(),
            search: Vec::new(),
            dots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.add(words.next()),
                // The last line of the two counts.
                Some("search" | "domain") => {
                    let domains = words.map(|domain| domain.trim_end_matches('.').to_owned());
                    servers.search = domains.take(MOST_DOMAINS).collect();
                }
                Some("options") => {
                    let mut dots =
                        words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    servers.dots = dots.next_back().unwrap_or(servers.dots);
                }
                _ => {}
            }
        }
        if servers.addresses.is_empty() {
            let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
            servers.addresses.push(SocketAddr::new(here, DNS_PORT));
        }
        servers
    }

    /// The names to ask for in turn, until one has an address.
    pub fn full_names(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().filter(|domain| !domain.is_empty());
        let mut names: Vec<String> = searched.map(|domain| format!("{host}.{domain}")).collect();
        let dots = host.bytes().filter(|byte| *byte == b'.').count();
        let place = if dots >= self.dots { 0 } else { names.len() };
        names.insert(place, host.to_owned());
        names
    }

    fn add(&mut self, address: Option<&str>) {
        let parsed = address.and_then(|address| address.parse::<IpAddr>().ok());
        if let Some(ip) = parsed.filter(|_| self.addresses.len() < MOST_SERVERS) {
            self.addresses.push(SocketAddr::new(ip, DNS_PORT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_domains_and_dots_are_read() {
        let servers = Servers::parse(
            "# x\nnameserver 10.0.0.53\nnameserver fd00::53\nnameserver x\nsearch a.test b.test.\noptions ndots:2 rotate\n",
        );
        let addresses: Vec<String> = servers
            .addresses
            .iter()
            .map(SocketAddr::to_string)
            .collect();
        assert_eq!(addresses, ["10.0.0.53:53", "[fd00::53]:53"]);
        assert_eq!(
            servers.full_names("app.x"),
            ["app.x.a.test", "app.x.b.test", "app.x"]
        );
        assert_eq!(servers.full_names("app.x.y")[0], "app.x.y");
        assert_eq!(servers.full_names("app."), ["app"]);
    }

    #[test]
    fn without_a_server_this_host_is_asked() {
        let servers = Servers::parse("");
        assert_eq!(servers.addresses[0].to_string(), "127.0.0.1:53");
        assert_eq!(servers.full_names("app"), ["app"]);
    }

    #[test]
    fn no_more_servers_are_asked_than_the_library_would() {
        let text = "nameserver 10.0.0.1\n".repeat(9);
        assert_eq!(Servers::parse(&text).addresses.len(), MOST_SERVERS);
    }
}
