//! Which names of the configuration an address can have come from.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Address, Server, Upstreams, agreed};

/// With more names on one port than this, nothing is said of any: each would have to be resolved.
const MOST_NAMES: usize = 32;

/// The names that may have led to an address which no directive has as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesOfAddress {
    /// Resolved once, as nginx read its configuration (`ngx_inet_resolve_host`).
    pub at_start: Vec<NamedServer>,
    /// Resolved again and again.
    pub at_work: Vec<String>,
    /// Variables or scripts may lead there as well.
    pub open_ended: bool,
}

/// A name and the directives in which it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedServer {
    pub host: String,
    /// The upstream block, where all directives agree on one.
    pub upstream: Option<String>,
    /// `file:line` of each directive.
    pub places: Vec<String>,
    /// The hosts file gave it the address as the configuration was read here.
    pub had_it: bool,
}

impl Upstreams {
    /// The names that may have led to `dialled`. None where a directive has that address itself,
    /// and where no name that is resolved at the start has the port.
    pub fn names_of(&self, dialled: SocketAddr) -> Option<NamesOfAddress> {
        let dialled = SocketAddr::new(dialled.ip(), dialled.port());
        if self
            .dialled()
            .any(|(_, server)| server.address == Address::Inet(dialled))
        {
            return None;
        }
        let mut at_start: BTreeMap<&str, Vec<(usize, &Server)>> = BTreeMap::new();
        let mut at_work = Vec::new();
        for (index, server) in self.dialled() {
            match &server.address {
                Address::Name { host, port } if *port == dialled.port() => {
                    if server.resolve {
                        at_work.push(host.clone());
                    } else {
                        at_start.entry(host).or_default().push((index, server));
                    }
                }
                _ => {}
            }
        }
        // What a variable leads to is looked for among the names of other directives first
        // (`ngx_http_upstream_init_request`).
        at_work.retain(|host| !at_start.contains_key(host.as_str()));
        at_work.sort();
        at_work.dedup();
        let few = (1..=MOST_NAMES).contains(&at_start.len());
        few.then(|| NamesOfAddress {
            at_start: at_start
                .into_iter()
                .map(|(host, servers)| self.named(host, &servers, dialled))
                .collect(),
            at_work,
            open_ended: self.open_ended,
        })
    }

    /// The servers that nginx dials, with their indices.
    fn dialled(&self) -> impl Iterator<Item = (usize, &Server)> {
        let used = |server: &Server| self.open_ended || !server.uses.is_empty();
        let servers = self.servers.iter().enumerate();
        servers.filter(move |(_, server)| !server.down && used(server))
    }

    fn named(&self, host: &str, servers: &[(usize, &Server)], dialled: SocketAddr) -> NamedServer {
        let known = self.by_address.get(&dialled);
        let mut places: Vec<String> = servers
            .iter()
            .map(|(_, server)| server.place.to_string())
            .collect();
        places.dedup();
        NamedServer {
            host: host.to_owned(),
            upstream: agreed(servers.iter().map(|(_, server)| server.upstream.clone())).flatten(),
            places,
            had_it: servers
                .iter()
                .any(|(index, _)| known.is_some_and(|known| known.contains(index))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_with_hosts;
    use super::*;

    fn names(text: &str, hosts: &str, dialled: &str) -> Option<NamesOfAddress> {
        let upstreams = read_with_hosts(text.as_bytes(), hosts);
        upstreams.names_of(dialled.parse().expect("an address"))
    }

    fn start_names(found: &NamesOfAddress) -> Vec<&str> {
        let servers = found.at_start.iter();
        servers.map(|server| server.host.as_str()).collect()
    }

    const BLOCK: &str =
        "http { upstream u {\n server app.internal:8080;\n server 10.0.0.9:8080;\n }
        server { location / { proxy_pass http://u; } } }";

    #[test]
    fn a_name_with_the_port_is_found_with_its_place() {
        let found = names(BLOCK, "", "10.0.0.5:8080").expect("a name");
        assert_eq!(
            found.at_start,
            [NamedServer {
                host: "app.internal".to_owned(),
                upstream: Some("u".to_owned()),
                places: vec!["/etc/nginx/nginx.conf:2".to_owned()],
                had_it: false,
            }]
        );
        assert!(!found.open_ended && found.at_work.is_empty());
    }

    #[test]
    fn an_address_that_stands_there_itself_came_from_no_name() {
        assert_eq!(names(BLOCK, "", "10.0.0.9:8080"), None);
        assert_eq!(names(BLOCK, "", "10.0.0.5:8081"), None);
    }

    #[test]
    fn a_server_that_is_down_or_of_no_use_neither_counts_nor_disturbs() {
        let text = "http { upstream u { server app:80; server 10.0.0.5:80 down; server b:80 down; }
            upstream old { server 10.0.0.5:80; server c:80; }
            server { location / { proxy_pass http://u; } } }";
        let found = names(text, "", "10.0.0.5:80").expect("a name");
        assert_eq!(start_names(&found), ["app"]);
    }

    #[test]
    fn what_the_hosts_file_said_when_the_configuration_was_read_is_kept() {
        let said = |hosts| {
            names(BLOCK, hosts, "10.0.0.5:8080")
                .expect("a name")
                .at_start[0]
                .had_it
        };
        assert!(said("10.0.0.5 app.internal\n"));
        assert!(!said("10.0.0.6 app.internal\n"));
        assert!(!said(""));
    }

    #[test]
    fn names_that_nginx_follows_are_apart() {
        let resolved = "http { upstream u { server app:81 resolve; server old:81; }
            server { location / { proxy_pass http://u; } } }";
        let found = names(resolved, "", "10.0.0.5:81").expect("a name");
        assert_eq!(
            (start_names(&found), found.at_work.as_slice()),
            (vec!["old"], &["app".to_owned()][..])
        );
        let variable = "http { server { set $b http://app:81; location / { proxy_pass $b; } } }";
        assert_eq!(names(variable, "", "10.0.0.5:81"), None);
        let uri = "http { server { location / { proxy_pass http://app:81/$1; } } }";
        assert_eq!(names(uri, "", "10.0.0.5:81"), None);
    }

    #[test]
    fn a_variable_that_leads_to_a_name_of_another_directive_takes_its_addresses() {
        let text = "http { server { set $b http://app:81; location /a { proxy_pass $b; }
            location /b { proxy_pass http://app:81; } } }";
        let found = names(text, "", "10.0.0.5:81").expect("a name");
        assert_eq!((start_names(&found), found.at_work.len()), (vec!["app"], 0));
    }

    #[test]
    fn where_scripts_lead_anywhere_it_is_said() {
        let text = "http { server { location /a { proxy_pass http://$http_x; }
            location /b { proxy_pass http://app:81; } } }";
        assert!(names(text, "", "10.0.0.5:81").expect("a name").open_ended);
    }

    #[test]
    fn of_too_many_names_none_is_said() {
        let servers: String = (0..=MOST_NAMES)
            .map(|n| format!("server n{n}:81;"))
            .collect();
        let text = format!(
            "http {{ upstream u {{ {servers} }} server {{ location / {{ proxy_pass http://u; }} }} }}"
        );
        assert_eq!(names(&text, "", "10.0.0.5:81"), None);
    }
}
